import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from torchnin import DatasetSplits, Run


@pytest.fixture
def pictures(few: DatasetSplits, tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    (folder / "deeper").mkdir(parents=True)
    for number, name in enumerate(("2.png", "10.png", "deeper/1.png")):
        Image.fromarray(few.test.images[number, 0]).save(folder / name)
    return folder


def test_a_line_of_json_a_picture(nin: Callable[..., Any], trained: Run, pictures: Path) -> None:
    answer = nin("predict", trained.path, pictures, "--json")
    assert (answer.code, answer.err) == (0, "")
    rows = [json.loads(line) for line in answer.out.splitlines()]
    assert {row["path"] for row in rows} == {str(pictures / name) for name in ("2.png", "10.png", "deeper/1.png")}
    for row in rows:
        assert list(row) == ["path", "label", "probability", "probabilities"]
        expected = trained.classifier.predict(row["path"])
        assert (row["label"], set(row["probabilities"])) == (expected.label, set(expected.probabilities))
        assert row["probability"] == pytest.approx(expected.probability, abs=1e-6)


def test_a_broken_picture_stands_in_its_place(nin: Callable[..., Any], trained: Run, pictures: Path) -> None:
    broken = pictures / "3.png"
    broken.write_bytes(b"\x89PNG no")
    answer = nin("predict", trained.path, pictures / "2.png", broken, pictures / "10.png", "--json")
    assert answer.code == 1
    rows = [json.loads(line) for line in answer.out.splitlines()]
    assert [row["path"] for row in rows] == [str(pictures / name) for name in ("2.png", "3.png", "10.png")]
    assert list(rows[1]) == ["path", "error"]
    assert "1 of 3 pictures could not be read" in answer.err
    plain = nin("predict", trained.path, broken)
    assert (plain.code, plain.out) == (1, "")
    assert f"{broken}: expected a picture" in plain.err


def test_lines_for_people(nin: Callable[..., Any], trained: Run, pictures: Path) -> None:
    answer = nin("predict", trained.path, pictures / "2.png", "--top", "2")
    best = list(trained.classifier.predict(pictures / "2.png").probabilities.items())[:2]
    assert answer.out == f"{pictures / '2.png'}: " + ", ".join(f"{name} {probability:.4f}" for name, probability in best) + "\n"


def test_wrong_calls(nin: Callable[..., Any], trained: Run, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for arguments, said in (
        ((tmp_path / "missing", pictures), "there is no such folder"),
        ((tmp_path / "none", pictures), "holds no classifier"),
        ((trained.path, tmp_path / "none"), "holds no pictures"),
        ((trained.path,), "no picture was named"),
        ((trained.path, pictures, "--top", "0"), "--top is 0"),
    ):
        answer = nin("predict", *arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert said in answer.err


def test_explain(nin: Callable[..., Any], trained: Run, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "maps.png"
    answer = nin("explain", trained.path, pictures / "2.png", "--out", out, "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert document["classes"][0]["label"] == trained.classifier.predict(pictures / "2.png").label
    assert out.read_bytes().startswith(b"\x89PNG")
