"""Pages whose tables are made from the recorded results: made, filled in, written, or checked.

A table stands between `<!-- NAME -->`, or `<!-- NAME: how it is made -->`, and `<!-- end -->`.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

Makers = Mapping[str, Callable[[str], str]]
"""By the name of its place, what makes a table in a language, `en` or `zh`."""


def recorded(path: Path) -> dict[str, Any]:
    """A recorded result."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Markdown; the first `left` columns are words, the others numbers."""
    rule = "|".join(["---"] * left + ["---:"] * (len(header) - left))
    return "\n".join((_line(header), f"|{rule}|", *map(_line, rows)))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def filled(page: str, language: str, makers: Makers) -> str:
    """A page with its tables made anew.

    Raises:
        ValueError: the page has not one place for each table.
    """
    for name, make in makers.items():
        made = make(language)
        pattern = rf"(<!-- {re.escape(name)}(?:: [^>]*)? -->\n).*?(<!-- end -->)"
        page, count = re.subn(pattern, lambda match, made=made: f"{match[1]}{made}\n{match[2]}", page, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"the page has {count} places marked <!-- {name} -->; it needs one")
    return page


def write_or_check(description: str, command: str, pages: Mapping[Path, tuple[str, Makers]]) -> None:
    """The command of a file that makes pages: write their tables, or with `--check` fail where one is not up to date."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where a page is not up to date")
    check = parser.parse_args().check
    for path, (language, makers) in pages.items():
        page = path.read_text(encoding="utf-8")
        wanted = filled(page, language, makers)
        if check and page != wanted:
            sys.exit(f"{path.name}: its tables are not what the recorded results say; run {command}")
        if not check:
            path.write_text(wanted, encoding="utf-8")
