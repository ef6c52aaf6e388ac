"""docs/integrations.md: its code runs, and stands in both languages."""

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from sklearn import datasets

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str) -> list[str]:
    """The page's pieces of Python: scikit-learn's, timm's, the Hub's."""
    found: list[str] = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), re.DOTALL)
    assert len(found) == 3
    return found


def test_both_pages_show_the_same_code() -> None:
    assert blocks("integrations.md") == blocks("integrations.zh-CN.md")
    english, chinese = (
        [line for line in (DOCS / page).read_text(encoding="utf-8").splitlines() if line.startswith("    ")]
        for page in ("integrations.md", "integrations.zh-CN.md")
    )
    assert english == chinese


def test_scikit_learns_code_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    X, y = datasets.load_digits(return_X_y=True)
    monkeypatch.setattr(datasets, "load_digits", lambda **_: (X[:200], np.asarray(y[:200])))
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(blocks("integrations.md")[0], names)
    assert (tmp_path / "maps.png").read_bytes().startswith(b"\x89PNG")
    assert names["search"].best_params_["num_epochs"] in (2, 5)  # type: ignore[attr-defined]


def test_timms_code_runs(timm: ModuleType) -> None:
    exec(blocks("integrations.md")[1], {})
