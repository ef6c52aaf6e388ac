"""docs/onnx.md: its lines run where there is no torch, and its figures are the recorded ones."""

import os
import re
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from PIL import Image

import torchnin
from torchnin import DatasetSplits, Run

PAGE = Path(__file__).parents[1] / "docs" / "onnx.md"


def needed(*names: str) -> set[str]:
    """The names of these distributions and of all that they need, by their own metadata; what torchnin needs is not among it."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop().lower().replace("_", "-")
        if name in found:
            continue
        found.add(name)
        for text in distribution(name).requires or ():
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


def environment(folder: Path, *names: str) -> dict[str, str]:
    """An environment in which these distributions, what they need and the standard library can be imported, and nothing else."""
    for name in needed(*names):
        package = distribution(name)
        for part in {file.parts[0] for file in package.files or () if file.parts[0] not in ("..", "__pycache__")}:
            if not (folder / part).exists():
                (folder / part).symlink_to(Path(str(package.locate_file(part))).resolve())
    return {**{key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}, "PYTHONPATH": str(folder)}


def run(code: str, where: Path, variables: dict[str, str]) -> str:
    # -S leaves out this interpreter's own packages, torch among them; PYTHONPATH brings back the few.
    ran = subprocess.run(
        [sys.executable, "-S", "-c", code], cwd=where, env=variables, capture_output=True, text=True, timeout=600, check=False
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture
def folder(exported: Path, few: DatasetSplits, tmp_path: Path) -> Path:
    (tmp_path / "packages").mkdir()
    (tmp_path / "shirt.onnx").symlink_to(exported)
    Image.fromarray(few.test.images[7, 0]).resize((45, 61)).save(tmp_path / "shirt.png")
    return tmp_path


def test_the_lines_of_the_page_run_where_there_is_no_torch(folder: Path, trained: Run) -> None:
    variables = environment(folder / "packages", "onnxruntime", "numpy", "pillow")
    for name in ("torch", "torchnin"):
        absent = f"import importlib.util, sys; sys.exit(importlib.util.find_spec({name!r}) is not None)"
        run(absent, folder, variables)
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    answer = trained.classifier.predict(folder / "shirt.png")
    label, _, probability = run(lines, folder, variables).strip().rpartition(" ")
    assert label == answer.label
    assert float(probability) == pytest.approx(answer.probability, abs=2e-4)


def test_nin_predict_runs_where_there_is_no_torch(folder: Path, trained: Run) -> None:
    variables = environment(folder / "packages", "onnxruntime", "numpy", "pillow", "rich", "tyro")
    variables["PYTHONPATH"] += os.pathsep + str(Path(torchnin.__file__).parents[1])
    (folder / "broken.png").write_bytes(b"no")
    code = (
        "import sys; from torchnin.commands.main import main\n"
        "try: main(['predict', 'shirt.onnx', 'shirt.png', 'broken.png', '--csv'])\n"
        "except SystemExit as done: print('code', done.code)\n"
        "print([name for name in sys.modules if name.split('.')[0] == 'torch'])"
    )
    header, good, broken, code_line, imported = run(code, folder, variables).splitlines()
    assert (header.split(",")[0], code_line, imported) == ("path", "code 1", "[]")
    assert good.split(",")[1] == trained.classifier.predict(folder / "shirt.png").label
    assert broken.startswith("broken.png,")
    assert "expected a picture" in broken
