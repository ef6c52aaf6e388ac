import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchnin.commands.doctor import _version
from torchnin.models import native


def test_doctor(nin: Callable[..., Any], tmp_path: Path) -> None:
    document = json.loads(nin("doctor", "--json").out)
    assert document["device"] == "cpu" or document["device"].startswith("cuda")
    assert document["reasons"].keys() == {"device", "dtype", "memory_format"}
    assert document["cache"] == str(tmp_path / "torchnin-home")
    assert document["native"] == native.compiled()
    assert "torch" in nin("doctor").out


def test_doctor_says_what_would_make_training_faster(nin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "compiled", lambda: None)
    monkeypatch.setattr(native, "kinds", lambda: ("plain",))
    monkeypatch.setattr(native.sys, "platform", "linux")
    assert "compiled for: training takes torch's own ways" in nin("doctor").out
    monkeypatch.setattr(native, "kinds", lambda: ())
    assert "compiled for: none for this system" in nin("doctor").out


def test_doctor_knows_a_module_that_another_package_brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "just_a_folder").mkdir()
    (tmp_path / "from_nowhere.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert _version("numpy", "numpy") == np.__version__
    assert _version("numpy-of-others", "numpy") == f"{np.__version__} (numpy)"
    assert _version("from-nowhere", "from_nowhere") == "of unknown version"
    assert _version("just-a-folder", "just_a_folder") is None
    assert _version("not-here", "not_here") is None
