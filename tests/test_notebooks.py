"""The notebooks run from the first cell to the last, show what they should, and are the same in both languages."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
import torch

import torchnin

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"
NAMES = ("1-the-block", "2-the-network", "3-training", "4-looking-inside", "5-own-photos")
PATHS = [NOTEBOOKS / language / f"{name}.ipynb" for language in ("en", "zh") for name in NAMES]
SHOWN = [f"{path.parent.name}-{path.stem}" for path in PATHS]


def read(path: Path) -> nbformat.NotebookNode:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    return notebook


def code_of(path: Path) -> list[tuple[str, str]]:
    """The code cells, and what a short run puts in their place; the language of the pictures' words alone may differ."""
    cells = [cell for cell in read(path).cells if cell.cell_type == "code"]
    return [tuple(re.sub(r'^language = "(en|zh)"', "", text) for text in (cell.source, cell.metadata.get("short", ""))) for cell in cells]


def test_all_notebooks_are_there() -> None:
    assert sorted(NOTEBOOKS.glob("*/*.ipynb")) == PATHS


@pytest.mark.parametrize("path", PATHS, ids=SHOWN)
def test_a_notebook_runs_from_the_first_cell_to_the_last(path: Path) -> None:
    call = [sys.executable, str(NOTEBOOKS / "execute.py"), "--short", "--check", str(path)]
    done = subprocess.run(call, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", PATHS, ids=SHOWN)
def test_a_notebook_is_kept_with_clean_outputs(path: Path) -> None:
    sys.path.insert(0, str(NOTEBOOKS))
    try:
        import execute
    finally:
        sys.path.remove(str(NOTEBOOKS))
    notebook = read(path)
    assert execute.faults(notebook) == []
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(len(cell.outputs) for cell in cells) >= 5
    assert path.stat().st_size < 600_000
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for target in re.findall(r"\]\(([^)#:]+)\)", cell.source):
                assert (path.parent / target).exists(), target


@pytest.mark.parametrize("name", NAMES)
def test_both_languages_have_the_same_code(name: str) -> None:
    english, chinese = (NOTEBOOKS / language / f"{name}.ipynb" for language in ("en", "zh"))
    assert code_of(english) == code_of(chinese)
    kinds = [[cell.cell_type for cell in read(path).cells] for path in (english, chinese)]
    assert kinds[0] == kinds[1]
    for cell in read(chinese).cells:
        if cell.cell_type == "markdown":
            assert re.search("[一-鿿]", cell.source)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_weights_of_the_chapters_notebook_become_a_classifier_as_the_second_one_says(
    language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (text,) = (cell.source for cell in read(NOTEBOOKS / language / "2-the-network.ipynb").cells if "net.pt" in cell.source)
    monkeypatch.chdir(tmp_path)
    shutil.copy(NOTEBOOKS.parent / "docs" / "pictures" / "shirt.png", "shirt.png")
    trained = torchnin.create_model("nin_d2l")
    torch.save(torchnin.to_notebook(trained.state_dict()), "net.pt")
    names: dict[str, Any] = {"torch": torch, "torchnin": torchnin, "net": torchnin.create_model("nin_d2l")}
    exec("\n".join(line.strip() for line in text.splitlines() if line.startswith("    ")), names)
    assert all(torch.equal(value, trained.state_dict()[key]) for key, value in names["net"].state_dict().items())
    assert Path("maps.png").stat().st_size > 1000
    assert torchnin.load("from-the-notebook").predict("shirt.png") == names["classifier"].predict("shirt.png")
