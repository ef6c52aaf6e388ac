"""The tables of docs/speed.md, from benchmarks/speed/results."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pages import recorded, table

RESULTS = Path(__file__).parent / "speed" / "results"
WAYS = {"predict": "`Classifier.predict`", "eager": "torch eager", "compiled": "torch compiled", "onnxruntime": "onnxruntime"}


def _conditions(found: dict[str, Any]) -> str:
    machine = found["machine"]
    return (
        f"{found['date']}, {machine['processor']}, {machine['cores']} cores, torch {machine['torch']}; when it began "
        f"{found['load_before']:.0f} processes wanted the cores."
    )


def _milliseconds(each: dict[str, float]) -> str:
    return f"{1000 * each['median']:.2f} ({1000 * each['least']:.2f} to {1000 * each['most']:.2f})"


def prediction(_: str) -> str:
    """Milliseconds a picture of each way."""
    networks = recorded(RESULTS / "predict.json")["networks"]
    rows = []
    for name, found in networks.items():
        for row, ways in found["rows"].items():
            beside = ways["speed beside the best rival"]
            rows.append(
                (
                    f"`{name}`",
                    row,
                    *(_milliseconds(ways[way]) if way in ways else "" for way in WAYS),
                    f"{beside['median']:.2f} ({beside['least']:.2f} to {beside['most']:.2f})",
                )
            )
    conditions = "  \n".join(f"`{name}`: {_conditions(found)}" for name, found in networks.items())
    return table(("network", "milliseconds a picture", *WAYS.values(), "speed beside the best rival"), rows, left=2) + f"\n\n{conditions}"


def start(_: str) -> str:
    """Whole processes."""
    found = recorded(RESULTS / "predict.json")["start"]
    rows = [(f"{name}", f"{each['median']:.2f} ({each['least']:.2f} to {each['most']:.2f})") for name, each in found["rows"].items()]
    return table(("process", "seconds"), rows, left=1) + f"\n\n{_conditions(found)}"


def _both(found: dict[str, Any], key: str, head: str) -> str:
    """Learning beside predicting, with the peak of memory, for one thing that grows."""
    rows = []
    for value in dict.fromkeys(row[key] for row in found["rows"]):
        by_work = {row["work"]: row for row in found["rows"] if row[key] == value}
        cells = (cell for work in ("learn", "predict") for cell in (_rate(by_work.get(work)), _mebibytes(by_work.get(work))))
        rows.append((f"{value:,}", *cells))
    heads = (head, "learning, pictures/s", "MiB", "predicting, pictures/s", "MiB")
    return table(heads, rows, left=0) + f"\n\n{_conditions(found)}"


def batch_sizes(_: str) -> str:
    """What the number of pictures at once does."""
    return _both(recorded(RESULTS / "scaling.json")["batch"], "batch", "pictures at once")


def picture_sizes(_: str) -> str:
    """What the size of the pictures does."""
    return _both(recorded(RESULTS / "scaling.json")["size"], "size", "side in pixels")


def dataset_sizes(_: str) -> str:
    """What the number of pictures does, by where they lie."""
    document = recorded(RESULTS / "scaling.json")
    found, files = document["dataset"], document["files"]["rows"]
    stores = list(dict.fromkeys(row["store"] for row in found["rows"]))
    rows = []
    for work, pictures in dict.fromkeys((row["work"], row["pictures"]) for row in found["rows"]):
        by_store = {row["store"]: row for row in found["rows"] if (row["work"], row["pictures"]) == (work, pictures)}
        shares = (f"{by_store[store]['beside memory']['median']:.0%}" for store in stores[1:])
        memory = " / ".join(_mebibytes(by_store[store]) for store in stores)
        firsts = " / ".join(f"{by_store[store]['seconds to the first step']:.1f}" for store in stores)
        rows.append((work, f"{pictures:,}", _rate(by_store[stores[0]]), *shares, memory, firsts))
    heads = ("work", "pictures", "in memory, pictures/s", *stores[1:], "MiB: " + " / ".join(stores), "seconds to the first step")
    rates = f"{files['predict']['median']:,.0f} pictures/s, {files['decode']['median']:,.0f} where they are only decoded"
    said = f"{files['files']:,} PNG files through `predict`: {rates}; {_mebibytes(files)} MiB."
    return table(heads, rows) + f"\n\n{said} {_conditions(found)}"


def _rate(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{row['median']:,.0f} ({row['least']:,.0f} to {row['most']:,.0f})"


def _mebibytes(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{row['memory'] / 2**20:,.0f}"


def training(_: str) -> str:
    """A step of each network, its peak of memory, and what the machine gave meanwhile."""
    rows, conditions = [], []
    for measured in recorded(RESULTS / "cpu.json").values():
        case, step, memory = measured["case"], measured["rows"]["step"], measured["rows"]["memory"]
        ours = step["torchnin"]["median"]
        mebibytes = (f"{memory[way]['median'] / 2**20:,.0f}" for way in ("notebooks", "plain", "torchnin"))
        rows.append(
            (
                f"`{case['network']}`, {case['size']} pixels [{case['batch']}]",
                *(_seconds(step[way]) for way in ("notebooks", "plain", "torchnin")),
                f"{step['notebooks']['median'] / ours:.2f}",
                f"{step['bound']['median'] / ours:.0%}",
                " / ".join(mebibytes),
            )
        )
        of = step["measured"]
        conditions.append(
            f"`{case['network']}`: {of['date']}, {of['processor']}, {of['cores']} cores, {of['computes']}, torch {of['torch']}; "
            f"when it began {of['load']:.0f} processes wanted the cores."
        )
    heads = ("network [batch]", "notebooks' way, s", "plain PyTorch, s", "torchnin, s", "times the notebooks' way", "share of the bound")
    return table((*heads, "peak memory, MiB: notebooks' / plain / torchnin"), rows, left=1) + "\n\n" + "  \n".join(conditions)


ROWS = {
    "epoch": "loading and learning, {epoch_batches} batches of {batch}",
    "evaluate": "evaluating {evaluated} test pictures",
    "latency": "one picture",
    "throughput": "128 pictures at once",
    "start": "start: imports, network, data",
}


def whole(_: str) -> str:
    """What is around the step: loading, evaluation, prediction, start."""
    rows, conditions = [], {}
    for name, measured in recorded(RESULTS / "cpu.json").items():
        case = measured["case"]
        for key, words in ROWS.items():
            if (row := measured["rows"].get(key)) is None:
                continue
            ours = row["torchnin"]["median"]
            share = f"{row['bound']['median'] / ours:.0%}" if "bound" in row else ""
            cells = (_time(row[way]) for way in ("notebooks", "plain", "torchnin"))
            rows.append((f"`{name}`", words.format(**case), *cells, f"{row['notebooks']['median'] / ours:.2f}", share))
            of = row["measured"]
            conditions.setdefault((name, of["date"]), []).append(of["load"])
    heads = ("network", "what", "notebooks' way", "plain PyTorch", "torchnin", "times the notebooks' way", "share of the bound")
    loads = "  \n".join(
        f"`{name}`: {date}; when its rows began {min(found):.0f} to {max(found):.0f} processes wanted the cores."
        for (name, date), found in conditions.items()
    )
    return table(heads, rows, left=2) + "\n\n" + loads


def soonest(_: str) -> str:
    """Seconds of a whole process to an accuracy, beside the notebooks' procedure."""
    rows = []
    for goal, found in recorded(RESULTS / "time_to_accuracy.json")["report"].items():
        for entry in found.values():
            seconds, accuracies = ([run[key] for run in entry["runs"]] for key in ("seconds", "test_accuracy"))
            notebooks = entry.get("notebooks")
            rows.append(
                (
                    f"{goal} %",
                    f"`{entry['command']}`",
                    f"{entry['median_test_accuracy']:.2%} ({min(accuracies):.2%} to {max(accuracies):.2%})",
                    f"{entry['median_seconds']:.1f} ({min(seconds):.1f} to {max(seconds):.1f})",
                    str(len(seconds)),
                    "" if notebooks is None else f"{notebooks['hours']:.1f} h, {notebooks['times']:,.0f} times as long",
                )
            )
    of = next(iter(found.values()))["measured"]
    machine = f"{of['date']}, {of['processor']}, {of['cores']} cores, torch {of['torch']}; load {of['load']:.0f}."
    heads = ("goal", "command", "test accuracy, median (range)", "seconds", "seeds", "the notebooks' ten epochs, extrapolated")
    return table(heads, rows, left=2) + f"\n\n{machine}"


def _seconds(each: dict[str, float]) -> str:
    return f"{each['median']:.2f} ({each['low']:.2f} to {each['high']:.2f})"


def _time(each: dict[str, float]) -> str:
    if each["median"] >= 0.1:
        return f"{_seconds(each)} s"
    return f"{_seconds({key: 1000 * each[key] for key in ('median', 'low', 'high')})} ms"


MAKERS: dict[str, Callable[[str], str]] = {
    "training": training,
    "whole": whole,
    "soonest": soonest,
    "prediction": prediction,
    "start": start,
    "batch sizes": batch_sizes,
    "picture sizes": picture_sizes,
    "dataset sizes": dataset_sizes,
}
