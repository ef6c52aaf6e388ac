"""The tables of docs/speed.md and docs/speed.zh-CN.md, from benchmarks/speed/results."""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pages import recorded, table

RESULTS = Path(__file__).parent / "speed" / "results"
# What torchnin computes in, on processors without and with it.
DTYPES = ("float32", "bfloat16")
# Words of the tables in Chinese; what is not here stands as it is.
CHINESE = {
    "network [batch]": "网络 [批量]",
    "network": "网络",
    "what": "做什么",
    "notebooks' way, s": "笔记本的做法，秒",
    "plain PyTorch, s": "普通 PyTorch，秒",
    "torchnin, s": "torchnin，秒",
    "notebooks' way": "笔记本的做法",
    "plain PyTorch": "普通 PyTorch",
    "times as fast as the notebooks' way": "相对笔记本做法的加速比",
    "share of the bound": "占上限的比例",
    "peak memory, MiB: notebooks' / plain / torchnin": "内存峰值，MiB：笔记本 / 普通 / torchnin",
    "loading and learning, {epoch_batches} batches of {batch}": "读取并学习，{epoch_batches} 批，每批 {batch} 张",
    "evaluating {evaluated} test pictures": "评估 {evaluated} 张测试图片",
    "one picture": "一张图片",
    "128 pictures at once": "一次 128 张图片",
    "start: imports, network, data": "启动：导入、网络、数据",
    "goal": "目标",
    "command": "命令",
    "test accuracy, median (range)": "测试准确率，中位数（范围）",
    "seconds": "秒",
    "seeds": "种子数",
    "the notebooks' ten epochs, extrapolated": "笔记本的十轮，推算",
    "{hours:.1f} h, {times:,.0f} times as long": "{hours:.1f} 小时，{times:,.0f} 倍",
    "milliseconds a picture": "每张图片的毫秒数",
    "speed beside the best rival": "与最快对手的速度之比",
    "the same, torch alone": "同上，只用 torch",
    "torch eager": "torch 即时执行",
    "torch compiled": "torch 编译后",
    "single": "单张",
    "single, one thread": "单张，一个线程",
    "network, one thread": "只算网络，一个线程",
    "many": "许多张",
    "process": "进程",
    "bare script": "最简脚本",
    "nin predict beside the bare script": "nin predict 与最简脚本之比",
    "pictures at once": "一次多少张",
    "side in pixels": "边长（像素）",
    "learning, pictures/s": "学习，张/秒",
    "predicting, pictures/s": "预测，张/秒",
    "work": "工作",
    "learn": "学习",
    "predict": "预测",
    "pictures": "图片数",
    "in memory, pictures/s": "在内存里，张/秒",
    "mapped": "内存映射",
    "mapped, forgotten, 512 MiB": "内存映射，已从缓存清除，512 MiB",
    "memory": "内存",
    "seconds to the first step": "到第一步的秒数",
    "{median} ({low} to {high})": "{median}（{low} 至 {high}）",
    "{count:,} PNG files through `predict`: {fast:,.0f} pictures/s, {decoded:,.0f} where they are only decoded; {memory} MiB.": (
        "{count:,} 个 PNG 文件经过 `predict`：每秒 {fast:,.0f} 张，只解码则为 {decoded:,.0f} 张；{memory} MiB。"
    ),
    "{date}, {processor}, {cores} cores, torch {torch}; load average before it {load:.0f}.": (
        "{date}，{processor}，{cores} 个核，torch {torch}；此前的平均负载 {load:.0f}。"
    ),
    "`{name}`, {dtype}: {date}; load average before its rows {load:.0f}.": "`{name}`，{dtype}：{date}；各行之前的平均负载 {load:.0f}。",
    "`{name}`, {dtype}: {date}; load averages before its rows {least:.0f} to {most:.0f}.": (
        "`{name}`，{dtype}：{date}；各行之前的平均负载 {least:.0f} 至 {most:.0f}。"
    ),
    "torchnin in": "torchnin 所用精度",
    "{count} threads": "{count} 个线程",
    ": ": "：",
}
ROWS = {
    "epoch": "loading and learning, {epoch_batches} batches of {batch}",
    "evaluate": "evaluating {evaluated} test pictures",
    "latency": "one picture",
    "throughput": "128 pictures at once",
    "start": "start: imports, network, data",
}
WAYS = {
    "predict": "`Classifier.predict`",
    "predict by torch": "the same, torch alone",
    "eager": "torch eager",
    "compiled": "torch compiled",
    "onnxruntime": "onnxruntime",
}


def say(language: str, text: str, **values: Any) -> str:
    """A text of the tables in a language."""
    text = CHINESE.get(text, text) if language == "zh" else text
    return text.format(**values) if values else text


