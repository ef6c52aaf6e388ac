from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_a_folder_is_nothing_to_download(nin: Callable[..., Any], tmp_path: Path) -> None:
    answer = nin("datasets", "--download", str(tmp_path))
    assert answer.code == 2
    assert f"--download is {str(tmp_path)!r}, which is here; accepted: a dataset's name, fashion-mnist" in answer.err
