"""What made a run: everything that its `config.json` records."""

import dataclasses
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchnin.data import CATALOG, DataError, DatasetSplits, ImageDataset, Preprocessing, derived_seed, load_dataset
from torchnin.device import DeviceChoice
from torchnin.models import NiN
from torchnin.training.recipe import Recipe
from torchnin.version import __version__


def describe_run(
    name: str,
    network: NiN,
    recipe: Recipe,
    splits: DatasetSplits,
    num_learned: int,
    held_out: ImageDataset | None,
    preprocessing: Preprocessing,
    seed: int,
    validation: float,
    choice: DeviceChoice,
) -> dict[str, Any]:
    """The resolved configuration of a training, as plain values."""
    return {
        "name": name,
        "network": network.config.to_dict(),
        "recipe": recipe.to_dict(),
        "preprocessing": preprocessing.to_dict(),
        "data": {
            "name": splits.name,
            "source": str(Path(splits.source).absolute()) if Path(splits.source).exists() else splits.source,
            "shape": list(splits.train.images.shape[1:]),
            "train_pictures": num_learned,
            "validation_pictures": 0 if held_out is None else len(held_out),
            "test_pictures": len(splits.test),
            "class_names": list(splits.class_names),
            "checksums": {"train": splits.train.checksum, "test": splits.test.checksum},
            "files": dict(splits.files),
            "split_seed": splits.split_seed,
            "notes": list(splits.notes),
            "skipped": [list(each) for each in splits.skipped],
        },
        "seed": seed,
        "validation": validation,
        "device": choice.to_dict(),
        "versions": versions(),
        "git_commit": _git_commit(),
        "command": sys.argv,
    }


def load_recorded(
    data: Mapping[str, Any], *, data_dir: str | os.PathLike[str] | None = None, validation: float = 0.0, seed: int = 0
) -> DatasetSplits:
    """The data that a training used, found again from what `describe_run` recorded of them.

    Args:
        data: the entry `data` of a run's `config.json` or of a classifier's metadata.
        data_dir: where to look first; None looks where they were found.
        validation: the share that the training held out of the train pictures; above 0 these are the `validation` pictures then, and
            `train` those that it learned from.
        seed: the training's.

    Raises:
        ValueError: they were arrays, are not to be had here, or are not the same any more; otherwise as `load_dataset`.
        DataError: the record is incomplete, as that of another version may be.
    """
    if missing := sorted({"name", "source", "shape", "split_seed", "skipped", "checksums"} - data.keys()):
        raise DataError(f"the record of the training's data lacks {', '.join(missing)}; name the data")
    name, source = data["name"], data["source"]
    if source == "arrays":
        raise ValueError("the training was given arrays, which are not kept; name the data")
    known = name in CATALOG
    if known and data_dir is None and Path(source).is_dir():
        data_dir = source
    channels, height, width = data["shape"]
    splits = load_dataset(
        name if known else source,
        data_dir=data_dir,
        image_size=(height, width),
        channels=channels,
        seed=data["split_seed"],
        skip_broken=bool(data["skipped"]),
    )
    if known and splits.name != name:
        where = f"{name}, which the training used, is not to be had here; to take {splits.name} instead, name it"
        raise ValueError(f"{where}. {splits.notes[-1]}")
    if {"train": splits.train.checksum, "test": splits.test.checksum} != data["checksums"]:
        raise ValueError(
            f"{splits.source}: its pictures, labels or split are not those of the training any more; restore them, or name other data"
        )
    if not validation:
        return splits
    learned, held_out = hold_out(splits.train, validation, seed)
    return dataclasses.replace(splits, train=learned, validation=held_out)


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


def _git_commit() -> str | None:
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