def _table(language: str, heads: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    return table([say(language, head) for head in heads], rows, left)


def _conditions(language: str, date: str, machine: dict[str, Any], load: float) -> str:
    text = "{date}, {processor}, {cores} cores, torch {torch}; load average before it {load:.0f}."
    kept = {key: machine[key] for key in ("processor", "cores", "torch")}
    return say(language, text, date=date, load=load, **kept)


def computes(language: str, text: str) -> str:
    """What computed, as `cpu, float32, 2 threads`, in a language."""
    return re.sub(r"(\d+) threads", lambda found: say(language, "{count} threads", count=found[1]), text)


def _range(language: str, median: str, low: str, high: str) -> str:
    return say(language, "{median} ({low} to {high})", median=median, low=low, high=high)


def _milliseconds(language: str, each: dict[str, float]) -> str:
    return _range(language, *(f"{1000 * each[key]:.2f}" for key in ("median", "least", "most")))


def prediction(language: str) -> str:
    """Milliseconds a picture of each way."""
    networks = recorded(RESULTS / "predict.json")["networks"]
    rows = []
    for name, found in networks.items():
        for row, ways in found["rows"].items():
            times = (_milliseconds(language, ways[way]) if way in ways else "" for way in WAYS)
            rows.append((f"`{name}`", say(language, row), *times, _two_digits(language, ways["speed beside the best rival"])))
    conditions = "  \n".join(f"`{name}`{say(language, ': ')}{_of(language, found)}" for name, found in networks.items())
    heads = ("network", "milliseconds a picture", *WAYS.values(), "speed beside the best rival")
    return f"{_table(language, heads, rows, left=2)}\n\n{conditions}"


def start(language: str) -> str:
    """Whole processes."""
    found = recorded(RESULTS / "predict.json")["start"]
    rows = [(say(language, name), _two_digits(language, each)) for name, each in found["rows"].items()]
    return f"{_table(language, ('process', 'seconds'), rows)}\n\n{_of(language, found)}"


def _both(language: str, key: str, head: str) -> str:
    """Learning beside predicting, with the peak of memory, for one thing that grows."""
    found = recorded(RESULTS / "scaling.json")[key]
    rows = []
    for value in dict.fromkeys(row[key] for row in found["rows"]):
        by_work = {row["work"]: row for row in found["rows"] if row[key] == value}
        cells = (cell for work in ("learn", "predict") for cell in (_rate(language, by_work.get(work)), _mebibytes(by_work.get(work))))
        rows.append((f"{value:,}", *cells))
    heads = (head, "learning, pictures/s", "MiB", "predicting, pictures/s", "MiB")
    return f"{_table(language, heads, rows, left=0)}\n\n{_of(language, found)}"


def dataset_sizes(language: str) -> str:
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
        rows.append((say(language, work), f"{pictures:,}", _rate(language, by_store[stores[0]]), *shares, memory, firsts))
    together = ("MiB: " if language == "en" else "MiB：") + " / ".join(say(language, store) for store in stores)
    heads = ("work", "pictures", "in memory, pictures/s", *stores[1:], together, "seconds to the first step")
    said = say(
        language,
        "{count:,} PNG files through `predict`: {fast:,.0f} pictures/s, {decoded:,.0f} where they are only decoded; {memory} MiB.",
        count=files["files"],
        fast=files["predict"]["median"],
        decoded=files["decode"]["median"],
        memory=_mebibytes(files),
    )
    return f"{_table(language, heads, rows)}\n\n{said}{' ' if language == 'en' else ''}{_of(language, found)}"


def _measured() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """What torchnin computed in on two cores, a network's name, and what was measured of it."""
    for dtype in DTYPES:
        if (path := RESULTS / f"cpu-{dtype}.json").is_file():
            for name, found in recorded(path).items():
                yield dtype, name, found


def training(language: str) -> str:
    """A step of each network, its peak of memory, and what the machine gave meanwhile."""
    rows, conditions = [], []
    for dtype, name, measured in _measured():
        case, step, memory = measured["case"], measured["rows"]["step"], measured["rows"]["memory"]
        ours, of = step["torchnin"]["median"], step["measured"]
        rows.append(
            (
                f"`{name}`, {case['size']}x{case['size']} [{case['batch']}]",
                dtype,
                *(_seconds(language, step[way]) for way in ("notebooks", "plain", "torchnin")),
                f"{step['notebooks']['median'] / ours:.2f}",
                f"{step['bound']['median'] / ours:.0%}",
                " / ".join(f"{memory[way]['median'] / 2**20:,.0f}" for way in ("notebooks", "plain", "torchnin")),
            )
        )
        which = f"`{name}`, {computes(language, of['computes'])}{say(language, ': ')}"
        conditions.append(which + _conditions(language, of["date"], of, of["load"]))
    times = "times as fast as the notebooks' way"
    heads = ("network [batch]", "torchnin in", "notebooks' way, s", "plain PyTorch, s", "torchnin, s", times, "share of the bound")
    return _table(language, (*heads, "peak memory, MiB: notebooks' / plain / torchnin"), rows, left=2) + "\n\n" + "  \n".join(conditions)


def whole(language: str) -> str:
    """What is around the step: loading, evaluation, prediction, start."""
    rows: list[Sequence[str]] = []
    loads: dict[tuple[str, str, str], list[float]] = {}
    for dtype, name, measured in _measured():
        case = measured["case"]
        for key, words in ROWS.items():
            if (row := measured["rows"].get(key)) is None:
                continue
            ours, of = row["torchnin"]["median"], row["measured"]
            share = f"{row['bound']['median'] / ours:.0%}" if "bound" in row else ""
            cells = (_time(language, row[way]) for way in ("notebooks", "plain", "torchnin"))
            rows.append((f"`{name}`", dtype, say(language, words, **case), *cells, f"{row['notebooks']['median'] / ours:.2f}", share))
            loads.setdefault((name, dtype, of["date"]), []).append(of["load"])
    conditions = (_loads(language, name, dtype, date, min(found), max(found)) for (name, dtype, date), found in loads.items())
    heads = (
        "network",
        "torchnin in",
        "what",
        "notebooks' way",
        "plain PyTorch",
        "torchnin",
        "times as fast as the notebooks' way",
        "share of the bound",
    )
    return _table(language, heads, rows, left=3) + "\n\n" + "  \n".join(conditions)


def _loads(language: str, name: str, dtype: str, date: str, least: float, most: float) -> str:
    if f"{least:.0f}" == f"{most:.0f}":
        return say(
            language, "`{name}`, {dtype}: {date}; load average before its rows {load:.0f}.", name=name, dtype=dtype, date=date, load=most
        )
    text = "`{name}`, {dtype}: {date}; load averages before its rows {least:.0f} to {most:.0f}."
    return say(language, text, name=name, dtype=dtype, date=date, least=least, most=most)


def soonest(language: str) -> str:
    """Seconds of a whole process to an accuracy, beside the notebooks' procedure."""
    rows, conditions = [], []
    reports = ((dtype, recorded(path)["report"]) for dtype in DTYPES if (path := RESULTS / f"time_to_accuracy-{dtype}.json").is_file())
    for dtype, goal, found in ((dtype, *each) for dtype, report in reports for each in report.items()):
        for entry in found.values():
            seconds, accuracies = ([run[key] for run in entry["runs"]] for key in ("seconds", "test_accuracy"))
            notebooks, of = entry.get("notebooks"), entry["measured"]
            conditions.append(f"{goal} %, {dtype}{say(language, ': ')}{_conditions(language, of['date'], of, of['load'])}")
            rows.append(
                (
                    f"{goal} %",
                    dtype,
                    f"`{entry['command']}`",
                    _range(language, *(f"{each:.2%}" for each in (entry["median_test_accuracy"], min(accuracies), max(accuracies)))),
                    _range(language, *(f"{each:.1f}" for each in (entry["median_seconds"], min(seconds), max(seconds)))),
                    str(len(seconds)),
                    "" if notebooks is None else say(language, "{hours:.1f} h, {times:,.0f} times as long", **notebooks),
                )
            )
    heads = (
        "goal",
        "torchnin in",
        "command",
        "test accuracy, median (range)",
        "seconds",
        "seeds",
        "the notebooks' ten epochs, extrapolated",
    )
    return _table(language, heads, rows, left=3) + "\n\n" + "  \n".join(conditions)


def _of(language: str, found: dict[str, Any]) -> str:
    return _conditions(language, found["date"], found["machine"], found["load_before"])


def _two_digits(language: str, each: dict[str, float]) -> str:
    return _range(language, *(f"{each[key]:.2f}" for key in ("median", "least", "most")))


def _rate(language: str, row: dict[str, Any] | None) -> str:
    return "" if row is None else _range(language, *(f"{row[key]:,.0f}" for key in ("median", "least", "most")))


def _mebibytes(row: dict[str, Any] | None) -> str:
    return "" if row is None else f"{row['memory'] / 2**20:,.0f}"


def _seconds(language: str, each: dict[str, float], times: int = 1) -> str:
    return _range(language, *(f"{times * each[key]:.2f}" for key in ("median", "low", "high")))


def _time(language: str, each: dict[str, float]) -> str:
    if each["median"] >= 0.1:
        return f"{_seconds(language, each)} s"
    return f"{_seconds(language, each, times=1000)} ms"


MAKERS: dict[str, Callable[[str], str]] = {
    "training": training,
    "whole": whole,
    "soonest": soonest,
    "prediction": prediction,
    "start": start,
    "batch sizes": partial(_both, key="batch", head="pictures at once"),
    "picture sizes": partial(_both, key="size", head="side in pixels"),
    "dataset sizes": dataset_sizes,
}
