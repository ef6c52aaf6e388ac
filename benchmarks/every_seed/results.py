"""What is recorded of the study, from the folders that `measure.py` and `cure.py` wrote, and the pictures of docs/ and README made of it.

    python benchmarks/every_seed/results.py record why-67=runs/why-67 why-narrow=runs/why-narrow    writes results/NAME.json
    python benchmarks/every_seed/results.py record cure-mnist=runs/mnist                          the same of cure.py's variants
    python benchmarks/every_seed/results.py draw                                                  docs/pictures/why-*.png, both languages

Trainings that are recorded already stay beside new ones. Of the many rows that `measure.py` writes, those of the first steps and a
dozen more are kept whole for the notebooks' recipe itself, and loss, accuracy and dead maps of at most 100 for every change.
"""

import argparse
import json
import os
import statistics
from pathlib import Path
from typing import Any

from cure import table

from torchnin import plots
from torchnin.data import load_dataset
from torchnin.files import write_json

HERE = Path(__file__).parent
RESULTS = HERE / "results"
PICTURES = HERE.parents[1] / "docs" / "pictures"

# How many official runs of the notebooks' recipe (rate .1, no seed given) in the public history of the book's notebook repositories
# ended with a test accuracy in which bin; runs whose loss was not finite are in the first.
PUBLIC_EDGES = (0.0, 0.11, 0.7, 0.8, 0.85, 1.0)
PUBLIC_RUNS = {"PyTorch": (9, 19, 18, 22, 58), "MXNet": (9, 21, 14, 5, 33), "TensorFlow": (4, 6, 7, 6, 30)}

CHANGES = {
    "none": ("the notebooks' recipe", "笔记本的配方"),
    "bias 1": ("class maps' bias 1", "类别图偏置为 1"),
    "leaky": ("leaky last ReLU", "最后的 ReLU 改为 leaky"),
    "no last ReLU": ("no last ReLU", "去掉最后的 ReLU"),
    "alive": ("start of steady", "steady 的初始化"),
    "lr .02": ("rate .02", "学习率 0.02"),
}


