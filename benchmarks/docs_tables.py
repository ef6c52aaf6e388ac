"""The tables of docs/exercises.md and docs/looking-inside.md, in both languages, and of docs/onnx.md, made from the recorded results.

python benchmarks/docs_tables.py            write them
python benchmarks/docs_tables.py --check    fail where they are not what the results say
"""

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pages import write_or_check

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
MIB = 1024 * 1024

# Words of the tables, English and Chinese; what is not here stands as it is.
WORDS: dict[str, tuple[str, str]] = {
    "network": ("network", "网络"),
    "parameters": ("parameters", "参数"),
    "macs": ("multiply-adds", "乘加次数"),
    "predict": ("memory to predict", "预测所需内存"),
    "train": ("memory to train", "训练所需内存"),
    "held out": ("held-out accuracy", "留出图片上的准确率"),
    "test": ("test accuracy", "测试准确率"),
    "what": ("what", "做法"),
    "dead": ("dead class maps", "死掉的类别图"),
    "spread": ("{mean:.2%} ({low:.2%} to {high:.2%}, {n} seeds)", "{mean:.2%}（{low:.2%} 至 {high:.2%}，{n} 个种子）"),
    "once": ("{mean:.2%} (one seed)", "{mean:.2%}（一个种子）"),
    "none": ("no 1x1", "没有 1x1"),
    "one": ("one 1x1", "一个 1x1"),
    "two": ("two 1x1", "两个 1x1"),
    "three": ("three 1x1", "三个 1x1"),
    "gap": ("global average pooling", "全局平均汇聚"),
    "fc": ("a fully connected layer on the class maps", "类别图上的全连接层"),
    "at once": ("96 to 10 at once", "96 一步到 10"),
    "in two steps": ("96 to 96, then to 10", "96 到 96，再到 10"),
    "notebook": ("the chapter's recipe, rate .1", "本章的配方，学习率 0.1"),
    "notebook lr .02": ("rate .02", "学习率 0.02"),
    "notebook lr .5": ("rate .5", "学习率 0.5"),
    "steady": (
        "living class maps, momentum, warm-up, cosine, normalised pixels (`steady`)",
        "类别图从活着开始、动量、预热、余弦、像素规范化（`steady`）",
    ),
    "steady, normalised": ("that, and batch normalisation", "再加批量规范化"),
    "fast": ("batch normalisation, no ReLU on the class maps, Muon (`fast`)", "批量规范化、类别图上无 ReLU、Muon（`fast`）"),
    "convolutions": ("in convolutions", "卷积层中"),
    "connected": ("in fully connected layers", "全连接层中"),
    "share": ("share of these", "后者占比"),
    "AlexNet, the book's": ("AlexNet, the book's (10 classes)", "AlexNet，书中的（10 类）"),
    "VGG-11, the book's": ("VGG-11, the book's (10 classes)", "VGG-11，书中的（10 类）"),
    "AlexNet, 2012": ("AlexNet, 2012 (1000 classes)", "AlexNet，2012（1000 类）"),
    "VGG-16, 2014": ("VGG-16, 2014 (1000 classes)", "VGG-16，2014（1000 类）"),
    "nin_d2l": ("`nin_d2l` (10 classes)", "`nin_d2l`（10 类）"),
    "nin_imagenet": ("`nin_imagenet` (1000 classes)", "`nin_imagenet`（1000 类）"),
    "zeroed": ("values zeroed", "被置零的值"),
    "whole": ("channels wholly zero", "全部为零的通道"),
    "rest": ("what stays becomes", "留下的值变为"),
    "mean": ("mean of a channel, over draws", "通道均值（多次抽取）"),
    "deviation": ("its standard deviation", "其标准差"),
    "places": ("places", "位置数"),
    "values": ("parameters of the convolution, of the layer", "卷积的参数、全连接层的参数"),
    "difference": ("largest difference of their outputs", "两者输出的最大差"),
    "stop": (".", "。"),
    "classifier": (
        "{shown}: `{network}`, {epochs} epochs, seed {seed}, test accuracy {test_accuracy:.2%}, torch {torch}",
        "{shown}：`{network}`，{epochs} 轮，种子 {seed}，测试准确率 {test_accuracy:.2%}，torch {torch}",
    ),
    "data": ("data, cover", "数据，遮盖"),
    "area": ("area", "面积"),
    "pointed": ("where the map is highest", "类别图最高处"),
    "random": ("at random", "随机位置"),
    "lowest": ("where it is lowest", "最低处"),
    "more": ("highest less random (95 % interval)", "最高处减随机（95% 区间）"),
    "often": ("larger in", "更大的图片占"),
    "black": ("black", "黑色"),
    "mean colour": ("mean colour", "平均颜色"),
    "blur": ("blurred picture", "模糊后的图片"),
    "class": ("class", "类别"),
    "pictures": ("pictures", "图片数"),
    "to": ("to", "至"),
    "count": ("pictures", "图片数"),
    "processor": ("seconds of processor", "处理器秒数"),
    "seconds": ("seconds by the clock", "实际秒数"),
    "load": ("processes that wanted the two cores", "争用两个核的进程数"),
    "peak": ("peak memory of the process", "进程的峰值内存"),
}


