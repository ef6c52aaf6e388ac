"""A progress bar for downloads, on standard error."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def download_bar() -> Iterator[Callable[[str, int, int | None], None]]:
    """A callback `(what, bytes done, bytes in all or None)`; it draws bars where standard error is a terminal, else one line per file."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    tasks: dict[str, TaskID] = {}

    def report(what: str, done: int, total: int | None) -> None:
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
            if not console.is_terminal:
                console.print(f"downloading {what}", highlight=False, markup=False)
        bar.update(tasks[what], completed=done, total=total)

    with bar:
        yield report
