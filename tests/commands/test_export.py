import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import torchnin
from torchnin import DatasetSplits, ExportedClassifier, Run


def test_export(nin: Callable[..., Any], trained: Run, few: DatasetSplits, tmp_path: Path) -> None:
    Image.fromarray(few.test.images[0, 0]).save(tmp_path / "own.png")
    out = tmp_path / "new folder" / "tiny.onnx"
    answer = nin("export", trained.path, "--out", out, "--pictures", tmp_path, "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert document["path"] == str(out)
    assert document["num_bytes"] == out.stat().st_size
    assert 0 < document["check"]["largest_difference"] < 1e-4
    assert document["check"]["num_pictures"] == 1 + 35
    assert (document["precision"], document["tolerance"]) == ("float32", 1e-4)
    assert f"use it with: nin predict '{out}' PICTURE" in answer.err
    assert ExportedClassifier(out).class_names == trained.classifier.class_names


def test_of_many_pictures_some_are_compared(nin: Callable[..., Any], trained: Run, few: DatasetSplits, tmp_path: Path) -> None:
    for number in range(70):
        Image.fromarray(few.test.images[number, 0]).save(tmp_path / f"{number}.png")
    answer = nin("export", trained.path, "--out", tmp_path / "model.onnx", "--pictures", tmp_path, "--json")
    assert answer.code == 0, answer.err
    assert "compared with 64 of the 70 pictures" in answer.err
    assert json.loads(answer.out)["check"]["num_pictures"] == 64 + 35


def test_int8_on_the_data_of_the_training(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    out = tmp_path / "small.onnx"
    answer = nin("export", trained.path, "--out", out, "--int8", "--accept-accuracy-loss")
    assert answer.code == 0, answer.err
    for said in ("int8, ONNX opset 18", "largest difference of a probability", "test accuracy", "bytes", "pictures/s", "100 pictures"):
        assert said in answer.out
    assert ExportedClassifier(out).metadata["precision"] == "int8"


def test_wrong_calls(nin: Callable[..., Any], trained: Run, exported: Path, tmp_path: Path) -> None:
    out = tmp_path / "model.onnx"
    (tmp_path / "none").mkdir()
    for arguments, said in (
        ((tmp_path / "missing", "--out", out), "there is no such folder"),
        ((exported, "--out", out), "is an exported file"),
        ((trained.path, "--out", tmp_path / "model.pt"), "ends in .onnx"),
        ((tmp_path / "missing", "--out", tmp_path / "model.pt", "--int8", "--data", "mnist"), "ends in .onnx"),  # before anything is read
        ((trained.path, "--out", tmp_path), "an exported classifier's name ends in .onnx"),
        ((trained.path, "--out", out, "--accept-accuracy-loss"), "says something about --int8"),
        ((trained.path, "--out", out, "--data", "mnist"), "--data says something about --int8"),
        ((trained.path, "--out", out, "--pictures", tmp_path / "none"), "holds no pictures"),
        ((tmp_path / "missing", "--out", out, "--pictures", tmp_path / "nope.png"), "nope.png: there is no such picture"),  # at once
        ((trained.path, "--out", out, "--int8", "--data", "fashon-mnist"), "Did you mean 'fashion-mnist'"),
    ):
        answer = nin("export", *arguments)
        assert (answer.code, answer.out) == (2, ""), (arguments, answer.err)
        assert said in answer.err
    assert not out.exists()


def test_int8_says_what_to_do_where_the_data_are_gone(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    shutil.copytree(trained.path / "classifier", tmp_path / "moved")
    config = json.loads((tmp_path / "moved" / "config.json").read_text())
    config["metadata"]["data"]["source"] = str(tmp_path / "gone.npz")
    config["metadata"]["data"]["name"] = "gone.npz"
    (tmp_path / "moved" / "config.json").write_text(json.dumps(config))
    answer = nin("export", tmp_path / "moved", "--out", tmp_path / "model.onnx", "--int8")
    assert answer.code == 2
    assert "not at hand" in answer.err
    assert "--data DATA" in answer.err
    assert not (tmp_path / "model.onnx").exists()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere, and Windows has no such modes")
def test_a_folder_that_cannot_be_written_to(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    answer = nin("export", trained.path, "--out", tmp_path / "model.onnx")
    assert answer.code == 1
    assert "choose another one" in answer.err


def test_predict_has_the_same_forms_for_a_file(
    nin: Callable[..., Any], trained: Run, exported: Path, few: DatasetSplits, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number, side in enumerate((28, 300, 10, 28, 28)):
        Image.fromarray(few.test.images[number, 0]).resize((side, side + number)).save(folder / f"{number}.png")
    (folder / "5.png").write_bytes(b"broken")
    for options in (("--json",), ("--json", "--top", "2"), ("--csv",), ("--csv", "--top", "1"), (), ("--top", "5")):
        ours, theirs = (nin("predict", source, folder, *options) for source in (trained.path, exported))
        assert (ours.code, theirs.code) == (1, 1)
        assert ours.err == theirs.err
        lines = [ours.out.splitlines(), theirs.out.splitlines()]
        assert [line.split(" ")[0] for line in lines[0]] == [line.split(" ")[0] for line in lines[1]] or "--csv" in options
        assert len(lines[0]) == len(lines[1])
    rows = [[json.loads(line) for line in nin("predict", source, folder, "--json").out.splitlines()] for source in (trained.path, exported)]
    for one, other in zip(*rows, strict=True):
        assert (one["path"], one.get("label"), one.get("error")) == (other["path"], other.get("label"), other.get("error"))
        assert one.get("probabilities", {}) == pytest.approx(other.get("probabilities", {}), abs=1e-5)


def test_predict_of_a_file_called_wrongly(nin: Callable[..., Any], exported: Path, tmp_path: Path) -> None:
    picture = tmp_path / "1.png"
    Image.new("L", (4, 4)).save(picture)
    (tmp_path / "text.onnx").write_text("hello")
    for arguments, code, said in (
        ((tmp_path / "missing.onnx", picture), 2, "there is no such file"),
        ((tmp_path / "text.onnx", picture), 1, "what onnxruntime does not read"),
        ((exported, picture, "--device", "cuda"), 2, "an .onnx file runs on the cpu"),
        ((exported,), 2, "no picture was named"),
    ):
        answer = nin("predict", *arguments)
        assert (answer.code, answer.out) == (code, ""), answer.err
        assert said in answer.err
    assert torchnin.ExportedClassifier(exported).predict(picture).label
