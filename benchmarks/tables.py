"""The tables of README.md and README.zh-CN.md, made from the recorded results and from the networks themselves.

python benchmarks/tables.py            write them
python benchmarks/tables.py --check    fail where they are not what the results say
"""

import re
import sys
from pathlib import Path

import torchnin
from pages import Makers, recorded, write_or_check
from prediction_tables import computes

HERE = Path(__file__).parent
sys.path.append(str(HERE / "records"))
from records import RECORDS as LONGEST  # noqa: E402

FIRST_TRAINING = HERE / "first_training" / "results"
RECORDS = HERE / "records" / "results"

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "results": "| data | command | network | test accuracy | whole process |",
        "seeds": "mean of {n} seeds, lowest {low:.2%}",
        "seed": "one seed",
        "spread": " ({})",
        "more": "; ",
        "at most": "at most {seconds:.0f} s",
        "conditions": "measured {date} on {processor}, {cores} cores, {computes}; torch {torch}",
        "apart": "{data} {conditions}",
        "whole": "{Conditions}. Seconds are those of the whole process, from its start to the written result, data and test included; the "
        "longest of the seeds.",
        "slower": " Without bfloat16 ({processor}, {date}): {each}.",
        "slower each": "{data} {accuracy:.2%} in at most {seconds:.0f} s",
        "few": " Of {each} photos of each class, with all others to test: `{command}` {best:.1%}, its network from drawn weights "
        "(`{untrained_command}`) {untrained:.1%}, `nin train photos/ --image-size 32` {plain:.1%} (mean of {n} seeds). "
        "For few pictures the rates were chosen by test pictures ([lab log](docs/lab-log.md)).",
        "records": "| data | command | network | test accuracy | ships as |",
        "deviation": "mean of {n} seeds, standard deviation {deviation:.2f}, lowest {low:.2%}",
        "first seeds": "{n} of {planned} seeds so far",
        "ships": "`{name}` (seed {seed}: {accuracy:.2%})",
        "no room": "does not, to keep the package small",
        "one test": "All on the test pictures as they are, none mirrored or moved. Nothing was chosen by them, unless a card says so. "
        "What ships stores its convolutions in float16, so its last digits may differ. "
        "The other trainings stand in benchmarks/records.",
        "stands in": "stands in for a longer training",
        "soonest": "| test accuracy | command | two cores with bfloat16 (AMX) | two cores without |",
        "soon": "**{seconds:.1f} s** ({low:.2%} to {high:.2%}, {n} seeds)",
        "sooner": "Seconds from the start of the process to the written result; medians of the seeds, with the least and the highest "
        "accuracy. The notebooks' ten epochs, of whose public runs 46 % reach 85 %, take {bfloat16:.0f} hours on the first two cores and "
        "{float32:.0f} on the others, extrapolated from batches that were measured ([docs/speed.md](docs/speed.md)).",
        "networks": "| network | parameters | multiply-adds | input | source |",
    },
    "zh": {
        "results": "| 数据 | 命令 | 网络 | 测试准确率 | 整个进程用时 |",
        "seeds": "{n} 个随机种子的平均，最低 {low:.2%}",
        "seed": "一个种子",
        "spread": "（{}）",
        "more": "；",
        "at most": "不超过 {seconds:.0f} 秒",
        "conditions": "测量于 {date}：{processor}，{cores} 核，{computes}；torch {torch}",
        "apart": "{data} {conditions}",
        "whole": "{Conditions}。用时从进程启动到写出结果，包括读数据和测试；取各种子中最长的。",
        "slower": "没有 bfloat16 时（{processor}，{date}）：{each}。",
        "slower each": "{data} {accuracy:.2%}，不超过 {seconds:.0f} 秒",
        "few": "每类只用 {each} 张照片训练、其余全部用来测试：`{command}` {best:.1%}，"
        "同一网络从头训练（`{untrained_command}`）{untrained:.1%}，"
        "`nin train photos/ --image-size 32` {plain:.1%}（{n} 个随机种子的平均）。"
        "图片很少时的学习率是用测试图片选择的（[实验日志](docs/lab-log.md)）。",
        "records": "| 数据 | 命令 | 网络 | 测试准确率 | 随包提供 |",
        "deviation": "{n} 个随机种子的平均，标准差 {deviation:.2f}，最低 {low:.2%}",
        "first seeds": "目前 {n} 个种子，计划 {planned} 个",
        "ships": "`{name}`（种子 {seed}：{accuracy:.2%}）",
        "no room": "否，为了让安装包保持小巧",
        "one test": "均为原样的测试图片，没有翻转或平移；"
        "没有用它们选择任何东西，除非模型卡另有说明。所附的权重以 float16 存储卷积，所以末位可能不同。其余的训练见 benchmarks/records。",
        "stands in": "暂代更长的训练",
        "soonest": "| 测试准确率 | 命令 | 两个核，有 bfloat16（AMX） | 两个核，无 bfloat16 |",
        "soon": "**{seconds:.1f} 秒**（{low:.2%} 至 {high:.2%}，{n} 个种子）",
        "sooner": "从进程启动到写出结果的秒数；各种子的中位数，附最低和最高准确率。笔记本的十轮训练（其公开运行中有 46 % 达到 85 %）"
        "在前者上要 {bfloat16:.0f} 小时，在后者上要 {float32:.0f} 小时，由实测的若干批推算（[docs/speed.zh-CN.md](docs/speed.zh-CN.md)）。",
        "networks": "| 网络 | 参数 | 乘加次数 | 输入 | 来源 |",
    },
}
ORDER = ("fashion-mnist", "mnist", "cifar-10", "photos")
DATA = {
    "fashion-mnist": "Fashion-MNIST",
    "mnist": "MNIST",
    "cifar-10": "CIFAR-10",
    "photos": "2,062 photos, 10 hand signs",
}
DATA_ZH = {**DATA, "photos": "2062 张照片，10 种手势"}
SHORT = {"en": {**DATA, "photos": "the photos"}, "zh": {**DATA, "photos": "照片"}}


