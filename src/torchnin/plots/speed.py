"""The picture of how fast networks learn, several ways side by side."""

import os
from collections.abc import Mapping

from .style import BLACK, BLUE, GREEN, GREY, ORANGE, SMALL, Language, drawing, plain, words

_COLOURS = (GREY, ORANGE, BLUE, GREEN)


def training_speeds(
    networks: Mapping[str, Mapping[str, tuple[float, float, float]]],
    bounds: Mapping[str, float],
    path: str | os.PathLike[str],
    *,
    language: Language = "en",
) -> None:
    """Draw bars of the training images per second of some networks, each by its own scale, with how many times the first way's they are.

    Args:
        networks: by the network's name: for each way, by its name, the median of the rates and the least and the highest.
        bounds: by the network's name: the rate that the machine allows.
        path: the file to write.
        language: of the words, "en" or "zh".
    """
    say = words(language)
    with drawing(path, width=8.4, height=1.1 + 1.35 * len(networks), title=say("speeds")) as figure:
        panels = figure.subplots(len(networks), 1, squeeze=False)[:, 0]
        for axes, (network, ways) in zip(panels, networks.items(), strict=True):
            plain(axes, grid=False)
            axes.set_title(network, fontsize=SMALL + 1.5, loc="left")
            first = next(iter(ways.values()))[0]
            bound = bounds[network]
            for place, (rate, least, highest) in enumerate(ways.values()):
                axes.barh(-place, rate, color=_COLOURS[place], height=0.75)
                axes.errorbar(rate, -place, xerr=[[rate - least], [highest - rate]], color=BLACK, linewidth=0.8, capsize=2)
                text = f"{rate:,.0f}" if place == 0 else say("times", rate=rate, times=rate / first)
                axes.text(highest, -place, f"  {text}", va="center", fontsize=SMALL + 0.5)
            axes.barh(-len(ways), bound, color="white", edgecolor=BLACK, height=0.75)
            axes.text(bound, -len(ways), f"  {say('times', rate=bound, times=bound / first)}", va="center", fontsize=SMALL + 0.5)
            axes.set_yticks([-place for place in range(len(ways) + 1)], [*ways, say("bound")], fontsize=SMALL + 0.5)
            axes.set_xlim(0, 1.3 * max(bound, *(highest for _, _, highest in ways.values())))
            axes.xaxis.set_major_formatter(lambda value, _place: f"{value:,.0f}")
        panels[-1].set_xlabel(say("images_per_second"), fontsize=SMALL + 1)
