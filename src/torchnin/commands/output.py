"""How commands speak: results on standard output, everything else on standard error."""

import json
import sys
from collections.abc import Sequence
from typing import Any


def result(document: dict[str, Any] | list[Any], text: str, as_json: bool) -> None:
    """Print a command's result: one JSON document, or the text for people."""
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) if as_json else text)


def note(text: str) -> None:
    """Say something beside the result."""
    print(text, file=sys.stderr)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> str:
    """Columns in line; those numbered in `right` are flush right."""
    lines = [tuple(header), *map(tuple, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
