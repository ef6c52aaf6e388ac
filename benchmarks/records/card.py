"""The model card of weights that ship, made from what is recorded: the classifier's configuration, its evaluation, its record."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import torchnin
from records import RECORDS, Record

CARD = """# {name}

`{network}`, a Network in Network of {parameters} parameters, trained on {title}: **{accuracy}** of the {pictures} test pictures are
answered right (95 % interval {low} to {high}), without test-time augmentation.

    nin predict {name} picture.png
    nin evaluate {name}

In Python, `torchnin.load("{name}")` is the classifier with its preprocessing and its class names, and
`torchnin.create_model("{network}", pretrained="{name}"{in_channels})` the network alone.

## What it is

| | |
|---|---|
| pictures | {size}: any picture is converted and stretched to that |
| classes | {classes} |
| weights | `model.safetensors`, {bytes} bytes, SHA-256 `{sha256}` |
| stored in | {stored} |
| licence of the weights | MIT, as the rest of the package |
| data | [{data_title}]({data_home}); licence: {data_licence} |
| shipped | {shipped} |

## How it was trained

    {command}

{training}

{recipe}

{seeds}

## How good it is

{quality}

{per_class}

Rows are true classes, columns predicted ones, in the same order:

{confusion}

The most frequent confusions: {confusions}.

## What it is not for

{limits}

## 中文说明

`{name}`：在 {title} 上训练的 `{network}`，{parameters} 个参数，在 {pictures} 张测试图片上的准确率为 **{accuracy}**
（95% 区间 {low} 至 {high}），没有使用测试时增广。训练命令见上文。{seeds_zh}
{chosen_zh}

{limits_zh}
"""

# What the pictures of a dataset are, and so what a network that has seen nothing else is not for.
LIMITS = {
    "fashion-mnist": """\
It has seen grey pictures of 28x28 pixels, each of one piece of a shop's catalogue, centred, upright, light on black. A photo from a phone,
with colour, a light background, a person in it or several things, is none of these, and the answer to it means little, however high its
probability. What belongs to none of the ten classes is still given one of them. It is for learning, comparing and trying out; nothing
about people should be decided with it.""",
    "mnist": """\
It has seen single digits of 28x28 pixels, centred, light on black, written in the United States around 1990. Several digits in a picture,
dark ink on white paper, letters, or a one or a seven as other countries write it are none of these, and the answer to them means little,
however high its probability. It is for learning, comparing and trying out; no amount and no postcode that matters should be read
with it.""",
    "cifar-10": """\
It has seen colour photos of 32x32 pixels, each of one animal or vehicle of ten kinds. A larger photo is stretched to that, and a small
thing in it disappears. What belongs to none of the ten classes is still given one of them. It is for learning, comparing and trying
out.""",
}
LIMITS_ZH = {
    "fashion-mnist": """\
它只见过 28x28 的灰度图片：商品目录中的单件衣物、鞋或包，居中、直立、黑底浅色。手机照片（彩色、浅色背景、有人或有多件物品）与此不同，
对这类图片的回答没有多少意义，无论概率多高。不属于这十个类别的东西也总会被归入其中一类。
它用于学习、比较和试验，不应据此作出任何关于人的决定。""",
    "mnist": """\
它只见过 28x28 的单个数字：居中、黑底白字，1990 年前后在美国书写。一张图片里有多个数字、白纸黑字、字母，以及其他国家写法的 1 和 7
都与此不同，对这类图片的回答没有多少意义，无论概率多高。它用于学习、比较和试验，不要用它识别重要的金额或邮政编码。""",
    "cifar-10": """\
