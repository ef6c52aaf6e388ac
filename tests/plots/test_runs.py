"""The picture of a training has its title, its units and its words in both languages."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from torchnin import plots

ROWS: list[dict[str, Any]] = [
    {"epoch": 1, "train_loss": 2.1, "train_accuracy": 0.3, "validation_accuracy": None, "lr": 0.1},
    {"epoch": 2, "train_loss": float("nan"), "train_accuracy": 0.5, "validation_accuracy": 0.45, "lr": 0.1},
]


def draw(path: Path, **options: Any) -> None:
    plots.training_curves(ROWS, path, test_accuracy=0.4567, **options)


def test_the_curves_have_their_words(has_its_words: Callable[..., None]) -> None:
    has_its_words(
        draw,
        ["Training", "epoch", "loss (cross-entropy)", "accuracy", "training", "validation", "test 0.4567"],
        ["训练过程", "轮次", "损失（交叉熵）", "准确率", "训练", "验证", "测试 0.4567"],
    )


def test_the_curves_are_a_file_of_the_kind_its_name_says(is_a_file_of_its_kind: Callable[..., None]) -> None:
    is_a_file_of_its_kind(draw)


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(ValueError, match="no epochs to draw"):
        plots.training_curves([], "curves.png")


def test_every_edge_of_the_data_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "drawn.pdf"
    plots.training_curves([{"epoch": 1}], path)  # nothing was measured
    plots.training_curves([{"epoch": epoch, "train_loss": 1 / epoch} for epoch in range(1, 200)], path)
