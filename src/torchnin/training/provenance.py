"""What made a run: everything that its `config.json` records."""

import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchnin.data import DatasetSplits, ImageDataset, Preprocessing
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
            "source": splits.source,
            "shape": list(splits.train.images.shape[1:]),
            "train_pictures": num_learned,
            "validation_pictures": 0 if held_out is None else len(held_out),
            "test_pictures": len(splits.test),
            "class_names": list(splits.class_names),
            "checksums": {"train": splits.train.checksum, "test": splits.test.checksum},
            "files": dict(splits.files),
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