def say(language: str, key: str, **values: Any) -> str:
    """A word in a language; any other text as it is."""
    text = WORDS[key][language == "zh"] if key in WORDS else key
    return text.format(**values) if values else text


def recorded(*names: str) -> dict[str, Any]:
    """A recorded result."""
    document: dict[str, Any] = json.loads(HERE.joinpath(*names).read_text(encoding="utf-8"))
    return document


def table(language: str, header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Markdown; the first `left` columns are words, the others numbers."""
    rule = "|".join(["---"] * left + ["---:"] * (len(header) - left))
    lines = (f"| {' | '.join(cells)} |" for cells in rows)
    return "\n".join((f"| {' | '.join(say(language, word) for word in header)} |", f"|{rule}|", *lines))


def counts(language: str, exercise: str) -> str:
    """The four resource counts of the exercise's networks."""
    rows = [
        (
            f"`{row['name']}`",
            f"{row['num_parameters']:,}",
            f"{row['num_macs']:,}",
            f"{row['predict_bytes'] / MIB:.1f} MiB",
            f"{row['train_bytes'] / MIB:.1f} MiB",
        )
        for row in recorded("exercises", "results", f"{exercise}.json")["networks"]
    ]
    return table(language, ("network", "parameters", "macs", "predict", "train"), rows)


def accuracies(language: str, exercise: str) -> str:
    """What the exercise's trainings reached."""
    rows = [
        (say(language, row["label"]), f"{row['num_parameters']:,}", *(_spread(language, row, kind) for kind in ("validation", "test")))
        for row in recorded("exercises", "results", f"{exercise}.json")["trainings"]
    ]
    return table(language, ("what", "parameters", "held out", "test"), rows)


def _spread(language: str, row: dict[str, Any], kind: str) -> str:
    n = len(row["runs"])
    return say(language, "spread" if n > 1 else "once", n=n, **row[f"{kind}_accuracy"])


def one_by_one(language: str) -> str:
    """A 1x1 convolution against a fully connected layer."""
    found = recorded("exercises", "results", "one_by_one.json")
    row = (
        "x".join(map(str, found["feature_maps"])),
        f"{found['pixels']:,}",
        f"{found['convolution_parameters']:,}; {found['linear_parameters']:,}",
        f"{found['largest_difference']:.1e}" if found["largest_difference"] else "0",
    )
    return table(language, ("feature maps" if language == "en" else "特征图", "places", "values", "difference"), [row])


def connected_heads(language: str) -> str:
    """Where the parameters are."""
    rows = [
        (say(language, row["network"]), f"{row['convolutions']:,}", f"{row['fully_connected']:,}", f"{row['share']:.1%}")
        for row in recorded("exercises", "results", "connected_heads.json")["networks"]
    ]
    return table(language, ("network", "convolutions", "connected", "share"), rows)


def dropout(language: str) -> str:
    """The two dropouts on the same tensor."""
    found = recorded("exercises", "results", "dropout.json")
    rows = [
        (
            f"`{row['layer']}({found['p']})`",
            f"{row['zeroed']:.1%}",
            f"{row['channels_wholly_zero']} / {found['tensor'][1]}",
            f"{row['value_of_the_rest']:g}",
            f"{row['mean_of_a_channel']:.2f}",
            f"{row['deviation_of_a_channel']:.2f}",
        )
        for row in found["layers"]
    ]
    return table(language, ("", "zeroed", "whole", "rest", "mean", "deviation"), rows)


def occlusion(language: str) -> str:
    """What covering a part of a picture does to its class."""
    rows, classifiers = [], []
    for name, shown in (("fashion-mnist", "Fashion-MNIST"), ("cifar-10", "CIFAR-10")):
        found = recorded("occlusion", "results", f"{name}.json")
        trained = found["trained"]
        classifiers.append(say(language, "classifier", shown=shown, network=found["network"], torch=found["versions"]["torch"], **trained))
        for cover in found["covers"]:
            against = cover["against_random"]
            low, high = against["interval"]
            kind = "mean colour" if cover["filling"] == "mean" else cover["filling"]
            rows.append(
                (
                    f"{shown}, {say(language, kind)}",
                    f"{cover['share']:.1%}",
                    f"{cover['mean_fall']:.3f}",
                    f"{against['mean_fall']:.3f}",
                    f"{cover['against_lowest']['mean_fall']:.3f}",
                    f"**{against['mean_difference']:+.3f}** ({low:+.3f} {say(language, 'to')} {high:+.3f})",
                    f"{against['larger_in']:.0%}",
                )
            )
    made = table(language, ("data", "area", "pointed", "random", "lowest", "more", "often"), rows)
    return f"{made}\n\n{'; '.join(classifiers)}{say(language, 'stop')}"


def occlusion_classes(language: str, data: str) -> str:
    """The same by class, for black covers of a tenth of the picture."""
    covers = [cover for cover in recorded("occlusion", "results", f"{data}.json")["covers"] if cover["filling"] == "black"]
    rows = []
    for name, row in covers[-1]["per_class"].items():
        low, high = row["against_random"]["interval"]
        rows.append(
            (
                name,
                str(row["num_pictures"]),
                f"{row['mean_fall']:.3f}",
                f"{row['against_random']['mean_fall']:.3f}",
                f"{row['against_lowest']['mean_fall']:.3f}",
                f"{row['against_random']['mean_difference']:+.3f} ({low:+.3f} {say(language, 'to')} {high:+.3f})",
            )
        )
    return table(language, ("class", "pictures", "pointed", "random", "lowest", "more"), rows)


def streaming(language: str) -> str:
    """Time and memory of `nin predict` over very many pictures."""
    rows = [
        (
            f"{row['pictures']:,}",
            f"{row['processor_seconds']:.0f}",
            f"{row['seconds']:.0f}",
            f"{row['load_before']:.0f}",
            f"{row['peak_mib']:.0f} MiB",
        )
        for row in recorded("streaming", "results", "streaming.json")["rows"]
    ]
    return table(language, ("count", "processor", "seconds", "load", "peak"), rows, left=0)


def exported(language: str) -> str:
    """How an exported classifier answers, float and in 8 bits, and what it takes."""
    accuracy, parity, networks, speed = (
        recorded("export", "results", f"{part}.json") for part in ("accuracy", "parity", "networks", "speed")
    )
    rows = [
        ("test accuracy", f"{accuracy['evaluate_accuracy']:.2%}", f"{accuracy['float_accuracy']:.2%}", f"{accuracy['accuracy']:.2%}"),
        ("bytes", "", f"{accuracy['float_num_bytes']:,}", f"{accuracy['num_bytes']:,}"),
        (
            "largest difference of a probability",
            "",
            f"{parity['largest_probability']:.1e}",
            f"{accuracy['largest_difference']:.2g}",
        ),
    ]
    ways = ("Classifier.predict", "onnxruntime, float32", "onnxruntime, int8")
    for batch, found in speed["by_batch"].items():
        cells = (f"{found[way]['processor_milliseconds']:.2f}" for way in ways)
        rows.append((f"processor's milliseconds, {batch} at once", *cells))
    machine, run = speed["machine"], accuracy["run"]
    conditions = (
        f"`{run['network']}`, {run['epochs']} epochs on Fashion-MNIST, seed {run['seed']}; {accuracy['test_pictures']:,} test pictures, "
        f"{accuracy['calibration_pictures']} train pictures for the ranges.",
        f"The difference of the float file is over {len(parity['by_size_and_batch'])} pairs of size and number, 1x2 to 1201x1603 pixels;",
        f"for the named networks with weights at their start it is at most {networks['largest_probability']:.1e}.",
        f"{accuracy['date']}, {machine['processor']}, {machine['cores']} cores,",
        f"onnxruntime {machine['onnxruntime']}, torch {machine['torch']};",
        f"{machine['load_before']:.0f} processes wanted the cores, so the processor's time is given and not the clock's.",
    )
    return "\n".join((table(language, ("", "`Classifier.predict`", "file, float32", "file, int8"), rows), "", *conditions))


Maker = Callable[[str], str]
EXERCISES: dict[str, Maker] = {
    **{f"{name} counts": partial(counts, exercise=name) for name in ("mlp_layers", "mlp_kernel_size", "head", "resources", "one_step")},
    **{f"{name} accuracy": partial(accuracies, exercise=name) for name in ("tuning", "mlp_layers", "mlp_kernel_size", "head", "one_step")},
    "one_by_one": one_by_one,
    "connected_heads": connected_heads,
    "dropout": dropout,
}
LOOKING: dict[str, Maker] = {
    "occlusion": occlusion,
    **{f"occlusion {name}": partial(occlusion_classes, data=name) for name in ("fashion-mnist", "cifar-10")},
    "streaming": streaming,
}
PAGES: dict[Path, tuple[str, dict[str, Maker]]] = {
    DOCS / "exercises.md": ("en", EXERCISES),
    DOCS / "exercises.zh-CN.md": ("zh", EXERCISES),
    DOCS / "looking-inside.md": ("en", LOOKING),
    DOCS / "looking-inside.zh-CN.md": ("zh", LOOKING),
    DOCS / "onnx.md": ("en", {"export": exported}),
}


if __name__ == "__main__":
    write_or_check(__doc__, "python benchmarks/docs_tables.py", PAGES)