def read(path: Path) -> dict[str, Any]:
    """A JSON document."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def recorded(name: str) -> dict[str, Any]:
    """A recorded result."""
    return read(RESULTS / f"{name}.json")


def record(folder: Path) -> dict[str, Any]:
    """One document of what `measure.py` wrote into a folder."""
    kept = ("network", "widths", "image_size", "batch_size", "device", "torch", "date")
    document: dict[str, Any] = {}
    for path in sorted(folder.glob("*/seed-*.json"), key=lambda path: (path.parent.name != "none", path.parent.name, int(path.stem[5:]))):
        seed = read(path)
        document = document or {**{key: seed[key] for key in kept}, "changes": {}}
        runs = document["changes"].setdefault(seed["change"], [])
        every = seed["rows"]
        stride = -(-len(every) // 100)
        rows = [row for number, row in enumerate(every) if row["step"] < 21 or number % stride == 0 or row is every[-1]]
        whole = [
            row for row in rows if row["step"] < 21 or row["step"] % (100 if every[-1]["step"] < 1000 else 500) == 0 or row is every[-1]
        ]
        run = {
            "seed": seed["seed"],
            "processor_seconds": seed["processor_seconds"],
            "steps": [row["step"] for row in rows],
            "loss": [round(row["loss"], 3) for row in rows],
            "accuracy": [round(row["accuracy"], 3) for row in rows],
            "dead": [row["dead"] for row in rows],
            "tests": [at_epoch(test, every) for test in seed["tests"]],
        }
        if seed["change"] == "none":
            run["rows"] = [short(row) for row in whole]
        runs.append(run)
    return document


def joined(before: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """What was recorded before and what is found now, of which a run of the same change and seed takes the place of the older one.

    Raises:
        ValueError: the two are of other networks or pictures.
    """
    for key in ("network", "widths", "image_size", "batch_size"):
        if before and before[key] != found[key]:
            raise ValueError(f"{key} was {before[key]} in what is recorded and is {found[key]} now; take another name")
    changes: dict[str, dict[int, Any]] = {}
    for document in (before, found):
        for name, runs in document.get("changes", {}).items():
            changes.setdefault(name, {}).update({run["seed"]: run for run in runs})
    return {**found, "changes": {name: [runs[seed] for seed in sorted(runs)] for name, runs in changes.items()}}


def joined_cure(before: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """The variants of `cure.py` that were recorded before, and those found now, each with its date and what it was computed in.

    A run of the same variant and seed takes the place of the older one.

    Raises:
        ValueError: the two are of other networks, pictures or measures, or a variant was computed in another type.
    """
    of = {key: value for key, value in found.items() if key not in ("variants", "date", "torch", "device")}
    for key, value in of.items():
        if before and before[key] != value:
            raise ValueError(f"{key} was {before[key]} in what is recorded and is {value} now; take another name")
    variants: dict[str, Any] = dict(before.get("variants", {}))
    dtype = found["device"]["dtype"]
    for name, now in found["variants"].items():
        then = variants.get(name, {"dtype": dtype, "runs": []})
        if then["dtype"] != dtype:
            raise ValueError(f"{name} was computed in {then['dtype']} in what is recorded and is in {dtype} now; take another name")
        runs = {run["seed"]: run for run in (*then["runs"], *now["runs"])}
        variants[name] = {"date": found["date"], "dtype": dtype, **table([runs[seed] for seed in sorted(runs)])}
    return {**found, "variants": variants}


def at_epoch(test: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is kept of the end of an epoch; with the share of each map that was zero, and its gradient, in the 100 steps before it."""
    kept = ("step", "test_accuracy", "test_loss", "test_pictures", "recalls", "dead_maps", "all_zero_pictures")
    before = [row for row in rows if test["step"] - 100 <= row["step"] < test["step"]]
    means = {
        name: [float(f"{sum(row[name][k] for row in before) / len(before):.2g}") for k in range(len(test["recalls"]))]
        for name in ("zero_share", "gradient_norm")
    }
    return {key: test[key] for key in kept} | means


def relative_gradients(test: dict[str, Any]) -> list[float]:
    """The gradient that reaches each class map, as a share of the median map's; 0 where none reaches the median map either."""
    middle = statistics.median(test["gradient_norm"])
    return [gradient / middle if middle else 0.0 for gradient in test["gradient_norm"]]


def short(row: dict[str, Any]) -> dict[str, Any]:
    """A row with three figures for each value."""

    def rounded(value: Any) -> Any:
        if isinstance(value, list):
            return [rounded(part) for part in value]
        return float(f"{value:.3g}") if isinstance(value, float) else value

    kept = ("step", "zero_share", "mean", "spread", "gradient_norm", "convolution_gradient_norms", "dead_channels")
    return {key: rounded(row[key]) for key in kept}


def dumped(document: dict[str, Any]) -> str:
    """JSON with a line for each run: small, and a change of one run is a change of one line."""
    changes = document["changes"]
    head = json.dumps({key: value for key, value in document.items() if key != "changes"}, indent=1)
    body = ",\n".join(
        f" {json.dumps(name)}: [\n" + ",\n".join(f"  {json.dumps(run, separators=(',', ':'))}" for run in runs) + "\n ]"
        for name, runs in changes.items()
    )
    return f'{head[:-2]},\n "changes": {{\n{body}\n }}\n}}\n'


def write(name: str, document: dict[str, Any]) -> None:
    """Write a result aside and rename it."""
    path = RESULTS / f"{name}.json"
    RESULTS.mkdir(exist_ok=True)
    aside = path.with_suffix(".new")
    aside.write_text(dumped(document), encoding="utf-8")
    os.replace(aside, path)
    print(f"{path.name}: {path.stat().st_size / 1000:.0f} KB, {sum(map(len, document['changes'].values()))} trainings")


