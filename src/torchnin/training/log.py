"""What a training shows while it runs: a live bar on a terminal, one plain line per epoch elsewhere, on standard error; and TensorBoard's
files.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from torchnin.files import unfailing


class Display(Protocol):
    """Where a training reports to."""

    def begin(self, path: Path) -> None:
        """The training is about to begin, or to go on, in this run folder; its configuration and metrics are written."""

    def note(self, text: str) -> None:
        """One sentence the user should see."""

    def begin_epoch(self, epoch: int, num_epochs: int, step: int, num_steps: int) -> None:
        """An epoch (from 1) begins at its `step`-th of `num_steps` steps."""

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float, dead_class_maps: Sequence[str] = ()) -> None:
        """Where the epoch stands: mean loss and accuracy (a fraction of one) so far, and the classes whose maps are dead."""

    def end_epoch(self, row: Mapping[str, Any], num_epochs: int) -> None:
        """An epoch is done; `row` is its line of `metrics.jsonl`."""

    def close(self) -> None:
        """The training ended, one way or another."""


class Silent:
    """Shows nothing."""

    def begin(self, path: Path) -> None:  # noqa: D102
        return

    def note(self, text: str) -> None:  # noqa: D102
        return

    def begin_epoch(self, epoch: int, num_epochs: int, step: int, num_steps: int) -> None:  # noqa: D102
        return

    def step(  # noqa: D102
        self, step: int, loss: float, accuracy: float, images_per_second: float, dead_class_maps: Sequence[str] = ()
    ) -> None:
        return

    def end_epoch(self, row: Mapping[str, Any], num_epochs: int) -> None:  # noqa: D102
        return

    def close(self) -> None:  # noqa: D102
        return


class Lines(Silent):
    """One plain line per epoch and per note, for files and pipes."""

    def note(self, text: str) -> None:
        """Print the sentence; where nobody takes it, as after `nin train 2>&1 | head`, the training goes on."""
        with contextlib.suppress(OSError):
            print(text, file=sys.stderr, flush=True)

    def end_epoch(self, row: Mapping[str, Any], num_epochs: int) -> None:
        """Print the epoch's line."""
        self.note(_line(row, num_epochs))


class Live(Silent):
    """A progress bar for the running epoch, with the finished epochs above it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:3.0f} %  {task.fields[figures]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
        )
        self._task = self._bar.add_task("", total=1, figures="", visible=False)
        self._bar.start()

    def note(self, text: str) -> None:
        """Print the sentence above the bar."""
        self._console.print(text, highlight=False, markup=False)

    def begin_epoch(self, epoch: int, num_epochs: int, step: int, num_steps: int) -> None:
        """Start the bar anew."""
        self._bar.reset(self._task, description=f"epoch {epoch}/{num_epochs}", total=num_steps, completed=step, figures="", visible=True)

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float, dead_class_maps: Sequence[str] = ()) -> None:
        """Move the bar."""
        figures = f"{images_per_second:,.0f} images/s  loss {loss:.3f}  accuracy {accuracy:.3f}"
        self._bar.update(self._task, completed=step, figures=figures)

    def end_epoch(self, row: Mapping[str, Any], num_epochs: int) -> None:
        """Leave the epoch's line above the bar."""
        self._bar.update(self._task, visible=False)
        self.note(_line(row, num_epochs))

    def close(self) -> None:
        """Take the bar away."""
        self._bar.stop()


class Both:
    """Two displays that are told the same."""

    def __init__(self, first: Display, second: Display) -> None:
        self._displays = (first, second)

    def begin(self, path: Path) -> None:  # noqa: D102
        for display in self._displays:
            display.begin(path)

    def note(self, text: str) -> None:  # noqa: D102
        for display in self._displays:
            display.note(text)

    def begin_epoch(self, epoch: int, num_epochs: int, step: int, num_steps: int) -> None:  # noqa: D102
        for display in self._displays:
            display.begin_epoch(epoch, num_epochs, step, num_steps)

    def step(  # noqa: D102
        self, step: int, loss: float, accuracy: float, images_per_second: float, dead_class_maps: Sequence[str] = ()
    ) -> None:
        for display in self._displays:
            display.step(step, loss, accuracy, images_per_second, dead_class_maps)

    def end_epoch(self, row: Mapping[str, Any], num_epochs: int) -> None:  # noqa: D102
        for display in self._displays:
            display.end_epoch(row, num_epochs)

    def close(self) -> None:  # noqa: D102
        for display in self._displays:
            display.close()


class EpochEnd(Silent):
    """Shows nothing, and calls a function after each epoch."""

    def __init__(self, call: Callable[[], None]) -> None:
        self._call = call

    def end_epoch(self, row: Mapping[str, Any], num_epochs: int) -> None:
        """Call it."""
        self._call()


class TensorBoard(Silent):
    """Writes the figures of each epoch for TensorBoard, into `tensorboard` of the run folder; needs the extra `tensorboard`.

    A resumed run goes on there, and what was written of an epoch that is done anew, as after recovering, is not shown.

    Raises:
        ModuleNotFoundError: the extra is not installed.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ModuleNotFoundError as missing:
            needed = "figures for TensorBoard need tensorboard, which is not installed: pip install 'torchnin[tensorboard]'"
            raise ModuleNotFoundError(needed, name=missing.name) from missing
        self._make = SummaryWriter
        self._writer: SummaryWriter | None = None
        self._folder, self._done = Path(), 0

    def begin(self, path: Path) -> None:
        """Open the files."""
        self._folder, self._done = path / "tensorboard", len((path / "metrics.jsonl").read_bytes().splitlines())
        self._writer = self._make(self._folder, purge_step=self._done + 1)

    def end_epoch(self, row: Mapping[str, Any], num_epochs: int) -> None:
        """Write the epoch's figures and what the monitor found in it."""
        assert self._writer is not None, "the training has not begun"
        if row["epoch"] <= self._done:  # it went back, to recover
            self._writer.close()
            self._writer = self._make(self._folder, purge_step=row["epoch"])
        self._done = row["epoch"]
        for name, value in _figures(row):
            self._writer.add_scalar(name, value, row["epoch"])
        for finding in row["findings"]:
            self._writer.add_text("findings", finding["message"], row["epoch"])
        self._writer.flush()

    def close(self) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()


def make_display(quiet: bool = False, watcher: Display | None = None) -> Display:
    """A live bar where standard error is a terminal, plain lines elsewhere, nothing when quiet; beside it, `watcher` is told all."""
    console = Console(file=unfailing(sys.stderr), stderr=True)
    display: Display = Silent() if quiet else Live(console) if console.is_terminal else Lines()
    return display if watcher is None else Both(display, watcher)


def _figures(row: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """An epoch's numbers by the names under which TensorBoard groups them."""
    names = {"train_loss": "loss/train", "dead_class_maps": "dead/class maps"}
    for key, value in row.items():
        if key == "dead_channels":
            yield from ((f"dead/channels of {block}", share) for block, share in value.items())
        elif key not in ("epoch", "findings"):
            split, _, what = key.rpartition("_")
            yield names.get(key, f"accuracy/{split}" if what == "accuracy" else key), value


def _line(row: Mapping[str, Any], num_epochs: int) -> str:
    held_out = f"  validation {row['validation_accuracy']:.4f}" if "validation_accuracy" in row else ""
    return (
        f"epoch {row['epoch']:>{len(str(num_epochs))}}/{num_epochs}  loss {row['train_loss']:.4f}  "
        f"train {row['train_accuracy']:.4f}{held_out}  {row['images_per_second']:,.0f} images/s  {row['seconds']:.1f} s"
    )
