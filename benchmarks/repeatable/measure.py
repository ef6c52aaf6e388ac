"""How far apart a training ends with another number of threads, or of processes.

    python benchmarks/repeatable/measure.py

Trains `nin_small` by the recipe fast on the sample inside the package with the same seed: twice with one thread, with two threads,
and in two processes of one thread. Writes `results/repeatable.json`: how many weights differ from those of the first training and by
how much, and loss and accuracy of each.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

import torchnin

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from conditions import machine  # noqa: E402

RESULTS = HERE / "results"
TRAIN = ("fashion-mnist-sample", "--num-epochs", "1", "--batch-size", "128", "--seed", "5", "--device", "cpu", "--dtype", "float32")
TORCHRUN = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29433")
WAYS: dict[str, tuple[int, tuple[str, ...]]] = {
    "1 thread": (1, ()),
    "1 thread, again": (1, ()),
    "2 threads": (2, ()),
    "2 processes": (1, TORCHRUN),
}


def train(out: Path, threads: int, launcher: tuple[str, ...]) -> None:
    command = [sys.executable, *launcher, "-m", "torchnin", "train", *TRAIN, "--out", str(out)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": str(threads)})


def weights(run: Path) -> torch.Tensor:
    return torch.cat([value.flatten().double() for _, value in sorted(load_file(run / "classifier" / "model.safetensors").items())])


def measure(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for number, (name, (threads, launcher)) in enumerate(WAYS.items()):
        out = folder / str(number)
        train(out, threads, launcher)
        run, first, now = torchnin.Run(out), weights(folder / "0"), weights(out)
        found[name] = {
            "train_loss": [row["train_loss"] for row in run.metrics],
            "test_accuracy": run.result["test_accuracy"],
            "weights_that_differ": int((now != first).sum()),
            "relative_distance_of_weights": float((now - first).norm() / first.norm()),
        }
        print(name, json.dumps(found[name]), flush=True)
    return found


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    document = {
        "command": ["nin", "train", *TRAIN],
        "ways": found,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "repeatable.json").write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    main()