def results(language: str) -> str:
    """The table of what `nin train` reaches, with its conditions."""
    words, names = WORDS[language], DATA if language == "en" else DATA_ZH
    lines = [words["results"], "|---|---|---|---|---|"]
    conditions: dict[str, list[str]] = {}
    for name in ORDER:
        path = FIRST_TRAINING / f"{name}.json"
        if not path.is_file():
            continue
        case = recorded(path)
        runs = case["runs"]
        spread = words["seeds"].format(n=len(runs), low=case["min_test_accuracy"]) if len(runs) > 1 else words["seed"]
        command = re.sub(r"--(data-dir|photos) \S+ ?", "", case["command"]).replace("sign-language-digits", "photos/").strip()
        lines.append(
            f"| {names[name]} | `{command}` | `nin_small`, {runs[0]['num_parameters']:,} | "
            f"**{case['mean_test_accuracy']:.2%}**{words['spread'].format(spread)} | "
            f"{words['at most'].format(seconds=case['max_process_seconds'])} |"
        )
        machine = {**case["machine"], "computes": computes(language, case["machine"]["computes"])}
        conditions.setdefault(words["conditions"].format(date=case["date"], **machine), []).append(SHORT[language][name])
    if len(conditions) > 1:
        conditions = {words["apart"].format(data=_and(language, data), conditions=each): data for each, data in conditions.items()}
    told = words["more"].join(conditions)
    whole = words["whole"].format(Conditions=told[:1].upper() + told[1:])
    return "\n".join([*lines, "", whole + _slower(language) + _few(language)])


def _slower(language: str) -> str:
    """What the same takes on a processor without bfloat16."""
    words, each, last = WORDS[language], [], None
    for name in ORDER:
        path = FIRST_TRAINING / f"{name}-float32.json"
        if path.is_file():
            last = recorded(path)
            reached = {"accuracy": last["mean_test_accuracy"], "seconds": last["max_process_seconds"]}
            each.append(words["slower each"].format(data=SHORT[language][name], **reached))
    if last is None:
        return ""
    told = (", " if language == "en" else "；").join(each)
    return words["slower"].format(processor=last["machine"]["processor"], date=last["date"], each=told)


def _few(language: str) -> str:
    """What a few photos are enough for."""
    case = recorded(HERE / "few_pictures" / "results" / "few_pictures.json")
    best = max(case["ways"], key=lambda way: float(case["ways"][way]["mean"]))
    drawn = f"--model {torchnin.weights_entry(best.split()[-1]).network}"
    return WORDS[language]["few"].format(
        each=case["pictures_of_each_class"],
        command=f"nin train photos/ {best}",
        best=case["ways"][best]["mean"],
        untrained_command=drawn,
        untrained=case["ways"][drawn]["mean"],
        plain=case["ways"]["--model nin_small"]["mean"],
        n=len(case["ways"][best]["runs"]),
    )