它只见过 32x32 的彩色照片，每张是十类动物或交通工具之一。更大的照片会被缩放到这个尺寸，其中的小物体会消失。
不属于这十个类别的东西也总会被归入其中一类。它用于学习、比较和试验。""",
}
STORED = {
    "float16": "float16 (convolutions) and float32 (all else); computed in float32",
    "float32": "float32",
}
_WIDTH = 140


def card(folder: Path, record: dict[str, Any]) -> str:
    """The text of the card.

    Args:
        folder: the shipped classifier's: `config.json`, `card.json` and `model.safetensors`.
        record: what record.py wrote of the training and its seeds.
    """
    described, facts = (json.loads((folder / f"{name}.json").read_text(encoding="utf-8")) for name in ("config", "card"))
    metadata, p, test = described["metadata"], described["preprocessing"], facts["test"]
    dataset = torchnin.data.CATALOG[metadata["data"]["name"]]
    row = next(row for row in record["seeds"] if row["seed"] == facts["seed"])
    low, high = test["accuracy_interval"]
    made = RECORDS.get(record["record"], Record)
    own = torchnin.model_entry(metadata["name"]).config.in_channels == p["channels"]
    return CARD.format(
        name=folder.name,
        network=metadata["name"],
        in_channels="" if own else f", in_channels={p['channels']}",
        parameters=f"{record['num_parameters']:,}",
        title=dataset.title.partition(":")[0],
        accuracy=f"{test['accuracy']:.2%}",
        low=f"{low:.2%}",
        high=f"{high:.2%}",
        pictures=f"{test['num_pictures']:,}",
        size=f"{p['channels']}x{p['height']}x{p['width']}",
        classes=", ".join(described["class_names"]),
        bytes=f"{(folder / 'model.safetensors').stat().st_size:,}",
        sha256=described["weights_sha256"],
        stored=STORED[facts["stored"]],
        data_title=dataset.title,
        data_home=dataset.home,
        data_licence=dataset.licence,
        shipped=facts["shipped"],
        command=record["command"],
        training=_training(record, row),
        recipe=fill(_recipe(record["training"]["recipe"], made.chosen + made.ending), _WIDTH),
        seeds=_seeds(record, row),
        quality=fill(" ".join(_quality(facts)), _WIDTH),
        per_class=_per_class(test),
        confusion=_confusion(test),
        confusions=_confusions(test, 5),
        limits=LIMITS[dataset.name.removesuffix("-sample")],
        seeds_zh=_seeds_zh(record),
        chosen_zh=made.chosen_zh + made.ending_zh,
        limits_zh=LIMITS_ZH[dataset.name.removesuffix("-sample")],
    )


def _training(record: dict[str, Any], row: dict[str, Any]) -> str:
    data, device, versions = record["training"]["data"], row["device"], row["versions"]
    held = f", {data['validation_pictures']:,} more held out" if data["validation_pictures"] else ""
    where = f"{row['processor']}, {row['cores']} cores" if row["processor"] else versions["platform"]
    other = ", other work on the same machine" if row["other_work_meanwhile"] else ""
    return (
        f"{data['train_pictures']:,} pictures{held}, {_counted(row['epochs'], 'epoch')}, seed {row['seed']}; "
        f"finished on {row['date']} after {_duration(row['seconds'])} by the clock{other}.\n"
        f"{where}; {device['device']}, {device['dtype']}, {_counted(device['threads'], 'thread')};\n"
        f"torch {versions['torch']}, Python {versions['python']}, torchnin {versions['torchnin']}, "
        f"commit {row['git_commit'] or 'not recorded'}."
    )


def _recipe(recipe: dict[str, Any], chosen: str) -> str:
    fields = {key: value for key, value in recipe.items() if key not in ("augmentation", "min_batches", "min_steps")}
    words = {True: "yes", False: "no", None: "none"}
    shown = ", ".join(
        f"{key.replace('_', ' ')} {words[value] if value is None or isinstance(value, bool) else value}"
        for key, value in {**fields, **recipe["augmentation"]}.items()
    )
    return f"The recipe in full: {shown}. {chosen}"


def _seeds(record: dict[str, Any], row: dict[str, Any]) -> str:
    seeds, planned = record["seeds"], record["planned_seeds"]
    if len(seeds) == 1:
        return f"One seed is recorded of {planned} planned, so how far apart seeds end is not known yet."
    listed = ", ".join(f"{each['test_accuracy']:.2%}" for each in seeds)
    return (
        f"{len(seeds)} seeds of {planned} planned reach {listed} on the test pictures: mean {record['mean_test_accuracy']:.2%},\n"
        f"standard deviation {100 * record['standard_deviation']:.2f} points, lowest {record['min_test_accuracy']:.2%}. "
        + ("Shipped is the first seed, however it did." if row["seed"] == seeds[0]["seed"] else f"Shipped is seed {row['seed']}.")
    )


def _seeds_zh(record: dict[str, Any]) -> str:
    seeds, planned = record["seeds"], record["planned_seeds"]
    if len(seeds) == 1:
        return f"目前只记录了一个随机种子（计划 {planned} 个）。"
    spread = f"标准差 {100 * record['standard_deviation']:.2f} 个百分点，最低 {record['min_test_accuracy']:.2%}"
    done = f"{len(seeds)} 个随机种子" if len(seeds) == planned else f"已完成的 {len(seeds)} 个随机种子（计划 {planned} 个）"
    return f"{done}的平均准确率为 {record['mean_test_accuracy']:.2%}（{spread}）。"


def _quality(facts: dict[str, Any]) -> Iterator[str]:
    test, bins, trained = facts["test"], facts["test"]["reliability"], facts["as_trained"]
    surest = bins[-1]
    yield f"Loss (cross-entropy) {test['loss']:.4f}, expected calibration error {test['calibration_error']:.4f} over {len(bins)} bins."
    if surest["num_pictures"]:
        yield (
            f"Of the {surest['num_pictures']:,} answers given with a probability above {surest['low']:.2f}, {surest['accuracy']:.2%} are "
            f"right; their mean probability is {surest['confidence']:.2%}."
        )
    if facts["stored"] == "float16":
        yield (
            f"In float32, as trained, the accuracy is {trained['accuracy']:.2%}: float16 changed {facts['answers_changed']} of the "
            f"{test['num_pictures']:,} answers, and no answer's probability by more than {facts['largest_change_of_confidence']:.4f}."
        )
    if sample := facts.get("sample"):
        yield (
            f"On the {sample['num_pictures']:,} test pictures of `{sample['data']}`, which come with the package and are a part of "
            f"the same test set: {sample['accuracy']:.2%}."
        )


def _per_class(test: dict[str, Any]) -> str:
    columns = ("precision", "recall", "f1")
    rows = [(name, *(_fraction(one[key]) for key in columns), f"{one['num_pictures']:,}") for name, one in test["per_class"].items()]
    means = (test["macro_precision"], test["balanced_accuracy"], test["macro_f1"])
    rows.append(("mean", *map(_fraction, means), f"{test['num_pictures']:,}"))
    return _table(("class", "precision", "recall", "F1", "pictures"), rows)


def _confusion(test: dict[str, Any]) -> str:
    names = test["class_names"]
    rows = [(name, *(f"{count:,}" if count else "." for count in counts)) for name, counts in zip(names, test["confusion"], strict=True)]
    return _table(("", *map(str, range(len(names)))), rows)


def _confusions(test: dict[str, Any], most: int) -> str:
    names = test["class_names"]
    found = [
        (count, names[true], names[predicted])
        for true, counts in enumerate(test["confusion"])
        for predicted, count in enumerate(counts)
        if count and true != predicted
    ]
    found.sort(key=lambda each: -each[0])
    return ", ".join(f"{true} taken for {predicted} ({count})" for count, true, predicted in found[:most])


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = "|".join(["---", *["---:"] * (len(header) - 1)])
    return "\n".join((f"| {' | '.join(header)} |", f"|{rule}|", *(f"| {' | '.join(cells)} |" for cells in rows)))


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.1f} hours" if seconds >= 5400 else f"{seconds / 60:.0f} minutes"
