"""A machine that has no data but those that a test puts there, and classes without the type check."""

import gzip
import inspect
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchnin.data import locate
from torchnin.data.readers.idx import FILE_STEMS, encode_idx


@pytest.fixture
def no_system_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests say themselves what this machine has."""
    monkeypatch.setattr(locate, "SYSTEM_FOLDER", tmp_path / "no-system-folder")


def _write_idx(folder: Path, num_train: int = 6, num_test: int = 4, num_classes: int = 2) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for stems, count in ((FILE_STEMS["train"], num_train), (FILE_STEMS["test"], num_test)):
        images = np.arange(count * 6, dtype=np.uint8).reshape(count, 2, 3)
        (folder / f"{stems[0]}.gz").write_bytes(gzip.compress(encode_idx(images)))
        (folder / stems[1]).write_bytes(encode_idx((np.arange(count) % num_classes).astype(np.uint8)))
    return folder


@pytest.fixture(scope="session")
def write_idx() -> Callable[..., Path]:
    """Writes four files of MNIST's format with pictures of 2x3 pixels into a folder, packed and plain."""
    return _write_idx


@pytest.fixture(scope="session")
def as_users_have_it() -> Callable[[type], Any]:
    """Makes a class anew from its file: without the type check that tests switch on, which would answer before the class does."""
    return lambda checked: runpy.run_path(inspect.getfile(checked))[checked.__name__]
