"""The picture of how fast networks learn has its title, its unit and its words in both languages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torchnin import plots


def draw(path: Path, **options: Any) -> None:
    rates = {"nin_d2l": {"first": (50.0, 45.0, 52.0), "second": (3000.0, 2900.0, 3100.0)}}
    plots.training_speeds(rates, {"nin_d2l": 4000.0}, path, **options)


def test_the_speeds_have_their_words(has_its_words: Callable[..., None]) -> None:
    has_its_words(
        draw,
        [
            "How fast the networks learn",
            "nin_d2l",
            "first",
            "50",
            "3,000 (60.0 times)",
            "bound",
            "4,000",
            "images per second, of the step alone",
        ],
        ["各网络的训练速度", "上限", "3,000（60.0 倍）", "每秒训练图片数"],
    )


def test_the_speeds_are_a_file_of_the_kind_its_name_says(is_a_file_of_its_kind: Callable[..., None]) -> None:
    is_a_file_of_its_kind(draw)
