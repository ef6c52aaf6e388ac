"""What the ways in C give a training step, in turns with torch's own ways for the same, on the same network and batch.

    python benchmarks/speed/native.py                          every network in what this processor computes in; some minutes when idle
    python benchmarks/speed/native.py nin_small --rounds 3     one of them
    python benchmarks/speed/native.py --dtype float32          in another number

A step is forward, loss and backward. A turn is five of them, of which the median counts; the ways take turns in both orders. Writes
results/native-DTYPE.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from torchnin.commands.process import set_up_process

set_up_process()

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from measure import conditions  # noqa: E402
from torch import Tensor  # noqa: E402

import torchnin  # noqa: E402
from torchnin.models import native  # noqa: E402

# Pictures in a batch, and their side in pixels.
NETWORKS = {"nin_small": (512, 28), "nin_compact": (256, 28), "nin_base": (128, 32), "nin_mnist": (128, 28), "nin_d2l": (32, 224)}
STEPS = 5


def step_of(name: str, batch: int, side: int, dtype: Any) -> Callable[[], None]:
    """A training step of a network whose weights stay as they are."""
    torch.manual_seed(0)
    choice = torchnin.choose_device("cpu", dtype)
    network = choice.place(torchnin.create_model(name)).train()
    pictures = torch.randn(batch, network.config.in_channels, side, side).contiguous(memory_format=choice.memory_format)
    labels = torch.randint(0, network.config.num_classes, (batch,))

    def step() -> None:
        with choice.autocast():
            logits: Tensor = network(pictures)
        F.cross_entropy(logits.float(), labels).backward()
        for parameter in network.parameters():
            parameter.grad = None

    return step


def seconds(step: Callable[[], None]) -> float:
    """The median of a turn, after one step that does not count."""
    step()
    taken = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        step()
        taken.append(time.perf_counter() - begun)
    return statistics.median(taken)


def main() -> None:
    """Measure, print, write down."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"which of {', '.join(NETWORKS)}; all where none is named")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto")
    options = parser.parse_args()
    kind, compiled = native.compiled(), native.compiled
    if kind is None:
        raise SystemExit(f"nothing is compiled for this processor: {native.advice() or 'nothing can be'}")
    dtype = str(torchnin.choose_device("cpu", options.dtype).dtype).removeprefix("torch.")
    path = Path(__file__).parent / "results" / f"native-{dtype}.json"
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in options.networks or NETWORKS:
        batch, side = NETWORKS[name]
        step, measured = step_of(name, batch, side, dtype), conditions("cpu")
        taken: dict[str, list[float]] = {"torch": [], "native": []}
        for turn in range(options.rounds):
            for way in sorted(taken, reverse=turn % 2 == 0):
                native.compiled = compiled if way == "native" else lambda: None
                taken[way].append(seconds(step))
        native.compiled = compiled
        medians = {way: statistics.median(values) for way, values in taken.items()}
        times = medians["torch"] / medians["native"]
        document[name] = {"batch": batch, "side": side, "kind": kind, "seconds": taken, "times": times, "measured": measured}
        before, now = (medians[way] * 1e3 for way in ("torch", "native"))
        print(f"{name} [{batch}], {dtype}: {before:.1f} ms, {now:.1f} with {kind}: {times:.2f} times as fast", flush=True)
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
