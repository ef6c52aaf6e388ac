"""What a training reports to beside the terminal."""

import errno
import io
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from torchnin import DatasetSplits, Interrupted, NiNConfig, Recipe, Run, train
from torchnin.commands.main import main
from torchnin.training.log import Both, Lines, Live, Silent, TensorBoard, make_display


def figures(run: Run) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run: (epoch, value) by name."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    found = accumulator.EventAccumulator(str(run.path / "tensorboard")).Reload()
    return {name: [(event.step, event.value) for event in found.Scalars(name)] for name in found.Tags()["scalars"]}


class StopAfter(Silent):
    """Asks to stop after an epoch, as Ctrl-C does."""

    def __init__(self, epoch: int) -> None:
        self._epoch = epoch

    def end_epoch(self, row: Mapping[str, Any], num_epochs: int) -> None:
        if row["epoch"] == self._epoch:
            os.kill(os.getpid(), signal.SIGINT)


class Unread(io.StringIO):
    """A stream that nobody reads."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self._error = error

    def write(self, text: str) -> int:
        raise self._error


UNREAD = [BrokenPipeError(), OSError(errno.EIO, "Input/output error")]  # a pipe, a terminal that was closed
ROW = {"epoch": 1, "train_loss": 1.0, "train_accuracy": 0.5, "images_per_second": 9.0, "seconds": 1.0}


@pytest.mark.parametrize("error", UNREAD, ids=["pipe", "terminal"])
def test_lines_that_nobody_takes_are_lost(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Unread(error))
    Lines().note("said")
    Lines().end_epoch(ROW, 2)


@pytest.mark.parametrize("error", UNREAD, ids=["pipe", "terminal"])
def test_a_bar_that_nobody_sees_is_lost(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr(sys, "stderr", Unread(error))
    display = make_display()
    assert isinstance(display, Live)
    display.note("said")
    display.begin_epoch(1, 2, 0, 10)
    display.step(5, 1.0, 0.5, 9.0)
    display.end_epoch(ROW, 2)
    display.close()


def test_tensorboard_shows_every_epoch_once(few_file: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run = tmp_path / "run"
    given = ["train", str(few_file), "--num-epochs", "2", "--batch-size", "320", "--validation", "0.2", "--out", str(run), "--tensorboard"]
    with pytest.raises(SystemExit) as ended:
        main(given)
    assert not ended.value.code
    found, rows = figures(Run(run)), Run(run).metrics
    for name, key in {"loss/train": "train_loss", "accuracy/train": "train_accuracy", "accuracy/validation": "validation_accuracy"}.items():
        assert found[name] == [(row["epoch"], pytest.approx(row[key], rel=1e-6)) for row in rows]
    assert {"lr", "images_per_second", "seconds", "dead/class maps"} <= found.keys()


def test_a_resumed_run_goes_on_there(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    recipe, out = Recipe(num_epochs=3, batch_size=320), tmp_path / "run"
    with pytest.raises(Interrupted):
        train(tiny, few, recipe, out=out, quiet=True, watcher=Both(TensorBoard(), StopAfter(2)))
    run = train(tiny, few, recipe, out=out, quiet=True, resume=True, watcher=TensorBoard())
    assert [epoch for epoch, _ in figures(run)["loss/train"]] == [1, 2, 3]
    train(tiny, few, recipe, out=out, quiet=True, overwrite=True)
    assert not (out / "tensorboard").exists()


def test_an_epoch_that_is_done_anew_is_shown_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    (tmp_path / "metrics.jsonl").write_text("")
    board = TensorBoard()
    board.begin(tmp_path)
    for epoch, loss in ((1, 3.0), (2, 2.0), (3, 9.0), (2, 1.5), (3, 1.0)):  # it went back before the end of the second
        board.end_epoch({"epoch": epoch, "train_loss": loss, "findings": []}, 3)
    board.close()
    assert figures(Run(tmp_path))["loss/train"] == [(1, 3.0), (2, 1.5), (3, 1.0)]


def test_without_the_extra_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'torchnin\[tensorboard\]'"):
        TensorBoard()
