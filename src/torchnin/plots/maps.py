"""Pictures of a network's inside: class maps over the picture, feature maps, the MLP at a pixel."""

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .style import (
    BLACK,
    BLUE,
    DIVERGING,
    GREY,
    ORANGE,
    SEQUENTIAL,
    SMALL,
    Language,
    bare,
    clipped,
    drawing,
    grey_of,
    plain,
    show_picture,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ROW_WIDTH = 10.4  # inches
_MOST_PIXELS = 1200  # a side; more than the drawing can show
_TILES_PER_ROW = 16
_MAP_OPACITY = 0.62
_MOST_BARS = 300  # side by side; narrower ones fall between two dots, and are not drawn


def class_maps_over_picture(
    picture: np.ndarray,
    maps: np.ndarray,
    names: Sequence[str],
    probabilities: Sequence[float],
    logits: Sequence[float],
    path: str | os.PathLike[str],
    *,
    values: tuple[int, int] | None = None,
    seen: tuple[int, int] | None = None,
    given: tuple[int, int] | None = None,
    language: Language = "en",
) -> None:
    """Draw the picture, then each class map over it, all on one colour scale.

    Contour lines with their values mark the colour bar's ticks, solid above zero, dotted at zero and dashed below, so
    that the maps are read in grey too. Maps that are nowhere negative get a scale from zero up; others one that is symmetric about zero.

    Args:
        picture: uint8 `(c, h, w)`.
        maps: float `(k, y, x)`, the class maps over the whole picture, in any resolution, in units of the logit.
        names: the k classes' names.
        probabilities: the k classes' probabilities, 0 to 1.
        logits: the means of the k maps before they were brought to the picture's resolution.
        path: the file to write.
        values: rows and columns of the maps as the network computed them; written below with the next two.
        seen: rows and columns of pixels that such a value sees at most, which is how finely a map can be read.
        given: rows and columns of the picture that the network was given.
        language: of the words, "en" or "zh".
    """
    say = words(language)
    _, height, width = picture.shape
    signed, limit = bool(maps.min() < 0), float(np.abs(maps).max()) or 1.0
    count = 1 + len(maps)
    per_row = 4 if width <= 3 * height else 2 if width <= 6 * height else 1  # wide pictures need the width of the page
    columns, side = min(count, per_row), _ROW_WIDTH / per_row
    rows = math.ceil(count / columns)
    panel = min(max(0.96 * side * height / width, 1.2 if rows == 1 else 0.3), 5.0)
    with drawing(path, width=side * columns + 0.9, height=(panel + 0.65) * rows + 0.5, title=say("class_maps")) as figure:
        panels = figure.subplots(rows, columns, squeeze=False).flatten()
        plain(panels[0], title=say("picture"), grid=False)
        extent = _in_pixels(panels[0], picture, side, panel)
        grey, maps = grey_of(_thinned(picture)), _thinned(maps)
        for axes, one, name, probability, logit in zip(panels[1:count], maps, names, probabilities, logits, strict=True):
            bare(axes, f"{clipped(name, 34)}\n{say('probability', probability=probability, logit=logit)}")
            # The picture only from middle grey to white, so that its dark parts do not swallow the colours.
            axes.imshow(grey, cmap="gray", vmin=-200, vmax=255, extent=extent, interpolation="nearest")
            drawn = axes.imshow(
                one,
                cmap=DIVERGING if signed else SEQUENTIAL,
                vmin=-limit if signed else 0,
                vmax=limit,
                alpha=_MAP_OPACITY,
                extent=extent,
                interpolation="nearest",
            )
        if values and seen and given:
            sides = {name: "x".join(map(str, sides)) for name, sides in (("values", values), ("seen", seen), ("given", given))}
            figure.supxlabel(say("seen", **sides), fontsize=SMALL + 1)
        # Without panchor narrow pictures stand at the right of their places, and their titles reach into the bar.
        bar = figure.colorbar(drawn, ax=list(panels), shrink=0.9, aspect=30 * rows, pad=0.015, panchor=False)
        bar.set_label(say("class_map"), fontsize=SMALL + 1)
        bar.ax.tick_params(labelsize=SMALL)
        for axes, one in zip(panels[1:count], maps, strict=True):
            _contours(axes, one, extent, bar.get_ticks())
        for axes in panels[count:]:
            axes.set_axis_off()


def drawn_size(height: int, width: int) -> tuple[int, int]:
    """Rows and columns that are drawn of maps over a picture of this size: more cannot be seen."""
    every = _every(height, width)
    return math.ceil(height / every), math.ceil(width / every)


def _every(height: int, width: int) -> int:
    return max(1, math.ceil(max(height, width) / _MOST_PIXELS))


def _thinned(values: np.ndarray) -> np.ndarray:
    every = _every(*values.shape[1:])
    return values[:, ::every, ::every]


def _in_pixels(axes: "Axes", picture: np.ndarray, wide: float, high: float) -> tuple[float, float, float, float]:
    """Show a picture within so many inches, its sides marked in its own pixels, and give the place of the whole of it there."""
    _, height, width = picture.shape
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    show_picture(axes, _thinned(picture), extent=extent)
    scale = min(wide / width, high / height)
    for axis, pixels in ((axes.xaxis, width), (axes.yaxis, height)):
        if pixels * scale < 0.5:  # too short for two numbers
            axis.set_ticks([0])
    return extent


def _contours(axes: "Axes", values: np.ndarray, extent: tuple[float, ...], ticks: np.ndarray) -> None:
    levels = [float(tick) for tick in ticks if values.min() < tick < values.max()]
    if min(values.shape) < 2 or not levels:
        return
    height, width = values.shape
    left, right, bottom, top = extent
    x = left + (np.arange(width) + 0.5) * (right - left) / width
    y = top + (np.arange(height) + 0.5) * (bottom - top) / height
    styles: Any = ["dashed" if level < 0 else "solid" if level > 0 else "dotted" for level in levels]
    widths = [0.8 if level else 0.6 for level in levels]
    lines = axes.contour(x, y, values, levels=levels, colors=BLACK, linewidths=widths, linestyles=styles)
    for text in axes.clabel(lines, fmt="%g", fontsize=SMALL - 1.5):  # so that the values are read in grey as well
        text.set_rotation(0)  # a 6 on its head is a 9


def feature_maps(
    blocks: Sequence[np.ndarray],
    path: str | os.PathLike[str],
    *,
    class_names: Sequence[str] = (),
    most: int = 32,
    language: Language = "en",
) -> None:
    """Draw the channels after each block as tiles, one colour scale a block.

    Args:
        blocks: the output of each block in order, float `(c, y, x)`; the last are the class maps.
        path: the file to write.
        class_names: of the last block's channels, written below them where they fit.
        most: channels drawn of each block, the first ones; at least 1.
        language: of the words, "en" or "zh".
    """
    say = words(language)
    mosaics = [_mosaic(maps[:most]) for maps in blocks]
    heights = [min(max(9.0 * mosaic.shape[0] / mosaic.shape[1], 0.6), 6.0) for mosaic in mosaics]
    with drawing(path, width=10, height=sum(heights) + 0.45 * len(blocks) + 0.5, title=say("feature_maps")) as figure:
        panels = figure.subplots(len(blocks), 1, squeeze=False, height_ratios=heights).flatten()
        for number, (axes, maps, mosaic) in enumerate(zip(panels, blocks, mosaics, strict=True), start=1):
            shape = "x".join(map(str, maps.shape))
            bare(axes, say("part" if len(maps) <= most else "part_of", number=number, shape=shape, shown=most))
            axes.spines[:].set_visible(False)
            signed, limit = bool(maps.min() < 0), float(np.abs(maps[:most]).max()) or 1.0
            drawn = axes.imshow(
                mosaic,
                cmap=DIVERGING if signed else SEQUENTIAL,
                vmin=-limit if signed else 0,
                vmax=limit,
                interpolation="nearest",
            )
            bar = figure.colorbar(drawn, ax=axes, aspect=12, pad=0.01)
            bar.ax.tick_params(labelsize=SMALL)
            bar.ax.locator_params(nbins=4)
            bar.set_label(say("activation"), fontsize=SMALL)
        shown = min(most, len(class_names))
        if 0 < shown <= _TILES_PER_ROW:
            side = blocks[-1].shape[2]
            panels[-1].set_xticks([(side + _gap(side)) * index + (side - 1) / 2 for index in range(shown)])
            panels[-1].set_xticklabels([clipped(name, 125 // shown) for name in class_names[:shown]], fontsize=SMALL)
            panels[-1].tick_params(length=0)


def _gap(side: int) -> int:
    return max(1, round(side / 12))


def _mosaic(maps: np.ndarray) -> np.ndarray:
    """The maps side by side with a gap between them, rows filled up with nothing."""
    count, height, width = maps.shape
    columns = min(count, _TILES_PER_ROW)
    rows = math.ceil(count / columns)
    gap = _gap(width)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap), np.nan)
    for index, one in enumerate(maps):
        top, left = (height + gap) * (index // columns), (width + gap) * (index % columns)
        sheet[top : top + height, left : left + width] = one
    return sheet


def pixel_mlp(
    picture: np.ndarray,
    place: tuple[int, int],
    blocks: Sequence[tuple[tuple[int, int], Sequence[tuple[str, np.ndarray]]]],
    path: str | os.PathLike[str],
    *,
    class_names: Sequence[str] = (),
    language: Language = "en",
) -> None:
    """Draw what the 1 x 1 convolutions make of one pixel: its channels before and after each of them.

    Args:
        picture: uint8 `(c, h, w)`.
        place: `(x, y)` of the pixel in the picture, from the left and from the top.
        blocks: of each NiN block the `(row, column)` that belongs to the pixel, and its layers: the name and the channels'
            values `(channels,)` after it.
        path: the file to write.
        class_names: of the last block's channels; left out where they would not fit.
        language: of the words, "en" or "zh".
    """
    say = words(language)
    columns = max(len(layers) for _, layers in blocks)
    title = say("pixel_mlp", x=place[0], y=place[1])
    with drawing(path, width=2.3 + 3.0 * columns, height=1.9 * len(blocks) + 0.6, title=title) as figure:
        left, right = figure.subfigures(1, 2, width_ratios=[2.3, 3.0 * columns], squeeze=False)[0]
        axes = plain(left.subplots(), title=say("picture"), grid=False)
        _in_pixels(axes, picture, 2.3, 5.0)
        axes.plot(*place, marker="+", markersize=14, markeredgewidth=3.5, color="white", clip_on=False)  # whole in the corners as well
        axes.plot(*place, marker="+", markersize=13, markeredgewidth=1.5, color=BLACK, clip_on=False)
        panels = right.subplots(len(blocks), columns, squeeze=False, sharey="row")
        for number, (row, ((y, x), layers)) in enumerate(zip(panels, blocks, strict=True), start=1):
            for axes, (layer, values) in zip(row, layers, strict=False):
                plain(axes, title=f"{layer} ({len(values)})", xlabel=say("channel"))
                width = max(1.0, len(values) / _MOST_BARS) if len(values) > 24 else 0.8
                axes.bar(np.arange(len(values)), values, width=width, color=np.where(values < 0, ORANGE, BLUE))
                axes.axhline(0, color=GREY, linewidth=0.6)
                axes.margins(x=0.01)
            for axes in row[len(layers) :]:
                axes.set_axis_off()
            row[0].set_ylabel(f"{say('place', number=number, row=y, column=x)}\n{say('activation')}", fontsize=SMALL)
        if class_names and len(class_names) <= 20:
            last = panels[-1][len(blocks[-1][1]) - 1]
            last.set_xticks(range(len(class_names)), [clipped(name, 16) for name in class_names], rotation=90, fontsize=SMALL)
            last.set_xlabel("")
