"""What the tests of several commands need."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from torchnin import DatasetSplits


@pytest.fixture
def pictures(few: DatasetSplits, tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    for number, name in enumerate(("2.png", "10.png", "deeper/1.png")):
        Image.fromarray(few.test.images[number, 0]).save(folder / name)
    return folder


def _rows_of(answer: Any) -> list[dict[str, Any]]:
    assert answer.code == 0, answer.err
    networks: list[dict[str, Any]] = json.loads(answer.out)["networks"]
    return networks


@pytest.fixture(scope="session")
def rows_of() -> Callable[[Any], list[dict[str, Any]]]:
    """The networks in the answer of `nin compare --json`."""
    return _rows_of