def _and(language: str, names: list[str]) -> str:
    """Names in a row."""
    return (", ".join(names[:-1]) + " and " + names[-1] if len(names) > 1 else names[0]) if language == "en" else "、".join(names)


def records(language: str) -> str:
    """The table of the longest trainings: those whose weights ship, and those that are told of without."""
    words = WORDS[language]
    lines = [words["records"], "|---|---|---|---|---|"]
    weights = {name: torchnin.weights_entry(name) for name in torchnin.list_weights()}
    told = [path for path in RECORDS.glob("*.json") if path.stem in weights or LONGEST[path.stem].told]
    for path in sorted(told, key=lambda path: (ORDER.index(recorded(path)["training"]["data"]["name"]), path.name)):
        case = recorded(path)
        seeds, training = case["seeds"], case["training"]
        spread = words["seed"]
        if len(seeds) > 1:
            spread = words["deviation"].format(n=len(seeds), deviation=100 * case["standard_deviation"], low=case["min_test_accuracy"])
        if len(seeds) < case["planned_seeds"]:
            spread += words["more"] + words["first seeds"].format(n=len(seeds), planned=case["planned_seeds"])
        if LONGEST[path.stem].stand_in:
            spread += words["more"] + words["stands in"]
        ships = words["no room"]
        if path.stem in weights:
            seed = recorded(weights[path.stem].folder / "card.json")["seed"]
            ships = words["ships"].format(name=path.stem, seed=seed, accuracy=weights[path.stem].test_accuracy)
        lines.append(
            f"| {DATA[training['data']['name']]} | `{case['command']}` | `{training['name']}`, {case['num_parameters']:,} | "
            f"**{case['mean_test_accuracy']:.2%}**{words['spread'].format(spread)} | {ships} |"
        )
    return "\n".join([*lines, "", words["one test"]])


def soonest(language: str) -> str:
    """How soon some accuracies are reached, with bfloat16 and without, and how long the notebooks' procedure takes."""
    words, results = WORDS[language], HERE / "speed" / "results"
    reports = {dtype: recorded(results / f"time_to_accuracy-{dtype}.json")["report"] for dtype in ("bfloat16", "float32")}
    rows: dict[tuple[str, str], dict[str, str]] = {}
    hours = {}
    for dtype, report in reports.items():
        for goal, found in report.items():
            (entry,) = found.values()
            accuracies = [run["test_accuracy"] for run in entry["runs"]]
            cell = words["soon"].format(seconds=entry["median_seconds"], n=len(accuracies), low=min(accuracies), high=max(accuracies))
            rows.setdefault((goal, entry["command"]), {})[dtype] = cell
            hours[dtype] = entry["notebooks"]["hours"]
    lines = [words["soonest"], "|---|---|---|---|"]
    lines += [
        f"| {goal} % | `{command}` | {' | '.join(cells.get(dtype, '-') for dtype in reports)} |" for (goal, command), cells in rows.items()
    ]
    return "\n".join([*lines, "", words["sooner"].format(**hours)])


def networks(language: str) -> str:
    """The table of the named networks."""
    lines = [WORDS[language]["networks"], "|---|---:|---:|---|---|"]
    for name in torchnin.list_models():
        entry = torchnin.model_entry(name)
        config = entry.config
        table = torchnin.summarize(torchnin.create_model(name), (1, config.in_channels, config.image_size, config.image_size))
        shape = f"{config.in_channels}x{config.image_size}x{config.image_size}"
        lines.append(f"| `{name}` | {table.num_parameters:,} | {table.num_macs:,} | {shape} | {entry.source} |")
    return "\n".join(lines)


README: Makers = {"results": results, "records": records, "soonest": soonest, "networks": networks}
PAGES: dict[Path, tuple[str, Makers]] = {HERE.parent / "README.md": ("en", README), HERE.parent / "README.zh-CN.md": ("zh", README)}

if __name__ == "__main__":
    write_or_check(__doc__, "python benchmarks/tables.py", PAGES)
