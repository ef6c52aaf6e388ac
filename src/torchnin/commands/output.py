"""How commands speak: results on standard output, everything else on standard error."""

import contextlib
import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from torchnin.values import columns_of, padded


class UnreadError(BrokenPipeError):
    """Nobody reads standard output any more, as after `nin predict ... | head`."""


def never_fail_to_print() -> None:
    """What a stream's encoding lacks, such as the bytes of a file's name that are no UTF-8, is written as an escape instead of raising.

    A stream that is closed, as by `nin ... 2>&-` and for some daemons, takes everything and keeps nothing: Python has None for it, and
    `print` would write to standard output in its place.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def to_json(value: Any, **given: Any) -> str:
    """JSON for standard output: with letters as they are where it takes all of them, else with JSON's own escapes."""
    # Of what UTF-8 lacks, halves of pairs, the escape that the stream writes is JSON's too.
    takes_all = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("-", "") == "utf8"
    return json.dumps(value, ensure_ascii=not takes_all, **given)


def result(document: dict[str, Any] | list[Any], text: str, as_json: bool) -> None:
    """Print a command's result: one JSON document, or the text for people."""
    write(to_json(document, indent=2, allow_nan=False) if as_json else text)


def write(text: str, end: str = "\n") -> None:
    """Print a part of a command's result.

    Raises:
        UnreadError: nobody reads it.
    """
    with for_a_reader():
        print(text, end=end)


@contextlib.contextmanager
def for_a_reader() -> Iterator[None]:
    """Around what writes on standard output and nothing else, to tell its reader's leaving from other pipes that break.

    Raises:
        UnreadError: nobody reads it.
    """
    try:
        yield
    except BrokenPipeError as error:
        raise UnreadError(*error.args) from None


def note(text: str) -> None:
    """Say something beside the result; where nobody takes it the work goes on, which may be hours of it."""
    with contextlib.suppress(OSError):
        print(text, file=sys.stderr)


def let_go() -> None:
    """Write out what is said, and drop what nobody takes: the interpreter would complain of it at its end, and exit with 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Columns in line; those numbered in `right` are flush right."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(columns_of(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else padded(cell, width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
