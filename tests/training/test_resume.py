"""A training that was stopped, however roughly, ends with the bits of one that was not."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import torchnin
from torchnin.training import loop
from torchnin.training.checkpoint import Checkpoint, _sealed, read_checkpoint, write_checkpoint

# Dropout, augmentation, running mean, clipping, thinning, held-out pictures: everything that draws or remembers.
OPTIONS = [
    *("--recipe", "long", "--model", "nin_small", "--dropout", "0.3", "--num-epochs", "2", "--batch-size", "8"),
    *("--lr", "0.05", "--ema-decay", "0.9"),
    *("--flip", "--shift", "2", "--erase", "0.5", "--clip-norm", "1", "--thinning", "0.5", "--validation", "0.1", "--seed", "4"),
]
ONE: dict[str, Any] = {"channels": 1, "height": 28, "width": 28, "mean": (0.3,), "std": (0.3,)}
PER_EPOCH = 9  # 72 pictures by 8
# The command in a process of its own that signals itself after a step, with a checkpoint after every so many seconds.
STOPPED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from torchnin.commands.main import main
from torchnin.training import loop, monitor

number, step, every = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
loop._CHECKPOINT_SECONDS = every
seen, after_step = [], monitor.Monitor.after_step

def counted(self, *arguments):
    after_step(self, *arguments)
    seen.append(1)
    if len(seen) == step:
        os.kill(os.getpid(), number)

monitor.Monitor.after_step = counted
main(sys.argv[4:])
"""


