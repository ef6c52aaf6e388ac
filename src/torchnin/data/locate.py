"""Where the named datasets are looked for, and where each was found."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torchnin.data.catalog import CATALOG, SAMPLE, Layout, NamedDataset
from torchnin.data.errors import DataError
from torchnin.files import cache_folder, expanded, is_file, is_folder

SYSTEM_FOLDER = Path("/usr/share/datasets")
"""Where Debian and Ubuntu put data packages such as dataset-fashion-mnist."""
SAMPLE_FOLDER = Path(__file__).parent / "sample"
"""The sample of Fashion-MNIST inside the package."""
INSIDE_PACKAGE = "inside the package"


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a dataset's files were found."""

    dataset: NamedDataset
    layout: Layout
    folder: Path
    paths: Mapping[str, Path]
    """The path of each DataFile by its name."""


@dataclass(frozen=True, kw_only=True)
class DatasetStatus:
    """A line of `nin datasets`."""

    name: str
    title: str
    found: str | None
    """The folder it would be read from, "inside the package", or None where it would be downloaded."""
    licence: str
    home: str
    num_train: int
    num_test: int
    num_classes: int
    picture_shape: tuple[int, int, int]
    """(C, H, W)"""


def locate(dataset: NamedDataset, data_dir: Path | None = None) -> tuple[Location | None, tuple[str, ...]]:
    """Look for a dataset's files: below `data_dir`, in the cache, in the system folder.

    Returns the first complete set (None where there is none) and a sentence for each incomplete set in `data_dir` that was passed over.
    """
    if dataset.name == SAMPLE.name:
        return _look_into(dataset, SAMPLE_FOLDER)[0], ()
    notes: list[str] = []
    if data_dir is not None:
        found, notes = _look_into(dataset, data_dir)
        if found:
            return found, ()
    for root in (cache_folder() / "data" / dataset.name, SYSTEM_FOLDER / dataset.name):
        found, _ = _look_into(dataset, root)
        if found:
            return found, tuple(notes)
    return None, tuple(notes)


def find_loose(folder: Path) -> Location | None:
    """Files of MNIST's or CIFAR's format in a folder or in raw/ below it, whatever pictures they hold; None where there are none.

    Raises DataError where files of MNIST's format are there, but not all of them: no other file has such a name.
    """
    incomplete = None
    for place in (folder, folder / "raw"):
        for dataset in CATALOG.values():
            for layout in dataset.layouts:
                paths = _find_files(layout, place)
                if len(paths) == len(layout.files):
                    return Location(dataset=dataset, layout=layout, folder=place, paths=paths)
                if paths and layout.kind == "idx":
                    missing = [file.name for file in layout.files if file.name not in paths]
                    incomplete = incomplete or DataError(
                        f"{place}: expected the {len(layout.files)} files of MNIST's format, found {len(paths)}. Add {', '.join(missing)}."
                    )
    if incomplete is not None:
        raise incomplete
    return None


def existing_folder(data_dir: str | os.PathLike[str]) -> Path:
    """A folder to look into first. Raises FileNotFoundError where there is none."""
    folder = expanded(Path(data_dir))
    if not is_folder(folder):
        raise FileNotFoundError(f"data_dir: expected a folder, found nothing at {folder}. Create it, or leave data_dir out.")
    return folder


def find_datasets(data_dir: str | os.PathLike[str] | None = None) -> list[DatasetStatus]:
    """Each named dataset with where it was found, judged by its files' names alone: nothing is read, checked or downloaded.

    Raises FileNotFoundError where there is no folder `data_dir`.
    """
    folder = None if data_dir is None else existing_folder(data_dir)
    statuses = []
    for dataset in CATALOG.values():
        location, _ = locate(dataset, folder)
        found = None if location is None else INSIDE_PACKAGE if dataset.name == SAMPLE.name else str(location.folder)
        statuses.append(
            DatasetStatus(
                name=dataset.name,
                title=dataset.title,
                found=found,
                licence=dataset.licence,
                home=dataset.home,
                num_train=dataset.num_train,
                num_test=dataset.num_test,
                num_classes=len(dataset.class_names),
                picture_shape=dataset.picture_shape,
            )
        )
    return statuses


def _look_into(dataset: NamedDataset, root: Path) -> tuple[Location | None, list[str]]:
    notes = []
    for layout in dataset.layouts:
        for folder in dict.fromkeys(root / name for name in (dataset.name, *layout.folders)):
            paths = _find_files(layout, folder)
            if len(paths) == len(layout.files):
                return Location(dataset=dataset, layout=layout, folder=folder, paths=paths), []
            # One batch alone may belong to anything; say something only where the folder's own name shows that this dataset was meant.
            if paths and folder != root:
                missing = next(file.name for file in layout.files if file.name not in paths)
                found_of = f"{len(paths)} of the {len(layout.files)} files of {dataset.name}"
                notes.append(f"{folder} was passed over: it has {found_of}, {missing} is missing.")
    return None, notes


def _find_files(layout: Layout, folder: Path) -> dict[str, Path]:
    return {file.name: path for file in layout.files if (path := _find_file(folder, file.name)) is not None}


def _find_file(folder: Path, name: str) -> Path | None:
    # The original site wrote train-images.idx3-ubyte inside its archives, and some unpackers keep that name.
    dotted = name.replace("-idx", ".idx")
    return next((path for path in (folder / name, folder / dotted, folder / f"{name}.gz", folder / f"{dotted}.gz") if is_file(path)), None)
