"""Pictures of how trainings fail: what reaches the class maps, when maps die, and what a dead map costs."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .style import BLUE, GREY, ORANGE, SMALL, Language, drawable, drawing, plain, words

_DEAD = "#4D4D4D"


def signal_at_the_start(
    starts: Mapping[str, tuple[Sequence[float], Sequence[int]]], path: str | os.PathLike[str], *, language: Language = "en"
) -> None:
    """Draw what of the pictures reaches each convolution before the first step, and how many class maps are dead then.

    Args:
        starts: by the name of the start: for each convolution the share of its output that differs from picture to picture (a fraction
            of one), and over how many seeds 0, 1, 2, ... class maps were dead.
        path: the file to write.
        language: of the words, "en" or "zh".
    """
    say = words(language)
    with drawing(path, width=9, height=3.6, title=say("start")) as figure:
        signal, deaths = figure.subplots(1, 2)
        plain(signal, xlabel=say("convolution"), ylabel=say("differs"))
        plain(deaths, xlabel=say("dead_maps"), ylabel=say("num_seeds"))
        width = 0.8 / len(starts)
        for number, ((name, (shares, counts)), colour) in enumerate(zip(starts.items(), (ORANGE, BLUE, GREY), strict=False)):
            signal.semilogy(range(1, len(shares) + 1), shares, "o-", color=colour, markersize=3.5, linewidth=1.6, label=name)
            places = np.arange(len(counts)) + (number - (len(starts) - 1) / 2) * width
            deaths.bar(places, counts, width=width, color=colour, label=name)
        signal.set_xticks(range(1, 1 + max(len(shares) for shares, _ in starts.values())))
        deaths.set_xticks(range(max(len(counts) for _, counts in starts.values())))
        deaths.yaxis.get_major_locator().set_params(integer=True)
        signal.set_ylim(top=1)
        signal.yaxis.set_major_formatter(lambda value, _place: f"{100 * value:.3g} %")  # the default writes powers, which need math text
        signal.legend(fontsize=SMALL + 0.5, frameon=False)


def class_map_lives(
    runs: Sequence[Mapping[str, Any]], class_names: Sequence[str], path: str | os.PathLike[str], *, language: Language = "en"
) -> None:
    """Draw, for each of some trainings, the accuracy against the step and, below it, when which class map was dead.

    Args:
        runs: each with `name`, `steps`, `accuracies` (fractions of one) and `dead`, the numbers of the dead maps at each of the steps.
        class_names: by the number of the map.
        path: the file to write.
        language: of the words, "en" or "zh".
    """
    say = words(language)
    lines = -(-len(runs) // 5)
    columns = -(-len(runs) // lines)
    with drawing(path, width=1.5 + 1.75 * columns, height=0.8 + 2.7 * lines, title=say("lives")) as figure:
        panels = figure.subplots(2 * lines, columns, squeeze=False, sharex=True, height_ratios=[1.0, 1.25] * lines)
        for place in range(columns * lines):
            line, column = divmod(place, columns)
            above, below = panels[2 * line, column], panels[2 * line + 1, column]
            if place >= len(runs):
                above.axis("off")
                below.axis("off")
                continue
            run = runs[place]
            steps = list(run["steps"])
            plain(above, title=run["name"], ylabel=say("accuracy") if column == 0 else "")
            above.plot(steps, run["accuracies"], color=BLUE, linewidth=1.3)
            above.set_ylim(0, 1)
            plain(below, xlabel=say("step") if line == lines - 1 else "", grid=False)
            for start, end, dead in zip(steps, [*steps[1:], 2 * steps[-1] - steps[-2]], run["dead"], strict=True):
                for number in dead:
                    below.barh(number, end - start, left=start, height=0.86, align="center", color=_DEAD, linewidth=0)
            below.set_ylim(len(class_names) - 0.5, -0.5)
            names = [drawable(name) if column == 0 else "" for name in class_names]
            below.set_yticks(range(len(class_names)), names, fontsize=SMALL - 1.5)
            below.tick_params(length=0, axis="y")
            for axes in (above, below):
                axes.set_xlim(0, max(steps))
                if column:
                    axes.set_yticklabels([])


def price_of_dead_maps(
    points: Mapping[str, Sequence[tuple[int, float]]],
    maps: Sequence[tuple[float, float]],
    path: str | os.PathLike[str],
    *,
    language: Language = "en",
) -> None:
    """Draw the accuracy of trainings against their dead class maps, and the recall of classes against the gradient that their maps get.

    Args:
        points: by the name of what was run: for each run the number of dead maps (of ten) and the accuracy (a fraction of one).
        maps: of each class map the norm of the gradient that reaches it, as a share of the median map's, and the recall of its class.
        path: the file to write.
        language: of the words, "en" or "zh".
    """
    say = words(language)
    random = np.random.default_rng(0)
    with drawing(path, width=9, height=3.8, title=say("price")) as figure:
        left, right = figure.subplots(1, 2, width_ratios=[1.5, 1.0])
        plain(left, xlabel=say("dead_maps"), ylabel=say("accuracy"))
        left.plot([0, 10], [1, 0], ":", color=GREY, linewidth=1.2, label=say("ceiling"))
        styles = zip(points.items(), ((ORANGE, "o"), (BLUE, "^"), (_DEAD, "s"), ("#009E73", "D"), ("#CC79A7", "v")), strict=False)
        for (name, values), (colour, marker) in styles:
            dead, accuracies = np.array(values, dtype=float).T
            shaken = dead + random.uniform(-0.15, 0.15, len(dead))
            left.plot(shaken, accuracies, marker, color=colour, markersize=5, alpha=0.85, label=f"{name} ({len(dead)})")
        left.set_xlim(-0.5, 10.5)
        left.set_ylim(0, 1)
        left.set_xticks(range(11))
        left.legend(fontsize=SMALL, frameon=False, loc="upper right")
        plain(right, xlabel=say("relative_gradient"), ylabel=say("recall"))
        gradients, recalls = np.array(maps).T
        right.semilogx(np.maximum(gradients, 1e-4), recalls, "o", color=BLUE, markersize=3, alpha=0.6, clip_on=False)
        right.set_xticks([1e-4, 1e-3, 1e-2, 1e-1, 1, 10], ["0", "0.001", "0.01", "0.1", "1", "10"])
        right.set_ylim(0, 1)


def changes_over_steps(
    series: Mapping[str, Sequence[tuple[Sequence[int], Sequence[float]]]],
    path: str | os.PathLike[str],
    *,
    ylabel: str = "accuracy",
    language: Language = "en",
) -> None:
    """Draw a value of many trainings against the step, a panel for each change; the first one's lines are grey behind all others.

    Args:
        series: by the name of the change: for each training its steps and the value at each of them.
        path: the file to write.
        ylabel: "accuracy" or "loss".
        language: of the words, "en" or "zh".
    """
    say = words(language)
    first = next(iter(series.values()))
    columns = min(3, len(series))
    lines = -(-len(series) // columns)
    with drawing(path, width=9, height=0.7 + 2.2 * lines, title=say("changes")) as figure:
        panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).flatten()
        for axes in panels[len(series) :]:
            axes.axis("off")
        for number, (axes, (name, runs)) in enumerate(zip(panels, series.items(), strict=False)):
            lowest = number >= len(series) - columns
            plain(axes, title=f"{name} (n = {len(runs)})", xlabel=say("step") if lowest else "")
            axes.tick_params(labelbottom=lowest)
            if number % columns == 0:
                axes.set_ylabel(say(ylabel), fontsize=9)
            if runs is not first:
                for steps, values in first:
                    axes.plot(steps, values, color="#CFCFCF", linewidth=0.9)
            for steps, values in runs:
                axes.plot(steps, values, color=ORANGE if runs is first else BLUE, linewidth=1.2)
        panels[0].set_ylim(bottom=0)


def accuracies_beside(
    runs: Mapping[str, Sequence[float]],
    bins: Mapping[str, Sequence[int]],
    edges: Sequence[float],
    path: str | os.PathLike[str],
    *,
    language: Language = "en",
) -> None:
    """Draw how the accuracies of studies spread: of some every run is known, of others only how many runs lie between two edges.

    Args:
        runs: accuracies, fractions of one, by the name of the study.
        bins: by the name of the study, the number of runs in each of the bins.
        edges: of the bins, from 0 to 1; one more than there are bins.
        path: the file to write.
        language: of the words, "en" or "zh".
    """
    say = words(language)
    with drawing(path, width=8.5, height=0.95 * (len(runs) + len(bins)) + 0.9, title=say("accuracies")) as figure:
        panels = figure.subplots(len(runs) + len(bins), 1, squeeze=False, sharex=True).flatten()
        for axes, (name, counts) in zip(panels, bins.items(), strict=False):
            shares = np.array(counts) / sum(counts)
            plain(axes)
            for low, high, share, count in zip(edges[:-1], edges[1:], shares, counts, strict=True):
                axes.bar(low, share, width=high - low, align="edge", color=ORANGE, edgecolor="white")
                axes.text((low + high) / 2, share + 0.03, str(count), ha="center", fontsize=SMALL)
            axes.set_title(say("known_bins", name=name, count=sum(counts)), fontsize=SMALL + 1.5, loc="left")
        for axes, (name, values) in zip(panels[len(bins) :], runs.items(), strict=True):
            plain(axes)
            axes.plot(values, np.zeros(len(values)), "|", color=BLUE, markersize=18, markeredgewidth=1.6, clip_on=False)
            axes.set_ylim(-1, 1)
            axes.set_yticks([])
            low, middle, high = min(values), float(np.median(values)), max(values)
            axes.set_title(
                say("known_runs", name=name, count=len(values), low=low, median=middle, high=high), fontsize=SMALL + 1.5, loc="left"
            )
        for axes in panels[: len(bins)]:
            axes.set_ylim(0, 1)
            axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        panels[-1].set_xlabel(say("accuracy"), fontsize=9)
        panels[-1].set_xlim(0, 1)
