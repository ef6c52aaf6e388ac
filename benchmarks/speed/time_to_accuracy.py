"""How long it takes to reach an accuracy on Fashion-MNIST, from the start of the process to the written result.

    python benchmarks/speed/time_to_accuracy.py choose           every candidate, judged on held-out train pictures
    python benchmarks/speed/time_to_accuracy.py report           five seeds of the chosen one, on the test pictures
    python benchmarks/speed/time_to_accuracy.py report --goal 85 one goal; --seeds 3 for fewer

Each training is `nin train` in a process of its own; nothing is chosen on test pictures. The report puts the notebooks' procedure beside
it: ten epochs and evaluations of `nin_d2l` at 224 pixels, extrapolated from the batches that measure.py measured
(results/cpu-DTYPE.json). Writes results/time_to_accuracy-DTYPE.json, by what torchnin computes in on this machine.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from measure import computed_in, conditions  # noqa: E402

# Goal in per cent, and within how many seconds two cores with bfloat16 are to reach it.
AIMS = {"85": 15, "93": 90, "94": 240}
COMPACT = ["--model", "nin_compact", "--batch-size", "256"]
CANDIDATES: dict[str, dict[str, list[str]]] = {
    "85": {
        "one epoch": ["--num-epochs", "1"],
        "one epoch, batch 256": ["--num-epochs", "1", "--batch-size", "256"],
        "one epoch, one convolution a block": ["--model", "nin_small:mlp_layers=0", "--num-epochs", "1"],
        "16 pixels, three fifths seen once": ["--num-epochs", "1", "--batch-size", "256", "--image-size", "16", "--validation", "0.4"],
    },
    "93": {
        "twelve epochs": ["--num-epochs", "12"],
        "twenty epochs": ["--num-epochs", "20"],
        "nin_compact, three epochs, batch 256, no shifts": [*COMPACT, "--num-epochs", "3", "--shift", "0"],
    },
    "94": {
        "nin_compact, eight epochs, batch 256": [*COMPACT, "--num-epochs", "8"],
        "nin_compact, eleven epochs, batch 256": [*COMPACT, "--num-epochs", "11"],
    },
}
# What is reported, by goal: the soonest known to reach it on held-out pictures with half a point to spare, for test pictures have been
# harder by that and more (docs/lab-log.md).
CHOSEN = {
    "85": "16 pixels, three fifths seen once",
    "93": "nin_compact, three epochs, batch 256, no shifts",
    "94": "nin_compact, eleven epochs, batch 256",
}


def trained(arguments: list[str], seed: int) -> dict[str, Any]:
    """One training in a process of its own: its accuracy, and the seconds of the whole process."""
    with tempfile.TemporaryDirectory() as folder:
        load, begun = os.getloadavg()[0], time.monotonic()
        command = [sys.executable, "-m", "torchnin", "train", *arguments, "--seed", str(seed), "--json", "--out", f"{folder}/run"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        seconds = time.monotonic() - begun
    result = json.loads(done.stdout)
    kept = {key: result[key] for key in ("validation_accuracy", "test_accuracy", "epochs", "num_parameters") if key in result}
    return {"seed": seed, **kept, "seconds": seconds, "training_seconds": result["seconds"], "load": round(load, 1)}


def notebooks_hours() -> dict[str, Any] | None:
    """Hours of the notebooks' ten epochs, extrapolated; None where their batches were not measured."""
    path = HERE / "results" / f"{computed_in('cpu')}.json"
    measured = json.loads(path.read_text(encoding="utf-8")).get("nin_d2l") if path.is_file() else None
    if measured is None or "epoch" not in measured["rows"]:
        return None
    case = measured["case"]
    learned = measured["rows"]["epoch"]["notebooks"]["median"] / (case["epoch_batches"] * case["batch"]) * 60_000
    evaluated = 0.0
    if "evaluate" in measured["rows"]:
        evaluated = measured["rows"]["evaluate"]["notebooks"]["median"] / case["evaluated"] * 10_000
    return {
        "hours": 10 * (learned + evaluated) / 3600,
        "evaluation_counted": evaluated > 0,
        "how": f"extrapolated from {case['epoch_batches']} batches of {case['batch']} pictures",
    }


def main() -> None:
    """Choose or report, and write it down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("choose", "report"))
    parser.add_argument("--goal", choices=tuple(AIMS), action="append")
    parser.add_argument("--seeds", type=int, help="how many; 1 to choose, 5 to report where nothing is said")
    options = parser.parse_args()
    results = HERE / "results" / f"time_to_accuracy-{computed_in('cpu').removeprefix('cpu-')}.json"
    document = json.loads(results.read_text(encoding="utf-8")) if results.is_file() else {}
    for goal in options.goal or AIMS:
        asked = CANDIDATES[goal]
        if options.what == "report":
            asked = {name: arguments for name, arguments in asked.items() if name == CHOSEN.get(goal)}
        for name, arguments in asked.items():
            held_out = ["--validation", "0.1667"] if options.what == "choose" and "--validation" not in arguments else []
            runs = [trained([*arguments, *held_out], seed) for seed in range(options.seeds or (1 if options.what == "choose" else 5))]
            key = "validation_accuracy" if options.what == "choose" else "test_accuracy"
            if options.what == "choose":
                for run in runs:
                    run.pop("test_accuracy", None)  # written by `nin train`, looked at by nobody
            entry: dict[str, Any] = {
                "command": " ".join(["nin train", *arguments, *held_out]),
                "aim_seconds": AIMS[goal],
                f"median_{key}": statistics.median(run[key] for run in runs),
                "median_seconds": statistics.median(run["seconds"] for run in runs),
                "runs": runs,
                "measured": conditions("cpu"),
            }
            if options.what == "report" and (notebooks := notebooks_hours()) is not None:
                entry["notebooks"] = {**notebooks, "times": notebooks["hours"] * 3600 / entry["median_seconds"]}
            entries = document.setdefault(options.what, {}).setdefault(goal, {})
            if options.what == "report":
                entries.clear()  # of what was chosen before
            entries[name] = entry
            print(f"{goal} %, {name}: {key} {entry[f'median_{key}']:.4f} in {entry['median_seconds']:.1f} s, {len(runs)} seeds", flush=True)
            results.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
