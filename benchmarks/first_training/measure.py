"""What `nin train` gives, from the start of the process to the written result.

    python benchmarks/first_training/measure.py                       every case; about an hour on two cores
    python benchmarks/first_training/measure.py fashion-mnist         one case
    python benchmarks/first_training/measure.py cifar-10 --data-dir DIR
    python benchmarks/first_training/measure.py photos --photos DIR   a folder with a folder of photos per class

Each case writes `results/CASE.json`: the command, the test accuracy of every seed, wall-clock seconds of the whole
process, the machine and the versions. Nothing here chooses anything: the recipes are the package's.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from conditions import computes, machine  # noqa: E402

RESULTS = HERE / "results"


def cases(data_dir: str | None, photos: str | None) -> dict[str, tuple[list[str], int]]:
    """Arguments of `nin train` and the number of seeds, by case."""
    known: dict[str, tuple[list[str], int]] = {
        "fashion-mnist": ([], 3),
        "fashion-mnist-d2l-recipe-sample": (["fashion-mnist-sample", "--recipe", "d2l", "--num-epochs", "1"], 1),
    }
    if data_dir:
        known["mnist"] = (["mnist", "--data-dir", data_dir], 1)
        known["cifar-10"] = (["cifar-10", "--data-dir", data_dir], 1)
    if photos:
        known["photos"] = ([photos, "--image-size", "32"], 3)
    return known


def measure(name: str, arguments: list[str], seeds: int) -> dict[str, Any]:
    """Run a case with each seed in a process of its own."""
    runs = []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "torchnin", "train", *arguments, "--seed", str(seed), "--json"]
            load = os.getloadavg()[0]
            start = time.monotonic()
            done = subprocess.run([*command, "--out", f"{folder}/run"], stdout=subprocess.PIPE, check=True)
            seconds = time.monotonic() - start
            result = json.loads(done.stdout)
            del result["path"]
            runs.append({**result, "process_seconds": seconds, "load_before": load})
            print(f"{name} seed {seed}: {result['test_accuracy']:.4f} in {seconds:.0f} s (load before {load:.2f})", flush=True)
    accuracies = [run["test_accuracy"] for run in runs]
    shown = [Path(argument).name if Path(argument).is_absolute() else argument for argument in arguments]
    return {
        "case": name,
        "command": " ".join(["nin train", *shown]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {**machine(), "computes": computes()},
        "mean_test_accuracy": statistics.fmean(accuracies),
        "min_test_accuracy": min(accuracies),
        "max_process_seconds": max(run["process_seconds"] for run in runs),
        "runs": runs,
    }


def main() -> None:
    """Measure the cases that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", help="which cases; all that can be run where none is named")
    parser.add_argument("--data-dir", help="folder with CIFAR-10 and MNIST")
    parser.add_argument("--photos", help="folder with a folder of photos per class")
    options = parser.parse_args()
    known = cases(options.data_dir and str(Path(options.data_dir).resolve()), options.photos and str(Path(options.photos).resolve()))
    for name in options.cases or known:
        if name not in known:
            parser.error(f"no case {name!r} (cifar-10 and mnist need --data-dir, photos needs --photos); cases: {', '.join(known)}")
        document = measure(name, *known[name])
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