def draw(language: plots.Language) -> None:
    """Every picture of the study, in one language."""
    column = int(language == "zh")
    suffix = ".zh-CN.png" if column else ".png"
    names = load_dataset("fashion-mnist-sample").class_names
    starts = recorded("start")["starts"]
    titles = {"d2l": ("the notebooks' start (Xavier)", "笔记本的初始化（Xavier）"), "steady": ("steady's start", "steady 的初始化")}
    plots.signal_at_the_start(
        {titles[key][column]: (found["differs"], found["dead_maps"]) for key, found in starts.items()},
        PICTURES / f"why-start{suffix}",
        language=language,
    )
    long = recorded("why-narrow")["changes"]
    for name, runs in (("why-lives", long["none"]), ("why-first-steps", recorded("why-67")["changes"]["none"])):
        plots.class_map_lives(
            [
                {
                    "name": f"{'种子' if column else 'seed'} {run['seed']}: {run['tests'][-1]['test_accuracy']:.3f}",
                    "steps": run["steps"],
                    "accuracies": run["accuracy"],
                    "dead": run["dead"],
                }
                for run in runs
            ],
            names,
            PICTURES / f"{name}{suffix}",
            language=language,
        )
    ends = {name: [run["tests"][-1] for run in runs] for name, runs in long.items()}
    learning = [test for run in long["none"] for test in run["tests"] if test["test_accuracy"] > 0.2]
    maps = [pair for test in learning for pair in zip(relative_gradients(test), test["recalls"], strict=True)]
    plots.price_of_dead_maps(
        {CHANGES[name][column]: [(len(end["dead_maps"]), end["test_accuracy"]) for end in found] for name, found in ends.items()},
        maps,
        PICTURES / f"why-price{suffix}",
        language=language,
    )
    runs = {("the notebooks' recipe, ten epochs*", "笔记本的配方，十轮*")[column]: [end["test_accuracy"] for end in ends["none"]]}
    for result, name in (
        ("steady-narrow", ("steady, {epochs} epochs*", "steady，{epochs} 轮*")),
        ("cure-224", ("steady, the notebooks' network, 224 pixels, {epochs} epochs", "steady，笔记本的网络，224 像素，{epochs} 轮")),
    ):
        found = recorded(result)
        runs[name[column].format(epochs=found["num_epochs"])] = [run["accuracy"] for run in found["variants"]["steady"]["runs"]]
    title = ("official {name} notebooks", "官方 {name} 笔记本")[column]
    plots.accuracies_beside(
        runs,
        {title.format(name=name): counts for name, counts in PUBLIC_RUNS.items()},
        PUBLIC_EDGES,
        PICTURES / f"why-accuracies{suffix}",
        language=language,
    )
    seeds = {run["seed"] for name, runs in long.items() if name != "none" for run in runs}
    last = min(run["steps"][-1] for runs in long.values() for run in runs)
    plots.changes_over_steps(
        {
            CHANGES[name][column]: [
                tuple(zip(*((step, value) for step, value in zip(run["steps"], run["accuracy"], strict=True) if step <= last), strict=True))
                for run in runs
                if run["seed"] in seeds
            ]
            for name, runs in long.items()
        },
        PICTURES / f"why-changes{suffix}",
        language=language,
    )


def main() -> None:
    """Record, or draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("do", choices=["record", "draw"])
    parser.add_argument("folders", nargs="*", metavar="NAME=FOLDER")
    options = parser.parse_args()
    if options.do == "draw":
        for language in ("en", "zh"):
            draw(language)
        return
    for name, _, folder in (item.partition("=") for item in options.folders):
        before = recorded(name) if (RESULTS / f"{name}.json").is_file() else {}
        summary = Path(folder) / "summary.json"  # of cure.py
        if summary.is_file():
            write_json(RESULTS / f"{name}.json", joined_cure(before, read(summary)))
        else:
            write(name, joined(before, record(Path(folder))))


if __name__ == "__main__":
    main()
