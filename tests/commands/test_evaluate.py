import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torchnin import Run

KEYS = {"accuracy", "accuracy_interval", "loss", "num_pictures", "per_class", "confusion", "calibration_error"}


def test_the_runs_own_data_give_the_runs_own_result(nin: Callable[..., Any], trained: Run) -> None:
    answer = nin("evaluate", trained.path, "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert document.keys() >= KEYS
    assert document["accuracy"] == trained.result["test_accuracy"]
    assert document["loss"] == trained.result["test_loss"]
    assert document["num_pictures"] == trained.result["test_pictures"] == 100
    assert sum(map(sum, document["confusion"])) == 100
    assert 0 <= document["accuracy_interval"][0] <= document["accuracy"] <= document["accuracy_interval"][1] <= 1


def test_other_data_and_other_splits(nin: Callable[..., Any], trained: Run, few_file: Path, tmp_path: Path) -> None:
    by_name = json.loads(nin("evaluate", trained.path, few_file, "--json").out)
    assert by_name["accuracy"] == trained.result["test_accuracy"]
    assert json.loads(nin("evaluate", trained.path, "--split", "train", "--json").out)["num_pictures"] == 320
    text = nin("evaluate", trained.path, "fashion-mnist-sample", "--plot", tmp_path / "confusion.png")
    assert text.code == 0
    assert f"confusion matrix: {tmp_path / 'confusion.png'}" in text.err
    assert "1,000" in text.out


def test_wrong_calls(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(trained.path / "classifier", copied)
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "metadata": {}}))
    for arguments, said in (
        ((tmp_path / "missing",), "there is no such folder"),
        ((copied,), "does not say what it was trained on; name a dataset"),
        ((trained.path, "--split", "validation"), "has no 'validation' pictures; --split takes test, train"),
        ((trained.path, "fashion-mist"), "Did you mean 'fashion-mnist'"),
    ):
        answer = nin("evaluate", *arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert said in answer.err


def test_changed_weights_are_a_failure(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(trained.path / "classifier", copied)
    (copied / "model.safetensors").write_bytes(b"")
    answer = nin("evaluate", copied)
    assert (answer.code, answer.out) == (1, "")
    assert "model.safetensors" in answer.err
