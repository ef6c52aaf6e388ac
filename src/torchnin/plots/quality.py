"""Pictures of how good a classifier is: confusion, reliability of its probabilities, its mistakes."""

import math
import os
from collections.abc import Sequence

import numpy as np

from .style import BLACK, BLUE, GREY, SHARES, SMALL, Language, bare, clipped, drawing, plain, show_picture, words, wrapped

_NUMBERED = 20  # classes up to which the cells hold their counts
_NAMED = 120  # rows and columns that have names, at most
_LETTER = 0.65  # width of a digit, as a share of the letters' size, with some room


def confusion_matrix(
    confusion: np.ndarray,
    class_names: Sequence[str],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    language: Language = "en",
) -> None:
    """Draw the confusion matrix: colour is the share of the row, the numbers are counts of pictures.

    The colour scale is that of the square root, so that a mistake of one in a hundred is seen beside the diagonal. Of more than 120
    classes every second, every third or so is named.

    Args:
        confusion: counts `(k, k)`, rows true classes, columns predicted ones.
        class_names: the k classes' names.
        path: the file to write.
        title: what was evaluated; "Confusion matrix, in pictures" by default.
        language: of the words, "en" or "zh".
    """
    say = words(language)
    k = len(class_names)
    shares = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    side = min(max(0.5 * k if k <= _NUMBERED else 0.12 * k, 3.0), 12.0)
    with drawing(path, width=side + 2.6, height=side + 1.8, title=title or say("confusion")) as figure:
        from matplotlib.colors import PowerNorm

        axes = plain(figure.subplots(), xlabel=say("predicted"), ylabel=say("true"), grid=False)
        # Colours are looked up before the picture is enlarged: the same, and faster.
        drawn = axes.imshow(shares, cmap=SHARES, norm=PowerNorm(0.5, 0, 1), interpolation="nearest", interpolation_stage="rgba")
        named = range(0, k, math.ceil(k / _NAMED))
        size = SMALL + 0.5 if k <= _NUMBERED else 5.5
        names = [clipped(class_names[place], 24) for place in named]
        axes.set_xticks(named, names, rotation=90, fontsize=size)
        axes.set_yticks(named, names, fontsize=size)
        if k <= _NUMBERED:
            longest = len(f"{confusion.max():,}")
            size = min(SMALL, 72 * side / k / (_LETTER * longest))  # points: a cell's width over that of the longest count
            for (row, column), count in np.ndenumerate(confusion):
                if count:
                    colour = "white" if shares[row, column] > 0.3 else BLACK
                    axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=size, color=colour)
        bar = figure.colorbar(drawn, ax=axes, shrink=0.6, aspect=25, pad=0.02, ticks=[0, 0.01, 0.05, 0.2, 0.5, 1])
        bar.ax.set_yticklabels(["0", "0.01", "0.05", "0.2", "0.5", "1"])
        bar.set_label(say("share"), fontsize=SMALL + 1)
        bar.ax.tick_params(labelsize=SMALL)


def reliability_diagram(
    confidence: Sequence[float | None],
    accuracy: Sequence[float | None],
    num_pictures: Sequence[int],
    path: str | os.PathLike[str],
    *,
    calibration_error: float | None = None,
    title: str | None = None,
    language: Language = "en",
) -> None:
    """Draw the accuracy of the pictures in each bin of confidence, against the diagonal of perfect calibration, and their number.

    Args:
        confidence: mean confidence of the pictures in each of the bins, which share [0, 1] equally; None for an empty bin.
        accuracy: the share of them that is right; None for an empty bin.
        num_pictures: pictures in each bin.
        path: the file to write.
        calibration_error: the expected calibration error, written above the diagram.
        title: what was evaluated; "Reliability of the probabilities" by default.
        language: of the words, "en" or "zh".
    """
    say = words(language)
    bins = len(num_pictures)
    middles = (np.arange(bins) + 0.5) / bins
    full = [index for index in range(bins) if num_pictures[index]]
    with drawing(path, width=4.6, height=5.4, title=title or say("calibration")) as figure:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3.2, 1])
        plain(above, ylabel=say("accuracy"), title="" if calibration_error is None else say("error", error=calibration_error))
        heights = [accuracy[index] for index in full]
        above.bar(middles[full], heights, width=0.92 / bins, color=BLUE, alpha=0.45, label=say("observed"))
        above.plot([0, 1], [0, 1], "--", color=GREY, linewidth=1.2, label=say("ideal"))
        above.plot([confidence[index] for index in full], heights, "o", color=BLUE, markersize=4, label=say("bin"))
        above.set_ylim(0, 1.02)
        above.set_xlim(0, 1)
        # Beside the diagram: a bin of few pictures may be full anywhere, and a point of the legend is none of theirs.
        figure.legend(fontsize=SMALL + 0.5, frameon=False, loc="outside lower center", ncols=3)
        plain(below, xlabel=say("confidence"), ylabel=say("num_pictures"))
        below.bar(middles, num_pictures, width=0.92 / bins, color=GREY)


def picture_sheet(
    pictures: Sequence[np.ndarray],
    captions: Sequence[str],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    columns: int = 6,
    language: Language = "en",
) -> None:
    """Draw pictures in rows, each under its caption.

    Args:
        pictures: uint8 `(c, h, w)` each; sizes may differ.
        captions: one text per picture, of one or more lines.
        path: the file to write.
        title: what the pictures are; "Most confident mistakes" by default.
        columns: pictures in a row, at least 1.
        language: of the words, "en" or "zh".

    Raises:
        ValueError: there are no pictures, or not one caption each.
    """
    say = words(language)
    if len(pictures) == 0 or len(pictures) != len(captions):
        raise ValueError(
            f"{len(pictures)} pictures and {len(captions)} captions; a sheet needs at least one picture and a caption for each"
        )
    columns = min(columns, len(pictures))
    rows = math.ceil(len(pictures) / columns)
    captions = [wrapped(caption, 25) for caption in captions]
    lines = max(caption.count("\n") for caption in captions) + 1
    with drawing(
        path, width=max(1.55 * columns + 0.3, 3.0), height=(1.45 + 0.17 * lines) * rows + 0.5, title=title or say("mistakes")
    ) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        for axes, picture, caption in zip(panels, pictures, captions, strict=False):
            bare(axes)
            axes.set_title(caption, fontsize=SMALL)
            show_picture(axes, picture)
        for axes in panels[len(pictures) :]:
            axes.set_axis_off()


def mistakes(
    pictures: Sequence[np.ndarray],
    labels: Sequence[str],
    predicted: Sequence[str],
    confidences: Sequence[float],
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    language: Language = "en",
) -> None:
    """Draw wrongly classified pictures, each under its class, the class it was taken for and the probability given to that.

    Args:
        pictures: uint8 `(c, h, w)` each, the surest mistake first.
        labels: the name of each picture's class.
        predicted: the name of the class it was given.
        confidences: the probability of that, 0 to 1.
        path: the file to write.
        title: what was evaluated; "Most confident mistakes" by default.
        language: of the words, "en" or "zh".

    Raises:
        ValueError: there are no pictures.
    """
    say = words(language)
    captions = [
        say("taken", label=clipped(label, 24), predicted=clipped(given, 24), confidence=confidence)
        for label, given, confidence in zip(labels, predicted, confidences, strict=True)
    ]
    picture_sheet(pictures, captions, path, title=title, language=language)
