"""What a long training reaches over several seeds: trains what is missing, and records every seed as soon as it is done.

    python benchmarks/records/record.py fashion-mnist-small --runs DIR                  train the missing seeds, one after the other
    python benchmarks/records/record.py mnist --runs DIR --data-dir DATA                the same, with the data's folder
    python benchmarks/records/record.py fashion-mnist-small --runs DIR --kept           train nothing, record the runs that are there

The runs lie in `DIR/NAME/seed-N`, each a run folder of `nin train`; one that was cut off goes on where it stood. `results/NAME.json` keeps
the seeds that it has, so that the folders of earlier ones need not be at hand. The commands are in records.py. A run that was made in
Python is taken where it has network, recipe and data of a seed that the command made. Nothing here chooses anything: recipes are chosen on
held-out train pictures (docs/lab-log.md).
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import torchnin  # noqa: E402
from conditions import computes, machine  # noqa: E402
from records import RECORDS, RESULTS, Record, by_command, choices, made_by  # noqa: E402
from torchnin.files import write_json  # noqa: E402

# What every seed of a record has in common.
_SAME = ("name", "network", "recipe", "validation")


def train(record: Record, seed: int, path: Path, data_dir: Path | None) -> None:
    """Train one seed, or go on with it."""
    command = [sys.executable, "-m", "torchnin", "train"]
    if (path / "config.json").is_file():
        command += ["--resume"]
    else:
        command += [*record.arguments.split(), "--seed", str(seed)]
    command += ["--out", str(path), *(["--data-dir", str(data_dir)] if data_dir else [])]
    subprocess.run(command, check=True)


def described(run: torchnin.Run) -> dict[str, Any]:
    """What the seeds of a record have in common: network, recipe, preprocessing, data."""
    config = run.config
    kept = ("name", "checksums", "train_pictures", "validation_pictures", "test_pictures", "class_names")
    return {
        **{key: config[key] for key in _SAME},
        # Mean and deviation are those of the pictures learned from, which are others with each seed where some are held out.
        "preprocessing": {key: value for key, value in config["preprocessing"].items() if key not in ("mean", "std")},
        "data": {key: config["data"][key] for key in kept},
    }


def row(run: torchnin.Run, shared: bool) -> dict[str, Any]:
    """What one finished run reached, and where it was trained."""
    config, here = run.config, {**machine(), "computes": computes()}
    device = {key: value for key, value in config["device"].items() if key != "reasons"}
    # The run says which system trained it; the processor is this one's where that is the same.
    at_home = config["versions"]["platform"] == platform.platform() and device["device"] == "cpu"
    return {
        **run.result,
        "date": datetime.fromtimestamp((run.path / "result.json").stat().st_mtime, UTC).date().isoformat(),
        "device": device,
        "processor": here["processor"] if at_home else None,
        "cores": here["cores"] if at_home else None,
        "other_work_meanwhile": shared,
        "versions": config["versions"],
        "git_commit": config["git_commit"],
    }


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, spread and lowest of the test accuracy over the seeds."""
    accuracies = [row["test_accuracy"] for row in rows]
    return {
        "mean_test_accuracy": statistics.fmean(accuracies),
        "standard_deviation": statistics.stdev(accuracies) if len(rows) > 1 else None,
        "min_test_accuracy": min(accuracies),
        "seeds_with_dead_class_maps": sum(row["dead_class_maps"] > 0 for row in rows),
    }


def recorded(name: str, record: Record, runs: Iterable[torchnin.Run], shared: bool) -> dict[str, Any]:
    """The record with these finished runs added, as written to `results/NAME.json`.

    Raises:
        ValueError: a run was made by another command, or differs from the other seeds in more than its seed.
    """
    path = RESULTS / f"{name}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    rows = {each["seed"]: each for each in before["seeds"]} if before else {}
    same = before and before["training"]
    if same:  # a field that recipes did not have yet was as it is by default
        same["recipe"] = json.loads(json.dumps(torchnin.Recipe.from_dict(same["recipe"]).to_dict()))
    for run in runs:
        asked = choices(record.arguments.split())
        # One that was made in Python is the command's training where it is that of the command's seeds, which is seen below.
        made = asked if same and not by_command(run.config) else made_by(run.config)
        if made != asked:
            raise ValueError(f"{run.path} was made with {made}; the record {name} is {record.command!r}: {asked}")
        # As JSON has it, which the record is read from the next time.
        this = json.loads(json.dumps(described(run)))
        if same and this != same:
            field = next(key for key in this if this[key] != same[key])
            raise ValueError(
                f"{run.path}: its {field} is not that of the seeds recorded before ({this[field]}, not {same[field]}); a record is of one "
                f"training: remove {path} to begin it anew"
            )
        same = this
        rows[run.result["seed"]] = row(run, shared)
    if not rows:
        raise ValueError(f"no run of {name} has finished there")
    ordered = [rows[seed] for seed in sorted(rows)]
    return {
        "record": name,
        "command": record.command,
        "num_seeds": len(ordered),
        "planned_seeds": record.num_seeds,
        "num_parameters": ordered[0]["num_parameters"],
        **summary(ordered),
        "training": same,
        "seeds": ordered,
    }


def main() -> None:
    """Record what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=list(RECORDS), help="which record")
    parser.add_argument("--runs", type=Path, required=True, help="where the runs lie: NAME/seed-N below this folder")
    parser.add_argument("--data-dir", type=Path, help="where to look for the data first")
    parser.add_argument("--kept", action="store_true", help="train nothing, record the finished runs that are there")
    parser.add_argument("--other-work", action="store_true", help="other work ran on the machine meanwhile, so its times are too long")
    options = parser.parse_args()
    record = RECORDS[options.name]
    runs = [torchnin.Run(options.runs / options.name / f"seed-{seed}") for seed in range(record.num_seeds)]
    for run in sorted(runs, key=lambda run: run.finished and not by_command(run.config)):
        seed = runs.index(run)
        if not run.finished and not options.kept:
            train(record, seed, run.path, options.data_dir)
        if run.finished:
            document = recorded(options.name, record, [run], options.other_work)
            RESULTS.mkdir(exist_ok=True)
            write_json(RESULTS / f"{options.name}.json", document)
            print(f"{options.name} seed {seed}: {run.result['test_accuracy']:.4f}", flush=True)
    print(f"{options.name}: run python benchmarks/tables.py and python benchmarks/records/ship.py --cards to have the pages say so")


if __name__ == "__main__":
    main()