@pytest.fixture(scope="module")
def few_file(few: torchnin.DatasetSplits, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fewer still: every test here trains more than once."""
    path = tmp_path_factory.mktemp("data") / "fewer.npz"
    train, test = few.train, few.test.select(range(20))
    picked = train.select([index for label in range(10) for index in (train.labels == label).nonzero()[0][:8]])
    np.savez(path, x_train=picked.images, y_train=picked.labels, x_test=test.images, y_test=test.labels)
    return path


def stop(number: int, step: int, every: float, *arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", STOPPED, number, step, every, *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600, check=False, cwd=cwd)


def state(run: Path) -> dict[str, torch.Tensor]:
    """All tensors of the last checkpoint: weights, running mean, momentum, counters."""
    return load_file(max((run / "checkpoint").glob("step-*.safetensors")))


def without_times(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if key not in ("seconds", "images_per_second")}


def assert_same(resumed: Path, whole: Path) -> None:
    ours, theirs = state(resumed), state(whole)
    assert ours.keys() == theirs.keys()
    assert {key for key in ours if not torch.equal(ours[key], theirs[key])} == set()
    assert {key.split(".")[0] for key in ours} == {"network", "mean", "optimizer", "monitor", "thinning", "sums"}
    a, b = torchnin.training.Run(resumed), torchnin.training.Run(whole)
    assert [without_times(row) for row in a.metrics] == [without_times(row) for row in b.metrics]
    assert without_times(a.result) == without_times(b.result)
    assert (resumed / "classifier" / "model.safetensors").read_bytes() == (whole / "classifier" / "model.safetensors").read_bytes()
    assert a.classifier.metadata == b.classifier.metadata
    assert {entry.name for entry in resumed.iterdir()} == {entry.name for entry in whole.iterdir()}
    assert not list(resumed.rglob("*.tmp"))


@pytest.fixture(scope="module")
def whole(few_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The training that nothing disturbed."""
    from torchnin.commands.main import main

    out = tmp_path_factory.mktemp("whole") / "run"
    with pytest.raises(SystemExit) as done:
        main(["train", str(few_file), "--out", str(out), *OPTIONS])
    assert not done.value.code
    assert len(torchnin.training.Run(out).metrics) == 2
    return out


@pytest.mark.parametrize(
    ("number", "step", "every", "code", "left_at"),
    [
        pytest.param(2, 14, 1e9, 130, 14, id="Ctrl-C in the middle of an epoch"),
        pytest.param(15, PER_EPOCH, 1e9, 143, PER_EPOCH, id="SIGTERM in the last step of an epoch"),
        pytest.param(15, 2 * PER_EPOCH, 1e9, 143, 2 * PER_EPOCH, id="SIGTERM in the last step of all"),
        pytest.param(9, 14, 0.0, -9, 13, id="SIGKILL with a checkpoint in the middle of an epoch"),
        pytest.param(9, 14, 1e9, -9, PER_EPOCH, id="SIGKILL with a checkpoint at the end of an epoch"),
        pytest.param(9, 2, 1e9, -9, 0, id="SIGKILL in the first epoch"),
    ],
)
def test_the_bits_are_those_of_the_undisturbed_training(
    number: int, step: int, every: float, code: int, left_at: int, whole: Path, few_file: Path, tmp_path: Path, nin: Callable[..., Any]
) -> None:
    out = tmp_path / "my run"
    stopped = stop(number, step, every, "train", few_file, "--out", out, *OPTIONS)
    assert stopped.returncode == code, stopped.stderr
    assert "Traceback" not in stopped.stderr
    if code > 0:
        assert f"stopped at step {step} of 18" in stopped.stderr
        assert f"nin train --resume --out '{out}'" in stopped.stderr
        assert stopped.stdout == ""
    newest = max(path.stem for path in (out / "checkpoint").glob("step-*.json"))
    assert newest == f"step-{left_at:09d}"
    assert not (out / "result.json").exists()
    assert len(torchnin.training.Run(out).metrics) == left_at // PER_EPOCH

    answer = nin("train", "--resume", "--out", out)
    assert answer.code == 0, answer.err
    assert f"resuming {out} at step {left_at} of 18" in answer.err
    assert_same(out, whole)


def test_two_stops_are_no_worse_than_one(whole: Path, few_file: Path, tmp_path: Path, nin: Callable[..., Any]) -> None:
    out = tmp_path / "run"
    assert stop(2, 5, 1e9, "train", few_file, "--out", out, *OPTIONS).returncode == 130
    assert stop(9, 6, 0.0, "train", "--resume", "--out", out).returncode == -9
    assert nin("train", "--resume", "--out", out).code == 0
    assert_same(out, whole)


@pytest.fixture(scope="module")
def interrupted(few_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was killed after 14 steps, with checkpoints after 12 and 13."""
    out = tmp_path_factory.mktemp("interrupted") / "run"
    assert stop(9, 14, 0.0, "train", few_file, "--out", out, *OPTIONS).returncode == -9
    assert sorted(path.name for path in (out / "checkpoint").glob("step-*.json")) == ["step-000000012.json", "step-000000013.json"]
    return out


def copied(run: Path, target: Path) -> Path:
    shutil.copytree(run, target)
    return target


def sha256_of(checkpoint: Path) -> str:
    """Of the tensors of the one checkpoint there."""
    return hashlib.sha256(next(checkpoint.glob("*.safetensors")).read_bytes()).hexdigest()


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 1
    path.write_bytes(data[: len(data) // 2] if how == "truncated" else b"" if how == "empty" else data)


@pytest.mark.parametrize(("suffix", "how"), [(".safetensors", "truncated"), (".safetensors", "flipped"), (".json", "empty")])
def test_a_broken_checkpoint_is_passed_over_with_a_sentence(
    suffix: str, how: str, interrupted: Path, whole: Path, tmp_path: Path, nin: Callable[..., Any]
) -> None:
    out = copied(interrupted, tmp_path / "run")
    damage(out / "checkpoint" / f"step-000000013{suffix}", how)
    answer = nin("train", "--resume", "--out", out)
    assert answer.code == 0, answer.err
    assert "step-000000013" in answer.err
    assert "is broken" in answer.err
    assert "the checkpoint before it is used" in answer.err
    assert f"resuming {out} at step 12 of 18" in answer.err
    assert_same(out, whole)
    # Two whole ones are kept, and the broken one is not one of them.
    assert sorted(path.stem for path in (out / "checkpoint").glob("step-*.json")) == ["step-000000012", "step-000000018"]


def test_no_whole_checkpoint_is_said_so(interrupted: Path, tmp_path: Path, nin: Callable[..., Any]) -> None:
    out = copied(interrupted, tmp_path / "run")
    for path in (out / "checkpoint").glob("*.safetensors"):
        damage(path, "flipped")
    answer = nin("train", "--resume", "--out", out)
    assert answer.code == 1
    assert answer.err.count("is broken") == 2
    assert "holds no whole checkpoint to resume from; train anew with --overwrite" in answer.err


def test_a_stop_after_the_last_step_needs_no_training(whole: Path, few_file: Path, tmp_path: Path, nin: Callable[..., Any]) -> None:
    out = copied(whole, tmp_path / "run")
    os.unlink(out / "result.json")  # the last file that a run writes
    assert nin("train", "--resume", "--out", out).code == 0
    assert_same(out, whole)


def test_a_finished_run_whose_classifier_is_gone_makes_it_again(whole: Path, tmp_path: Path, nin: Callable[..., Any]) -> None:
    out = copied(whole, tmp_path / "run")
    shutil.rmtree(out / "classifier")
    assert f"nin train --resume --out {out}" in nin("evaluate", out).err
    assert nin("train", "--resume", "--out", out).code == 0
    assert_same(out, whole)


def test_a_finished_run_is_returned_as_it_is(whole: Path, nin: Callable[..., Any]) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.rglob("*")}
    answer = nin("train", "--resume", "--out", whole, "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["test_accuracy"] == torchnin.training.Run(whole).result["test_accuracy"]
    assert {path: path.stat().st_mtime_ns for path in whole.rglob("*")} == before


def test_resumed_from_elsewhere_the_data_are_found(few_file: Path, tmp_path: Path, nin: Callable[..., Any], monkeypatch: Any) -> None:
    """A relative path, as users type it, and another working folder when resuming."""
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "mine.npz").write_bytes(few_file.read_bytes())
    out = tmp_path / "run"
    stopped = stop(2, 3, 1e9, "train", "mine.npz", "--out", out, *OPTIONS, cwd=tmp_path / "here")
    assert stopped.returncode == 130, stopped.stderr
    monkeypatch.chdir(tmp_path)
    answer = nin("train", "--resume", "--out", out)
    assert answer.code == 0, answer.err


def test_data_that_changed_meanwhile_are_refused(interrupted: Path, few: Any, few_file: Path, tmp_path: Path) -> None:
    out = copied(interrupted, tmp_path / "run")
    pixels = few.train.images.copy()
    pixels[17, 0, 3, 3] ^= 1
    data = ((pixels, few.train.labels), (few.test.images, few.test.labels))
    recorded = torchnin.training.Run(out).config
    network = torchnin.NiN(torchnin.NiNConfig.from_dict(recorded["network"]))
    with pytest.raises(ValueError, match="begun with other data"):
        torchnin.train(
            network, data, torchnin.Recipe.from_dict(recorded["recipe"]), out=out, seed=4, validation=0.1, resume=True, quiet=True
        )


def test_a_run_from_when_recipes_had_fewer_fields(interrupted: Path, few_file: Path, tmp_path: Path) -> None:
    out = copied(interrupted, tmp_path / "run")
    config = torchnin.training.Run(out).config
    network, recipe = torchnin.NiN(torchnin.NiNConfig.from_dict(config["network"])), torchnin.Recipe.from_dict(config["recipe"])
    del config["recipe"]["class_weights"]
    torchnin.training.Run(out).write_config(config)
    run = torchnin.train(network, str(few_file), recipe, out=out, seed=4, validation=0.1, resume=True, quiet=True)
    assert len(run.metrics) == 2


def test_what_nobody_asked_for_is_not_said_to_be(interrupted: Path, tmp_path: Path, nin: Callable[..., Any]) -> None:
    answer = nin("train", "--resume", "--out", copied(interrupted, tmp_path / "run"))
    assert "(as the run was begun)" in answer.err
    assert "asked for" not in next(line for line in answer.err.splitlines() if line.startswith("dtype"))


def test_another_recipe_is_refused(interrupted: Path, few_file: Path, tmp_path: Path) -> None:
    out = copied(interrupted, tmp_path / "run")
    config = torchnin.training.Run(out).config
    network = torchnin.NiNConfig.from_dict(config["network"])
    recipe = torchnin.Recipe.from_dict({**config["recipe"], "lr": 0.07})
    with pytest.raises(
        ValueError, match=r"begun with recipe\.lr = 0\.05, not 0\.07; resume it as it was begun, or train anew with --overwrite"
    ):
        torchnin.train(network, str(few_file), recipe, out=out, seed=4, validation=0.1, resume=True, quiet=True)


def test_a_checkpoint_of_another_training_is_told_by_name(interrupted: Path, tmp_path: Path, nin: Callable[..., Any]) -> None:
    """Found by fuzzing: whole in itself, and yet not of this network."""
    out = copied(interrupted, tmp_path / "run")
    checkpoint, _ = read_checkpoint(out / "checkpoint")
    write_checkpoint(out / "checkpoint", Checkpoint(tensors={"sums": torch.zeros(3)}, progress=checkpoint.progress))
    answer = nin("train", "--resume", "--out", str(out))
    assert answer.code == 1
    assert "is not of this network and recipe" in answer.err
    assert "--overwrite" in answer.err


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"step": None}, "is broken (progress.step: expected a whole number of at least 0, found null); the checkpoint before it is used"),
        ({"rows": [3]}, "is broken (progress.rows[0]: expected an object, found 3); the checkpoint before it is used"),
    ],
)
def test_values_of_another_type_make_a_checkpoint_broken(
    changed: dict[str, Any], told: str, interrupted: Path, whole: Path, tmp_path: Path, nin: Callable[..., Any]
) -> None:
    """Its checksums are right, so whoever wrote it meant it so; it is passed over all the same."""
    out = copied(interrupted, tmp_path / "run")
    checkpoint, _ = read_checkpoint(out / "checkpoint")
    write_checkpoint(tmp_path / "aside", checkpoint)
    data = json.dumps({"sha256": sha256_of(tmp_path / "aside"), "progress": checkpoint.progress | changed}).encode()
    (out / "checkpoint" / "step-000000013.json").write_bytes(_sealed(data))
    answer = nin("train", "--resume", "--out", str(out))
    assert answer.code == 0, answer.err
    assert f"{out / 'checkpoint' / 'step-000000013.json'} {told}" in answer.err
    assert_same(out, whole)


def test_a_checkpoint_that_stands_elsewhere_is_told_by_name(interrupted: Path, tmp_path: Path, nin: Callable[..., Any]) -> None:
    out = copied(interrupted, tmp_path / "run")
    checkpoint, _ = read_checkpoint(out / "checkpoint")
    write_checkpoint(out / "checkpoint", Checkpoint(tensors=checkpoint.tensors, progress=checkpoint.progress | {"step": 1000}))
    answer = nin("train", "--resume", "--out", str(out))
    assert answer.code == 1
    assert "is not of this network and recipe (it stands at step 1000 of 18, with the lines of 1 epochs)" in answer.err


class Killed(BaseException):
    """In place of a signal that nobody hears."""


def test_what_is_given_on_a_resume_holds_on_the_next_one(tiny: torchnin.NiNConfig, few_file: Path, tmp_path: Path) -> None:
    seen: list[int] = []

    def killed(training: loop.Training) -> None:
        seen.append(training.gradient.pieces)
        raise Killed

    def stopped(run: torchnin.Run) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    classifier = torchnin.Classifier(torchnin.NiN(tiny), torchnin.Preprocessing(**ONE), [str(label) for label in range(10)])
    recipe, out = torchnin.Recipe(num_epochs=2, batch_size=40, initialisation="as built"), tmp_path / "run"
    with pytest.raises(torchnin.Interrupted):
        torchnin.train(classifier, str(few_file), recipe, out=out, accumulate=4, quiet=True, on_epoch=stopped)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop.Training, "go", killed)
        for given in (None, 8, None, 2, None):
            with pytest.raises(Killed):
                torchnin.resume(out, accumulate=given, quiet=True)
    assert seen == [4, 8, 8, 2, 2]
    run = torchnin.resume(out, quiet=True)
    assert run.classifier.metadata["begun_from"] == run.config["begun_from"]
