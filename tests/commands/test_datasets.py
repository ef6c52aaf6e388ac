import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_folder_is_nothing_to_download(nin: Callable[..., Any], tmp_path: Path) -> None:
    answer = nin("datasets", "--download", str(tmp_path))
    assert answer.code == 2
    assert f"--download is {str(tmp_path)!r}, which is here; accepted: a dataset's name, fashion-mnist" in answer.err


def test_datasets(nin: Callable[..., Any], tmp_path: Path) -> None:
    rows = json.loads(nin("datasets", "--json").out)
    assert {row["name"]: row["found"] for row in rows}["fashion-mnist-sample"] == "inside the package"
    assert "inside the package" in nin("datasets").out
    answer = nin("datasets", "--data-dir", tmp_path / "nothing")
    assert (answer.code, answer.out) == (2, "")
    assert f"data_dir: expected a folder, found nothing at {tmp_path / 'nothing'}" in answer.err
