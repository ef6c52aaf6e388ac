"""The table and the picture of recorded speeds."""

from pathlib import Path
from typing import Any

TITLES = {
    "step": "training step",
    "epoch": "training, {epoch_batches} batches with loading",
    "evaluate": "evaluation of {evaluated} pictures",
    "latency": "one picture predicted",
    "throughput": "128 pictures predicted",
    "start": "start: imports, network, data",
    "memory": "peak memory of a training step",
}


def _value(row: str, value: float) -> str:
    if row == "memory":
        return f"{value / 2**20:,.0f} MiB"
    return f"{value * 1000:,.2f} ms" if value < 0.1 else f"{value:.2f} s" if value < 10 else f"{value:.1f} s"


def _cell(row: str, entry: dict[str, Any] | None) -> str:
    if entry is None:
        return ""
    text = _value(row, entry["median"])
    if "low" in entry and entry["rounds"] > 1:
        text += f" ({_value(row, entry['low'])} to {_value(row, entry['high'])})"
    return text


def table(document: dict[str, Any]) -> str:
    """Markdown: a line for each row of each network; times are medians, with the least and the most."""
    lines = [
        "| network | row | notebooks' way | plain PyTorch | torchnin | bound | times the notebooks' way | share of the bound |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for measured in document.values():
        case = measured["case"]
        for row, entry in measured["rows"].items():
            ways = [entry.get(way) for way in ("notebooks", "plain", "torchnin", "bound")]
            ours = entry["torchnin"]["median"]
            share = f"{entry['bound']['median'] / ours:.0%}" if "bound" in entry else ""
            lines.append(
                f"| `{case['network']}`, {case['size']} pixels, batch {case['batch']} | {TITLES[row].format(**case)} | "
                f"{' | '.join(_cell(row, way) for way in ways)} | {entry['notebooks']['median'] / ours:.2f} | {share} |"
            )
            if "nin train" in entry and row in ("step", "epoch"):
                lines.append(f"| | the same as `nin train` does it | | | {_cell(row, entry['nin train'])} | | | |")
    return "\n".join(lines)


def draw(document: dict[str, Any], path: Path) -> None:
    """Bars: images per second in training with loading, by network and way, and the bound; each network by its own scale."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from torchnin.plots.style import BLACK, BLUE, GREY, ORANGE

    shown = [measured for measured in document.values() if "step" in measured["rows"]]
    if not shown:
        return
    figure = Figure(figsize=(8.4, 0.9 + 1.35 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    names = {
        "notebooks": ("notebooks' way", GREY),
        "plain": ("plain PyTorch", ORANGE),
        "torchnin": ("torchnin", BLUE),
        "bound": ("bound", BLACK),
    }
    for number, measured in enumerate(shown):
        axes = figure.add_subplot(len(shown), 1, number + 1)
        case, step = measured["case"], measured["rows"]["step"]
        rates = {way: case["batch"] / step[way]["median"] for way in names if way in step}
        for place, (way, rate) in enumerate(rates.items()):
            _, colour = names[way]
            face = "white" if way == "bound" else colour
            axes.barh(-place, rate, color=face, edgecolor=colour, height=0.75)
            if "low" in step[way]:
                spread = [[rate - case["batch"] / step[way]["high"]], [case["batch"] / step[way]["low"] - rate]]
                axes.errorbar(rate, -place, xerr=spread, color=BLACK, linewidth=0.8, capsize=2)
            share = "" if way == "notebooks" else f"  ({rate / rates['notebooks']:.1f} times)"
            right = max(rate, case["batch"] / step[way].get("low", step[way]["median"]))
            axes.text(right * 1.01, -place, f" {rate:,.0f}{share}", va="center", fontsize=8)
        axes.set_yticks([-place for place in range(len(rates))], [names[way][0] for way in rates], fontsize=8)
        axes.set_title(f"{case['network']}, {case['size']} pixels, batch {case['batch']}", fontsize=9, loc="left")
        axes.set_xlim(0, 1.3 * max(rates.values()))
        axes.tick_params(axis="x", labelsize=7)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    axes.set_xlabel("training images per second, of the step alone", fontsize=8)
    figure.savefig(path, dpi=150)
