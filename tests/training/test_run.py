import contextlib
import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from torchnin import DataError, DatasetSplits, NiNConfig, Recipe, Run, files, train
from torchnin.training.run import new_run_folder, opened

RESULT = dict.fromkeys(("test_accuracy", "test_loss", "test_pictures", "num_parameters", "epochs", "seconds", "dead_class_maps"), 1)


def test_the_folder_is_the_stated_one(trained: Run) -> None:
    """INTERFACE.md's run folder, file by file."""
    assert {entry.name for entry in trained.path.iterdir()} == {
        *("config.json", "metrics.csv", "metrics.jsonl", "result.json", "curves.png", "checkpoint", "classifier"),
    }
    assert {entry.name for entry in (trained.path / "classifier").iterdir()} == {"model.safetensors", "config.json"}
    assert trained.config.keys() >= {"network", "recipe", "data", "versions", "device", "git_commit", "seed"}
    assert set(trained.config["data"]["checksums"]) == {"train", "test"}
    row = {"epoch", "train_loss", "train_accuracy", "lr", "images_per_second", "dead_class_maps", "seconds"}
    assert [metrics["epoch"] for metrics in trained.metrics] == [1, 2]
    assert all(row <= metrics.keys() for metrics in trained.metrics)
    result = {"test_accuracy", "test_loss", "num_parameters", "epochs", "seconds", "images_per_second"}
    assert result <= trained.result.keys()
    assert 0 <= trained.result["test_accuracy"] <= 1
    assert trained.finished
    assert trained.resumable
    assert (trained.path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_metrics_are_lines_of_strict_json(trained: Run) -> None:
    def refuse(name: str) -> Any:
        raise AssertionError(f"{name} is no JSON")

    lines = (trained.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line, parse_constant=refuse) for line in lines] == trained.metrics


def test_metrics_are_a_table_too(trained: Run, tmp_path: Path) -> None:
    with (trained.path / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in table] == [1, 2]
    for name in ("train_loss", "train_accuracy", "lr", "images_per_second", "dead_class_maps", "seconds"):
        assert [float(row[name]) for row in table] == [float(row[name]) for row in trained.metrics]

    (tmp_path / "run").mkdir()
    run = Run(tmp_path / "run")
    found = [{"kind": "a", "message": 'one, "two"'}, {"kind": "b", "message": "three"}]
    run.write_metrics(
        [{"epoch": 1, "dead_channels": {}, "findings": []}, {"epoch": 2, "dead_channels": {"block 1": 0.5}, "findings": found}]
    )
    lines = (run.path / "metrics.csv").read_text().splitlines()
    assert lines == ['epoch,findings,"dead channels, block 1"', "1,,", '2,"one, ""two"" | three",0.5']
    run.write_metrics([])
    assert (run.path / "metrics.csv").read_text() == ""


def test_a_class_with_a_carriage_return_in_its_name_breaks_no_line_of_the_csv(tmp_path: Path) -> None:
    Run(tmp_path).write_metrics([{"epoch": 1, "findings": [{"message": "the map of a\rb is dead"}]}])
    with (tmp_path / "metrics.csv").open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"epoch": "1", "findings": "the map of a\rb is dead"}]


