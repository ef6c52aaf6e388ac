"""Pictures to begin with: a few of those that the classifier was tested on, found again where its record says they lie."""

import base64
import io
import unicodedata
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from torchnin.classifier import Classifier
from torchnin.data import DataError, DatasetSplits, ImageDataset, load_dataset
from torchnin.data.paths import each_picture_below
from torchnin.data.pictures import decode_picture
from torchnin.files import is_folder
from torchnin.saved import known_as, record_of_data

MOST = 12
_SIDE = 256  # of what is handed out, in pixels; the network looks at no more than this in any shipped configuration
_TEST_FOLDERS = ("test", "testing", "val", "validation", "valid")


def samples_json(classifier: Classifier, *, own: bool = True) -> dict[str, Any]:
    """`{"samples": [{"label", "picture"}]}`: at most `MOST` pictures, each a PNG as a `data:` address, classes spread evenly.

    They come from the data that the classifier's record names: of a public dataset its test pictures, of a folder its test
    folder where it has one. Where they are not to be had the list is empty.

    Args:
        classifier: the classifier whose classes the pictures should show.
        own: whether pictures of a folder may be handed out too; False where others than its owner can ask.
    """
    record = record_of_data(classifier.metadata)
    names = classifier.class_names
    wanted = [names[index] for index in np.unique(np.linspace(0, len(names) - 1, min(MOST, len(names))).round().astype(int))]
    try:
        if known_as(record):
            found = _of_dataset(_load(record), wanted, classifier.preprocessing.channels)
        elif own and is_folder(Path(str(record.get("source")))):
            found = _of_folder(Path(record["source"]), wanted, classifier.preprocessing.channels)
        else:
            found = iter(())
        return {"samples": [{"label": label, "picture": _data_address(pixels)} for label, pixels in found]}
    except (DataError, OSError, ValueError):
        # The data have moved, changed or gone; the page then says how to bring a picture of one's own.
        return {"samples": []}


def _load(record: Mapping[str, Any]) -> DatasetSplits:
    if record["name"].startswith("fashion-mnist"):
        return load_dataset("fashion-mnist-sample")  # test pictures of the same set, and at once
    source = str(record.get("source"))
    return load_dataset(record["name"], data_dir=source if is_folder(Path(source)) else None, download=False)


def _of_dataset(splits: DatasetSplits, wanted: list[str], channels: int) -> Iterator[tuple[str, np.ndarray]]:
    test: ImageDataset = splits.test
    for name in wanted:
        if name in test.class_names and (members := np.flatnonzero(test.labels == test.class_names.index(name))).size:
            yield name, decode_picture(test.images[members[0]], channels)


def _of_folder(root: Path, wanted: list[str], channels: int) -> Iterator[tuple[str, np.ndarray]]:
    """Of each class the first picture that decodes; folders bear the names under which a training finds them."""
    splits = {folder.name.lower(): folder for folder in _folders(root)}
    parts = [splits[name] for name in _TEST_FOLDERS if name in splits] + [root]
    classes = [{unicodedata.normalize("NFC", folder.name): folder for folder in _folders(part)} for part in parts]
    for name in wanted:
        for picture in chain.from_iterable(each_picture_below(part[name]) for part in classes if name in part):
            try:
                pixels = decode_picture(picture, channels)
            except DataError:  # left out of the training, too (--skip-broken)
                continue
            yield name, pixels
            break


def _folders(folder: Path) -> list[Path]:
    return [entry for entry in folder.iterdir() if is_folder(entry)]


def _data_address(pixels: np.ndarray) -> str:
    picture = Image.fromarray(np.moveaxis(pixels, 0, -1) if len(pixels) == 3 else pixels[0])
    picture.thumbnail((_SIDE, _SIDE))
    kept = io.BytesIO()
    picture.save(kept, "PNG")
    return "data:image/png;base64," + base64.b64encode(kept.getvalue()).decode("ascii")
