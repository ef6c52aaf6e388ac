"""load_dataset: from a name, a folder, a file or arrays to splits that a training can use."""

import difflib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from torchnin.data.catalog import CATALOG, FASHION_MNIST, INSIDE_PACKAGE, SAMPLE, DataFile, Location, NamedDataset, known_file, locate
from torchnin.data.dataset import DatasetSplits, ImageDataset
from torchnin.data.errors import DataError, broken_file
from torchnin.data.integrity import read_bounded, sha256_hex
from torchnin.data.readers.idx import parse_idx

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how much of it is done, and the total (None where that is not known)."""


def load_dataset(
    data: str | os.PathLike[str] | DatasetSplits | tuple,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    seed: int = 0,
    skip_broken: bool = False,
    download: bool = True,
    test_fraction: float = 0.2,
    progress: Progress | None = None,
) -> DatasetSplits:
    """Load pictures, labels and class names as splits."""
    if isinstance(data, DatasetSplits):
        return data
    folder = None if data_dir is None else Path(data_dir)
    if isinstance(data, str) and data in CATALOG:
        return _fit(_load_named(CATALOG[data], folder, download=download, progress=progress), image_size, channels)
    nearest = difflib.get_close_matches(str(data), CATALOG)
    raise ValueError(f"data: expected a dataset's name ({', '.join(CATALOG)}) or a folder, found {data!r}. Nearest: {', '.join(nearest)}.")


def _load_named(dataset: NamedDataset, data_dir: Path | None, *, download: bool, progress: Progress | None) -> DatasetSplits:
    location, notes = locate(dataset, data_dir)
    if location is None:
        if dataset is not FASHION_MNIST:
            raise DataError(f"{dataset.name}: not found. {dataset.how_to_get}")
        location, _ = locate(SAMPLE)
        assert location is not None
        notes += (f"fashion-mnist was not found. {dataset.how_to_get}",)
    return _read(location, notes)


def _read(location: Location, notes: tuple[str, ...]) -> DatasetSplits:
    dataset, layout = location.dataset, location.layout
    with ThreadPoolExecutor(4) as pool:
        contents = list(pool.map(lambda file: _read_file(dataset, file, location.paths[file.name]), layout.files))
    parsed = [
        parse_idx(data, dimensions, location.paths[file.name])
        for file, (data, _), dimensions in zip(layout.files, contents, (3, 1, 3, 1), strict=True)
    ]
    train, test = (
        ImageDataset(images[:, None], labels.astype(np.int64), dataset.class_names)
        for images, labels in ((parsed[0], parsed[1]), (parsed[2], parsed[3]))
    )
    return DatasetSplits(
        name=dataset.name,
        train=train,
        test=test,
        source=INSIDE_PACKAGE if dataset is SAMPLE else str(location.folder),
        notes=notes,
        files={file.name: sha256 for file, (_, sha256) in zip(layout.files, contents, strict=True)},
    )


def _read_file(dataset: NamedDataset, file: DataFile, path: Path) -> tuple[bytes, str]:
    data = read_bounded(path, file.max_bytes)
    sha256 = sha256_hex(data)
    if file.digest is not None and (file.digest.algorithm != "sha256" or file.digest.value != sha256):
        try:
            file.digest.check(data, path, next_step=f"Remove it, and fetch it again from {dataset.home}.")
        except DataError as error:
            known = known_file(sha256)
            raise (
                error
                if known is None
                else broken_file(path, expected=f"{file.name} of {dataset.name}", found=known, next_step="Give another --data-dir.")
            ) from error
    return data, sha256


def _fit(splits: DatasetSplits, image_size: int | tuple[int, int] | None, channels: int | None) -> DatasetSplits:
    return splits
