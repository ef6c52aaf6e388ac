"""Numbers and switches of any library as Python's own, which is what records can be written of; numbers in words, names on a line,
comma-separated values.
"""

import csv
import io
import operator
import unicodedata
from collections.abc import Iterable
from typing import Any


def whole(name: str, value: Any, meaning: str) -> int:
    """A whole number, also numpy's or torch's.

    Raises:
        ValueError: it is none; the message says of `name` what it is instead, its `meaning`.
    """
    try:
        return int(operator.index(value))
    except TypeError:
        raise ValueError(f"{name} is {value!r}; it is {meaning}") from None


def real(name: str, value: Any, meaning: str) -> float:
    """A number, also numpy's or torch's; text is none.

    Raises:
        ValueError: as for `whole`.
    """
    try:
        return float(value.__float__())
    except (AttributeError, TypeError, ValueError, RuntimeError, OverflowError):
        raise ValueError(f"{name} is {value!r}; it is {meaning}") from None


def counted(number: int, thing: str) -> str:
    """`1 epoch`, `2 epochs`: so many of a thing whose plural ends in s."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def on_one_line(text: str) -> str:
    """A name as it is shown in a line of text: line breaks and other control characters as Python escapes them."""
    return "".join(c.encode("unicode_escape").decode() if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text)


def comma_separated(cells: Iterable[object]) -> str:
    """A line of comma-separated values, without its end; None is an empty cell."""
    text = io.StringIO()
    # Before Python 3.13 a line break in a cell is quoted only where the line's end has it, too.
    csv.writer(text, lineterminator="\r\n").writerow(cells)
    return text.getvalue().removesuffix("\r\n")


_NO_WIDTH = ("Mn", "Me", "Cf")  # Thai and Indian vowel signs are marks, too, whose combining class is 0


def columns_of(text: str) -> int:
    """Columns of a terminal that the text takes: Chinese, Japanese and Korean characters take two, marks on other characters none."""
    return sum(0 if unicodedata.category(c) in _NO_WIDTH else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)


def padded(text: str, width: int) -> str:
    """The text with spaces behind it up to so many columns of a terminal."""
    return text + " " * (width - columns_of(text))


def switch(name: str, value: Any, meaning: str = "True or False") -> bool:
    """True or False, also numpy's; no number stands for either.

    Raises:
        ValueError: as for `whole`.
    """
    if isinstance(value, bool) or getattr(getattr(value, "dtype", None), "kind", None) == "b":
        return bool(value)
    raise ValueError(f"{name} is {value!r}; it is {meaning}")
