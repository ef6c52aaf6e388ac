"""The exercises of the chapter (Dive into Deep Learning, section 8.3; zh 7.3), each one command with its measured answer.

    python benchmarks/exercises/measure.py                      every exercise; about an hour of one core
    python benchmarks/exercises/measure.py mlp_layers           one of them
    python benchmarks/exercises/measure.py mlp_layers --counts  only what is counted, no training: seconds

Counts are those of the chapter's own network at 224 pixels. Accuracies are measured on `nin_small`, our NiN for 28 pixels (two blocks
and the class block, one 1x1 in each, batch normalisation, no ReLU on the class maps), with the same change made to it; by the recipe
`fast`, where nothing else is said: Fashion-MNIST, a tenth of the train pictures held out, two epochs, three seeds (`--seeds`).
Trainings are kept under runs/exercises (`--runs`), so that a second call goes on where the first one stopped; `--more` also takes the
seeds that are recorded in results/ as they are.
Each exercise writes `results/NAME.json`; `benchmarks/docs_tables.py` makes the tables of docs/exercises.md from these files.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import claims

import torchnin

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from conditions import machine  # noqa: E402

RESULTS = HERE / "results"
TRAINING = ("--num-epochs", "2", "--validation", "0.1", "--device", "cpu", "--dtype", "float32")

# As the chapter builds it, at 28 pixels: two 1x1, no normalisation, ReLU on the class maps, to ten channels at once.
CHAPTER = "nin_small:mlp_layers=2,batch_norm=false,class_map_relu=true,class_hidden=10-10"
NOTEBOOK = ("--recipe", "d2l", "--image-size", "28")

# Of each exercise: the networks that are counted, and the trainings `nin train --model ...` that are measured, by label.
EXERCISES: dict[str, tuple[tuple[str, ...], dict[str, tuple[str, ...]]]] = {
    "tuning": (
        (),
        {
            "notebook": (CHAPTER, *NOTEBOOK),
            "notebook lr .02": (CHAPTER, *NOTEBOOK, "--lr", "0.02"),
            "notebook lr .5": (CHAPTER, *NOTEBOOK, "--lr", "0.5"),
            "steady": (CHAPTER, "--recipe", "steady"),
            "steady, normalised": (CHAPTER.replace("batch_norm=false", "batch_norm=true"), "--recipe", "steady"),
            "fast": (CHAPTER.replace("batch_norm=false,class_map_relu=true", "batch_norm=true"), "--recipe", "fast"),
        },
    ),
    "mlp_layers": (
        ("nin_d2l:mlp_layers=0", "nin_d2l:mlp_layers=1", "nin_d2l", "nin_d2l:mlp_layers=3"),
        {
            "none": ("nin_small:mlp_layers=0",),
            "one": ("nin_small",),
            "two": ("nin_small:mlp_layers=2,class_hidden=160-160",),
            "three": ("nin_small:mlp_layers=3,class_hidden=160-160-160",),
        },
    ),
    "mlp_kernel_size": (("nin_d2l", "nin_d2l:mlp_kernel_size=3"), {"1x1": ("nin_small",), "3x3": ("nin_small:mlp_kernel_size=3",)}),
    "head": (("nin_d2l", "nin_d2l:head=fc"), {"gap": ("nin_small",), "fc": ("nin_small:head=fc",)}),
    "resources": (("nin_d2l",), {}),
    "one_step": (
        ("nin_d2l:class_hidden=10-10", "nin_d2l:class_hidden=192-48", "nin_d2l:class_hidden=384-384"),
        {"at once": ("nin_small:class_hidden=10",), "in two steps": ("nin_small:class_hidden=96",)},
    ),
}
CLAIMS: dict[str, Callable[[], dict[str, Any]]] = {
    "one_by_one": claims.one_by_one,
    "connected_heads": claims.connected_heads,
    "dropout": claims.dropout,
}


def counts(networks: tuple[str, ...]) -> list[dict[str, Any]]:
    """The four resource counts of networks as `nin compare` takes them, for one picture."""
    if not networks:
        return []
    kept = ("name", "input", "num_parameters", "num_macs", "predict_bytes", "train_bytes")
    rows = json.loads(nin("compare", *networks, "--seconds", "0", "--json"))["networks"]
    return [{key: row[key] for key in kept} for row in rows]


def nin(*arguments: str) -> str:
    """What `nin` prints."""
    return subprocess.run([sys.executable, "-m", "torchnin", *arguments], stdout=subprocess.PIPE, check=True, text=True).stdout


def folder_of(arguments: tuple[str, ...], seed: int, runs: Path) -> Path:
    """Where a training is kept."""
    return runs / "_".join(arguments).replace(":", "_").replace("--", "").replace("=", "").replace(",", "_") / f"seed-{seed}"


def trained(arguments: tuple[str, ...], seed: int, runs: Path) -> dict[str, Any]:
    """The accuracies of one training. A run that is there already is taken as it is."""
    folder = folder_of(arguments, seed, runs)
    if not (folder / "result.json").is_file():
        resume = (folder / "config.json").is_file()
        call = ("--resume",) if resume else ("--model", *arguments, *TRAINING, "--seed", str(seed))
        nin("train", *call, "--out", str(folder), "--json")
    run = torchnin.Run(folder)
    return {
        "seed": seed,
        "validation_accuracy": run.metrics[-1]["validation_accuracy"],
        "test_accuracy": run.result["test_accuracy"],
        "num_parameters": run.result["num_parameters"],
        "dead_class_maps": run.metrics[-1]["dead_class_maps"],
    }


def recorded(name: str) -> dict[tuple[str, int], dict[str, Any]]:
    """The trainings that `results/NAME.json` has already, by command and seed."""
    file = RESULTS / f"{name}.json"
    rows = json.loads(file.read_text(encoding="utf-8")).get("trainings", []) if file.is_file() else []
    return {(row["command"], run["seed"]): run for row in rows for run in row["runs"]}


def command(arguments: tuple[str, ...]) -> str:
    """What would have to be typed for a training, but for its seed."""
    return " ".join(("nin train --model", *arguments, *TRAINING[:4]))


def measured(
    trainings: dict[str, tuple[str, ...]], seeds: int, runs: Path, kept: bool, known: dict[tuple[str, int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """Every training of an exercise with each seed, or those that are there; seed after seed, so that a first answer is there early."""
    found: dict[str, list[dict[str, Any]]] = {label: [] for label in trainings}
    for seed in range(seeds):
        for label, arguments in trainings.items():
            if (command(arguments), seed) in known:
                found[label].append(known[command(arguments), seed])
                continue
            if kept and not (folder_of(arguments, seed, runs) / "result.json").is_file():
                continue
            row = trained(arguments, seed, runs)
            found[label].append(row)
            print(f"{label}, seed {seed}: held out {row['validation_accuracy']:.4f}, test {row['test_accuracy']:.4f}", flush=True)
    return [
        {
            "label": label,
            "command": command(trainings[label]),
            **{
                f"{kind}_accuracy": {
                    "mean": statistics.fmean(values := [row[f"{kind}_accuracy"] for row in rows]),
                    "low": min(values),
                    "high": max(values),
                }
                for kind in ("validation", "test")
            },
            "num_parameters": rows[0]["num_parameters"],
            "runs": rows,
        }
        for label, rows in found.items()
        if rows
    ]


def main() -> None:
    """Answer the exercises that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = (*EXERCISES, *CLAIMS)
    parser.add_argument("exercises", nargs="*", help=f"which ones, all where none is named: {', '.join(names)}")
    parser.add_argument("--counts", action="store_true", help="count, train nothing, write nothing")
    parser.add_argument("--runs", type=Path, default=Path("runs/exercises"), help="where the trainings are kept")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each network")
    parser.add_argument("--kept", action="store_true", help="train nothing anew, take the trainings that are there")
    parser.add_argument("--more", action="store_true", help="train only the seeds that results/ has not")
    options = parser.parse_args()
    for name in options.exercises or names:
        if name not in names:
            parser.error(f"no exercise {name!r}; the exercises: {', '.join(names)}")
        if name in CLAIMS:
            found = CLAIMS[name]()
        else:
            networks, trainings = EXERCISES[name]
            found = {"networks": counts(networks)}
            if not options.counts:
                known = recorded(name) if options.more else {}
                found["trainings"] = measured(trainings, options.seeds, options.runs, options.kept, known)
        document = {
            "exercise": name,
            "command": f"python benchmarks/exercises/measure.py {name}",
            "date": datetime.now(UTC).date().isoformat(),
            "machine": machine(),
            **found,
        }
        print(json.dumps({name: found}, indent=1), flush=True)
        if not options.counts:
            RESULTS.mkdir(exist_ok=True)
            (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
