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

TITLE = ("{network}, {size} pixels, batch {batch}", "{network}，{size} 像素，每批 {batch} 张")
WAYS = {"notebooks": ("notebooks' way", "笔记本的做法"), "plain": ("plain PyTorch", "普通 PyTorch"), "torchnin": ("torchnin", "torchnin")}


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
    """Images per second of training steps, by network and way, and the bound, in both languages: `x.png` and `x.zh-CN.png`."""
    from torchnin import plots

    shown = [(measured["case"], measured["rows"]["step"]) for measured in document.values() if "step" in measured["rows"]]
    if not shown:
        return
    for column, target in enumerate((path, path.with_suffix(f".zh-CN{path.suffix}"))):
        networks = {TITLE[column].format(**case): (case["batch"], step) for case, step in shown}
        plots.training_speeds(
            {
                title: {WAYS[way][column]: _rates(batch, step[way]) for way in WAYS if way in step}
                for title, (batch, step) in networks.items()
            },
            {title: batch / step["bound"]["median"] for title, (batch, step) in networks.items()},
            target,
            language="zh" if column else "en",
        )


def _rates(batch: int, seconds: dict[str, Any]) -> tuple[float, float, float]:
    """The median, the least and the highest."""
    median = seconds["median"]
    return batch / median, batch / seconds.get("high", median), batch / seconds.get("low", median)
