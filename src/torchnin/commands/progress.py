"""Progress bars, on standard error."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from torchnin.commands.output import note, write
from torchnin.files import unfailing

_SHOW_SECONDS = 0.1


@contextlib.contextmanager
def data_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """What `load_dataset` tells its progress; it draws bars where standard error is a terminal, else a line when something begins."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    console = Console(file=unfailing(sys.stderr), stderr=True)
    name = TextColumn("{task.description}", markup=False)
    in_bytes = Progress(name, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn(), console=console)
    in_pictures = Progress(name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console)
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int | None) -> None:
        bar = in_pictures if what.endswith(" pictures") else in_bytes
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
            if not console.is_terminal:
                note(what)
        bar.update(tasks[what], completed=done, total=total)

    with Live(Group(in_bytes, in_pictures), console=console, transient=True) if console.is_terminal else contextlib.nullcontext():
        yield report


@contextlib.contextmanager
def picture_bar(count: Callable[[], int]) -> Iterator[Callable[[str | None], None]]:
    """Takes the line of each picture, None for one without, and prints it; draws a bar where standard error is a terminal.

    Only there `count` is asked how many pictures there will be.
    """
    if not sys.stderr.isatty():  # before anything of rich is imported, which takes a while
        yield lambda line: None if line is None else write(line)
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(file=unfailing(sys.stderr), stderr=True)
    if not console.is_terminal:
        yield lambda line: None if line is None else write(line)
        return
    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"), TimeRemainingColumn())
    # Where lines and bar share a terminal, lines are written above the bar, some at a time because each time the bar is drawn anew.
    together, lines = sys.stdout.isatty(), list[str]()
    begun = shown = time.monotonic()
    done = 0

    def show() -> None:
        bar.update(task, completed=done, rate=f"{done / (time.monotonic() - begun):,.0f} pictures/s")
        if lines:
            console.print("\n".join(lines), markup=False, emoji=False, highlight=False, soft_wrap=True)
            lines.clear()

    def say(line: str | None) -> None:
        nonlocal done, shown
        done += 1
        if line is not None and together:
            lines.append(line)
        elif line is not None:
            write(line)
        if line is None or time.monotonic() - shown > _SHOW_SECONDS:
            show()
            shown = time.monotonic()

    with Progress(*columns, console=console, transient=True, redirect_stdout=False) as bar:
        task = bar.add_task("", total=count(), rate="")
        try:
            yield say
        finally:
            show()