def test_a_class_whose_name_is_no_utf8_may_be_told_of(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write_metrics([{"epoch": 1, "findings": [{"message": f"the map of {os.fsdecode(bytes([0xE9]))} is dead"}]}])
    assert "the map of \\udce9 is dead" in (tmp_path / "metrics.csv").read_text(encoding="utf-8")


def test_what_is_not_there_yet_is_said(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert (run.metrics, run.finished, run.resumable) == ([], False, False)
    with pytest.raises(ValueError, match=r"result\.json is missing"):
        _ = run.result
    (tmp_path / "config.json").write_text('{"recipe": ')
    with pytest.raises(DataError, match="not readable as JSON"):
        _ = run.config
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(DataError, match="no JSON object"):
        _ = run.config


def test_a_new_folder_is_the_first_free_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert new_run_folder("a-b") == Path("runs/a-b")
    (tmp_path / "runs" / "a-b").mkdir(parents=True)
    (tmp_path / "runs" / "a-b-2").mkdir()
    assert new_run_folder("a-b") == Path("runs/a-b-3")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "files",
    [
        {"thesis.tex": "all of it"},
        {"checkpoint/weights.pt": "somebody's", "notes.txt": "dear"},
        {"config.json": '{"model_type": "bert"}', "classifier/weights.bin": "dear", "checkpoint/a": "b"},
        {"config.json": "no json at all", "checkpoint/a": "dear"},
        {"config.json": '{"format": "torchnin classifier 1"}', "model.safetensors": "a saved classifier"},
    ],
)
@pytest.mark.parametrize("asked", [{}, {"overwrite": True}, {"resume": True}])
def test_a_folder_that_is_no_run_is_never_touched(files: dict[str, str], asked: dict[str, bool], tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    before = snapshot(tmp_path)
    with pytest.raises(ValueError, match=r"holds no run|not empty"), opened(tmp_path, **{"resume": False, "overwrite": False, **asked}):
        pass
    assert snapshot(tmp_path) == before


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file is a file; a run needs a folder"), opened(tmp_path / "file", resume=False, overwrite=True):
        pass


def test_a_run_is_replaced_only_when_asked(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    once = Recipe(num_epochs=1, batch_size=80)
    first = train(tiny, few, once, out=tmp_path / "run", quiet=True)
    before = snapshot(first.path)
    with pytest.raises(ValueError, match=r"already holds a run; --resume .* goes on with it, --overwrite .* replaces it"):
        train(tiny, few, once, out=first.path, quiet=True)
    assert snapshot(first.path) == before
    (first.path / "my notes.txt").write_text("kept")
    second = train(tiny, few, once, out=first.path, seed=1, overwrite=True, quiet=True)
    assert second.config["seed"] == second.result["seed"] == 1
    assert len(second.metrics) == 1
    assert (first.path / "my notes.txt").read_text() == "kept"


def test_what_a_killed_start_left_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "step-000000000.safetensors.tmp").write_text("half")
    with opened(tmp_path, resume=False, overwrite=False) as run:
        assert list(run.path.iterdir()) == []


@pytest.mark.parametrize("damage", ["another value", "no json", "no checksum", "empty"])
def test_a_config_that_was_changed_is_noticed_and_its_copy_used(trained: Run, tmp_path: Path, damage: str) -> None:
    run = Run(shutil.copytree(trained.path, tmp_path / "run"))
    path = run.path / "config.json"
    text = path.read_text()
    document = json.loads(text)
    match damage:
        case "another value":
            assert '"lr": 0.1' in text
            path.write_text(text.replace('"lr": 0.1', '"lr": 0.3'))
        case "no json":
            path.write_bytes(b"\xff" + text.encode())
        case "no checksum":
            path.write_text(json.dumps({key: value for key, value in document.items() if key != "checksum"}))
        case "empty":
            path.write_text("")
    config, sentence = run.read_config()
    assert config == trained.config
    assert sentence is not None
    assert sentence.startswith(f"{path} is not ")
    assert sentence.endswith(f"its copy {run.path / 'checkpoint' / 'config.json'} is used")
    with opened(run.path, resume=True, overwrite=False):  # it is still known for a run's folder
        pass
    (run.path / "checkpoint" / "config.json").unlink()
    if damage == "no checksum":  # as earlier versions wrote it
        assert run.read_config() == (trained.config, None)
    else:
        with pytest.raises(DataError, match=r"config\.json is not "):
            _ = run.config


def test_a_run_goes_on_from_the_copy_of_its_config_and_restores_it(tiny: NiNConfig, few_file: Path, tmp_path: Path, nin: Any) -> None:
    out = tmp_path / "run"
    train(tiny, str(few_file), Recipe(num_epochs=1, batch_size=80, lr=0.1), name="tiny", out=out, quiet=True)
    (out / "result.json").unlink()
    whole = (out / "config.json").read_text()
    (out / "config.json").write_text(whole.replace('"momentum": 0.9', '"momentum": 0.1'))
    answer = nin("train", "--resume", "--out", out)
    assert answer.code == 0, answer.err
    assert f"{out / 'config.json'} is not as the training wrote it" in answer.err
    assert (out / "config.json").read_text() == whole


class Killed(BaseException):
    """In place of the signal: nothing between it and the end of the process does anything."""


@pytest.mark.parametrize("number", range(1, 10))
def test_killed_while_it_replaces_a_run_what_is_left_can_be_gone_on_with_or_begun_anew(
    trained: Run, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shutil.copytree(trained.path, tmp_path / "run")
    left = [number]

    def counted(real: Callable[..., None]) -> Callable[..., None]:
        def call(*arguments: Any, **options: Any) -> None:
            left[0] -= 1
            if not left[0]:
                raise Killed
            real(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", counted(Path.unlink))
        patch.setattr(shutil, "rmtree", counted(shutil.rmtree))
        with pytest.raises(Killed) if number < 9 else contextlib.nullcontext(), opened(path, resume=False, overwrite=True):
            pass
    holds_run = (path / "config.json").exists()
    assert Run(path).resumable or not holds_run
    with opened(path, resume=holds_run, overwrite=False):
        pass


def test_a_half_drawn_picture_of_a_killed_process_is_taken_away(trained: Run, tmp_path: Path) -> None:
    path = shutil.copytree(trained.path, tmp_path / "run")
    (path / ".curves.4711.png").write_bytes(b"half")
    with opened(path, resume=True, overwrite=False):
        pass
    assert {entry.name for entry in path.iterdir()} == {entry.name for entry in trained.path.iterdir()}


def test_two_processes_never_share_a_folder(tmp_path: Path, few_file: Path, nin: Callable[..., Any]) -> None:
    code = (
        "import sys, pathlib\nfrom torchnin.training.run import opened\n"
        "with opened(pathlib.Path(sys.argv[1]), resume=False, overwrite=False) as run:\n"
        "    run.write_config({'network': {}, 'recipe': {}, 'data': {}, 'versions': {}}) if sys.argv[2] == 'begun' else None\n"
        "    print('open', flush=True)\n    sys.stdin.read()\n"
    )
    for state, flags in (("empty", []), ("begun", ["--overwrite"])):
        out = tmp_path / state
        with subprocess.Popen([sys.executable, "-c", code, out, state], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "open\n"
            before = snapshot(out)
            answer = nin("train", few_file, "--out", out, *flags)
            assert answer.code == 2
            assert f"another process is training into {out}; wait for it, or choose another --out" in answer.err
            assert snapshot(out) == before
            other.kill()
        with opened(out, resume=False, overwrite=True):  # the lock died with its process
            pass


def test_a_run_that_another_process_ended_a_moment_ago_is_not_wiped_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the moment when the folder was free to begin in and the lock, another training came and went."""
    lock = files.lock

    def after_another(file: int) -> bool:
        Run(tmp_path).write_config({"network": {}, "recipe": {}, "data": {}, "versions": {}})
        Run(tmp_path).write_result(RESULT)
        return lock(file)

    monkeypatch.setattr(files, "lock", after_another)
    with pytest.raises(ValueError, match="already holds a run"), opened(tmp_path, resume=False, overwrite=False):
        pass
    assert Run(tmp_path).result == RESULT


@pytest.mark.parametrize("changed", [None, {"test_accuracy": None}, {"test_pictures": "many"}, {"seconds": True}])
def test_a_result_that_no_training_wrote_is_told_by_what_it_lacks(changed: dict[str, object] | None, tmp_path: Path) -> None:
    """As after an edit by hand: nin train --resume ended in a KeyError."""
    Run(tmp_path).write_result({} if changed is None else RESULT | changed)
    with pytest.raises(DataError, match=r"result\.json is not what a training wrote: \w+ is missing or no number"):
        _ = Run(tmp_path).result


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="as somebody else a folder without permission shows the same")
def test_a_folder_that_cannot_be_written_to(nin: Callable[..., Any], few_file: Path) -> None:
    answer = nin("train", few_file, "--out", "/proc/self/run")
    assert answer.code in (1, 2)
    assert "/proc/self/run" in answer.err
    assert len(answer.err.strip().splitlines()) == 1
