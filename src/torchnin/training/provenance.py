"""What a run records of where it came from: its data, found again by that record, versions, and the commit of the code."""

import dataclasses
import os
import platform
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchnin.data import DataError, DatasetSplits, ImageDataset, derived_seed, load_dataset
from torchnin.data.locate import existing_folder
from torchnin.data.progress import Progress
from torchnin.files import exists, is_folder
from torchnin.saved import ELSEWHERE, known_as
from torchnin.version import __version__


def describe_data(splits: DatasetSplits, num_learned: int, num_held_out: int) -> dict[str, Any]:
    """The data of a training as plain values, from which `load_recorded` finds them again.

    Args:
        splits: as the training was given them.
        num_learned: how many of the train pictures it learns from.
        num_held_out: how many pictures it chooses by.
    """
    return {
        "name": splits.name,
        "published": splits.published,
        "source": _place(splits.source),
        "shape": list(splits.train.images.shape[1:]),
        "train_pictures": num_learned,
        "validation_pictures": num_held_out,
        "test_pictures": len(splits.test),
        "class_names": list(splits.class_names),
        "checksums": _checksums(splits),
        "files": dict(splits.files),
        "split_seed": splits.split_seed,
        "test_fraction": splits.test_fraction,
        "notes": list(splits.notes),
        "skipped": [list(each) for each in splits.skipped],
    }


def _place(source: str) -> str:
    """Where the data lie, as an absolute path, so that the run can be resumed from any folder; arrays have none, even beside `./arrays`."""
    return str(Path(source).absolute()) if source != "arrays" and exists(Path(source)) else source


def load_recorded(
    data: Mapping[str, Any],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    validation: float = 0.0,
    seed: int = 0,
    progress: Progress | None = None,
) -> DatasetSplits:
    """The data that a training used, found again from what `describe_data` recorded of them.

    Args:
        data: the entry `data` of a run's `config.json` or of a classifier's metadata.
        data_dir: where to look first: for a folder or file that has moved, there and for its name in there; None looks where they
            were found.
        validation: the share that the training held out of the train pictures; above 0 these are the `validation` pictures then, and
            `train` those that it learned from.
        seed: the training's.
        progress: as for `load_dataset`.

    Raises:
        ValueError: they were arrays, are not to be had here, or are not the same any more; otherwise as `load_dataset`.
        DataError: the record is incomplete, as that of another version may be.
    """
    if missing := sorted({"name", "source", "shape", "split_seed", "skipped", "checksums"} - data.keys()):
        raise DataError(f"the record of the training's data lacks {', '.join(missing)}; name the data")
    if data["source"] == "arrays":
        raise ValueError("the training was given arrays, which are not kept; name the data")
    folder, refused = None if data_dir is None else existing_folder(data_dir), None
    for found, where in _places(data, folder):
        try:
            splits = _loaded(data, found, where, progress)
            break
        except (ValueError, FileNotFoundError) as error:
            refused = refused or error  # what the likeliest place is like
    else:
        raise refused or ValueError(_nowhere(data, folder))
    if not validation:
        return splits
    learned, held_out = hold_out(splits.train, validation, seed)
    return dataclasses.replace(splits, train=learned, validation=held_out)


def _places(data: Mapping[str, Any], data_dir: Path | None) -> Iterator[tuple[str | Path, Path | None]]:
    """What of this machine may be a training's data, the likeliest first: a name with where to look for it, or a folder or file."""
    name, source = known_as(data), Path(data["source"])
    if name is not None:
        yield name, data_dir or (source if is_folder(source) else None)
        if data.get("published"):
            return
    own = Path(data["name"]).name
    places = [source]
    if data_dir is not None:
        inside = (own,) if data["source"] == ELSEWHERE else (source.name, own)
        itself = () if Path(own).suffix.lower() == ".npz" else (data_dir,)
        places = [*(data_dir / each for each in inside if each), *itself, source]
    yield from ((place, None) for place in dict.fromkeys(places) if exists(place))


def _loaded(data: Mapping[str, Any], found: str | Path, data_dir: Path | None, progress: Progress | None) -> DatasetSplits:
    """What lies there, read as the training read it.

    Raises:
        ValueError: it is not what the training was given; otherwise as `load_dataset`.
    """
    channels, height, width = data["shape"]
    splits = load_dataset(
        found,
        data_dir=data_dir,
        image_size=(height, width),
        channels=channels,
        seed=data["split_seed"],
        skip_broken=bool(data["skipped"]),
        test_fraction=data.get("test_fraction") or 0.2,  # as it was before it was recorded
        progress=progress,
    )
    if isinstance(found, str) and splits.name != found:
        where = f"{found}, which the training used, is not to be had here; to take {splits.name} instead, name it"
        raise ValueError(f"{where}. {splits.notes[-1]}")
    if are_others(data["checksums"], _checksums(splits)):
        raise ValueError(
            f"{splits.source}: its pictures, labels or split are not those of the training any more; restore them, or name other data"
        )
    return splits


def _checksums(splits: DatasetSplits) -> dict[str, str]:
    """Of each split that the data came with."""
    there = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    return {name: split.checksum for name, split in there.items() if split is not None}


def are_others(recorded: Mapping[str, str], found: Mapping[str, str]) -> bool:
    """Whether data have other checksums than were recorded of them; earlier versions recorded none of validation pictures."""
    return any(found.get(split) != checksum for split, checksum in recorded.items())


def _nowhere(data: Mapping[str, Any], data_dir: Path | None) -> str:
    """What to say where there is nothing that could be a training's data."""
    looked = "" if data_dir is None else f", and nothing of that name is in {data_dir}"
    if data["source"] == ELSEWHERE:
        return (
            f"the classifier was trained on {data['name']} on another machine, whose folders it does not name{looked}; name the data, or "
            "give the folder that holds them as --data-dir"
        )
    return f"{data['name']}, which the training used, is no longer at {data['source']}{looked}; give the folder that holds it as --data-dir"


def hold_out(train: ImageDataset, share: float, seed: int) -> tuple[ImageDataset, ImageDataset]:
    """The pictures that a training of this seed learns from, and those that it holds out."""
    return train.split(share, seed=derived_seed(seed, "validation"))


def versions() -> dict[str, str]:
    """Versions of what computes."""
    return {
        "torchnin": __version__,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
    }


def git_commit() -> str | None:
    """The commit of the checkout that the package runs from, with `-dirty` where it was changed since; None where it is installed."""
    here = Path(__file__).resolve()

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(here.parent), *arguments], capture_output=True, text=True, timeout=10, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)  # an installed copy inside somebody else's checkout is no part of that
        return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*") or None
    except (OSError, subprocess.SubprocessError):
        return None
