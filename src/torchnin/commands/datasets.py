"""`nin datasets`: the named datasets and where each was found."""

from pathlib import Path

import torchnin
from torchnin.commands.networks import Given, Json
from torchnin.commands.output import note, result, table
from torchnin.commands.progress import data_bar
from torchnin.data import CATALOG
from torchnin.files import exists


def datasets(*, data_dir: Given[Path] = None, download: Given[str] = None, as_json: Json = False) -> int:
    """List the named datasets and where each was found, or get one.

    Args:
        data_dir: Where to look first.
        download: Get this dataset, unless it is here already.
        as_json: Print one JSON document on standard output.
    """
    if download is not None:
        if download not in CATALOG and exists(Path(download)):
            raise ValueError(f"--download is {download!r}, which is here; accepted: a dataset's name, {', '.join(CATALOG)}")
        with data_bar() as progress:
            splits = torchnin.load_dataset(download, data_dir=data_dir, progress=progress)
        for sentence in splits.notes:
            note(sentence)
        got = splits.name == download
        result({"name": splits.name, "source": splits.source, "found": got}, f"{splits.name}: {splits.source}", as_json)
        return 0 if got else 1
    statuses = torchnin.find_datasets(data_dir)
    rows = [
        {
            "name": status.name,
            "found": status.found,
            "train_pictures": status.num_train,
            "test_pictures": status.num_test,
            "num_classes": status.num_classes,
            "licence": status.licence,
        }
        for status in statuses
    ]
    text = table(
        ("dataset", "train", "test", "classes", "licence", "found"),
        [
            (
                str(row["name"]),
                f"{row['train_pictures']:,}",
                f"{row['test_pictures']:,}",
                str(row["num_classes"]),
                str(row["licence"]),
                str(row["found"] or "not here; downloaded when asked for"),
            )
            for row in rows
        ],
        right=frozenset({1, 2, 3}),
    )
    result(rows, text, as_json)
    return 0
