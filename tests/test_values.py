import csv
import io
import re
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
import torch

from torchnin.values import columns_of, comma_separated, counted, on_one_line, padded, real, switch, whole


def test_numbers_and_switches_of_any_library_become_pythons_own() -> None:
    for value in (3, np.int64(3), np.uint8(3), np.array(3), torch.tensor(3)):
        assert type(whole("epochs", value, "a whole number")) is int
        assert whole("epochs", value, "a whole number") == 3
    for number in (0.5, np.float32(0.5), np.array(0.5), torch.tensor(0.5), Fraction(1, 2)):
        assert type(real("lr", number, "a number")) is float
        assert real("lr", number, "a number") == 0.5
    assert real("lr", 1, "a number") == 1.0
    for truth in (True, np.True_, np.bool_(True)):
        assert switch("flip", truth) is True


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        *[(whole, value) for value in (3.0, "3", None, np.float64(3), torch.tensor(3.0), [3])],
        *[(real, value) for value in ("0.5", None, 1j, 10**400, np.array([0.5, 0.5]), torch.tensor([0.5, 0.5]))],
        *[(switch, value) for value in (0, 1, "True", None, np.int64(1), 1.0)],
    ],
)
def test_what_is_none_is_told_by_its_name_with_what_it_must_be(kind: Any, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'shift is {value!r}; it is a number of pixels')}$"):
        kind("shift", value, "a number of pixels")


def test_one_of_a_thing_is_no_plural() -> None:
    assert [counted(number, "epoch") for number in (0, 1, 2, 1000)] == ["0 epochs", "1 epoch", "2 epochs", "1,000 epochs"]


def test_a_name_is_shown_on_one_line_whatever_is_in_it() -> None:
    assert on_one_line("a\nb\r\tc\x1b[31m\u2028d\x85") == r"a\nb\r\tc\x1b[31m\u2028d\x85"
    for name in ("T-shirt/top", "外套　大", "🧑\u200d🌾", r"C:\new", "caf\u0301 \xa0", "\udc80"):
        assert on_one_line(name) == name


@pytest.mark.parametrize(
    ("name", "columns"),
    [
        ("T-shirt", 7),
        ("裤子", 4),
        ("가방", 4),
        ("กิน", 2),
        ("ที่นี่", 2),
        ("หมู", 2),
        ("बिल्ली", 5),
        ("कुत्ता", 4),
        ("cafe\u0301", 4),
        ("a\u200db", 2),
        ("", 0),
    ],
)
def test_marks_take_no_column_of_a_terminal(name: str, columns: int) -> None:
    assert columns_of(name) == columns
    assert padded(name, 8) == name + " " * (8 - columns)


def test_comma_separated_values_read_back_with_line_breaks_in_cells() -> None:
    cells = ["a\nb.png", "c\rd", 'e,"f"', "", "g"]
    assert next(csv.reader(io.StringIO(comma_separated(cells) + "\n", newline=""))) == cells
    assert comma_separated(["a", None, 0.5, 3]) == "a,,0.5,3"
