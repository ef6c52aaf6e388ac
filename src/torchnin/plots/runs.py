"""Pictures of trainings: curves over the epochs."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .style import BLACK, BLUE, GREEN, ORANGE, SMALL, Language, drawing, plain, words

_SPLITS = (("train", BLUE, "-"), ("validation", ORANGE, "--"), ("test", GREEN, ":"))


def training_curves(
    rows: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    *,
    test_accuracy: float | None = None,
    title: str | None = None,
    language: Language = "en",
) -> None:
    """Draw loss and accuracy against the epoch.

    Args:
        rows: one mapping per epoch with `epoch` and, where they were measured, `train_loss`, `validation_loss`,
            `train_accuracy`, `validation_accuracy`, `test_accuracy` (fractions of one); None or a missing key leaves a gap.
        path: the file to write.
        test_accuracy: of the finished network, drawn as a point after the last epoch.
        title: what was trained; "Training" by default.
        language: of the words, "en" or "zh".

    Raises:
        ValueError: there are no rows.
    """
    say = words(language)
    if not rows:
        raise ValueError("there are no epochs to draw; training writes one line per epoch to metrics.jsonl")
    epochs = [row["epoch"] for row in rows]
    with drawing(path, width=9, height=3.6, title=title or say("curves")) as figure:
        for axes, measure in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
            plain(axes, xlabel=say("epoch"), ylabel=say(measure))
            for split, colour, dashes in _SPLITS:
                values = np.array([_number(row.get(f"{split}_{measure}")) for row in rows])
                if np.isfinite(values).any():
                    marker = "o" if len(rows) <= 30 else None
                    axes.plot(epochs, values, dashes, color=colour, marker=marker, markersize=3.5, linewidth=1.6, label=say(split))
            if measure == "accuracy" and test_accuracy is not None:
                axes.plot(
                    epochs[-1], test_accuracy, "D", color=BLACK, markersize=5, label=f"{say('test')} {test_accuracy:.4f}", clip_on=False
                )
            axes.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
            if axes.lines:
                axes.legend(fontsize=SMALL + 0.5, frameon=False)


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)
