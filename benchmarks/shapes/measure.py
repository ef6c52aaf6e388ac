"""Which shapes of our own networks give the most accuracy per second: candidates trained for about the same time.

    python benchmarks/shapes/measure.py --data-dir DIR          CIFAR-10, the candidates for nin_base and nin_large
    python benchmarks/shapes/measure.py --only base-three large-three --times 3

Judged on a tenth of the train pictures that is held out; test pictures are not looked at. The number of epochs of each
candidate makes multiply-adds times pictures equal within a size, so that every candidate costs the same arithmetic.
Appends a line per candidate to `results/cifar-10.jsonl`, with the seconds of processor time that it took.
"""

import argparse
import dataclasses
import json
import math
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import torch

import torchnin
from torchnin import BlockConfig, ClassBlockConfig, NiNConfig

RESULTS = Path(__file__).parent / "results" / "cifar-10.jsonl"


def network(blocks: list[tuple[tuple[int, ...], int, int]], hidden: tuple[int, ...]) -> NiNConfig:
    """Blocks of (widths, kernel, stride), each followed by pooling, and a class block of kernel 3."""
    return NiNConfig(
        blocks=tuple(
            BlockConfig(channels=widths, kernel_size=kernel, stride=stride, padding=kernel // 2) for widths, kernel, stride in blocks
        ),
        class_block=ClassBlockConfig(hidden=hidden),
        in_channels=3,
        num_classes=10,
        image_size=32,
        batch_norm=True,
        class_map_relu=False,
        mlp_layers=len(blocks[0][0]) - 1,
        dropout=0.0,
        pool_rounding="ceil",
    )


# Few epochs: too few for thinning, and small batches, so that there are steps enough.
RECIPE = {"batch_size": 128, "lr": 0.075, "muon_lr": 0.035, "thinning": 0.0, "min_batches": 0, "min_steps": 0}
# name: (network, multiply-adds times pictures that its training may cost)
BASE, LARGE = 3e12, 4e12
CANDIDATES = {
    "base-early": (network([((64, 64), 3, 2), ((224, 224), 3, 1)], (352,)), BASE),
    "base-three": (network([((48, 48), 3, 1), ((128, 128), 3, 1), ((256, 256), 3, 1)], (160,)), BASE),
    "base-three-two-1x1": (network([((48, 48, 48), 3, 1), ((128, 128, 128), 3, 1), ((224, 224, 224), 3, 1)], (160, 160)), BASE),
    "large-early": (network([((96, 96), 3, 2), ((320, 320), 3, 1)], (480,)), LARGE),
    "large-three": (network([((64, 64), 3, 1), ((192, 192), 3, 1), ((384, 384), 3, 1)], (256,)), LARGE),
}


def main() -> None:
    """Train the candidates that were asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder with CIFAR-10")
    parser.add_argument("--only", nargs="*", default=list(CANDIDATES), choices=list(CANDIDATES), help="which candidates")
    parser.add_argument("--times", type=float, default=1.0, help="how many times the usual cost each training may have")
    options = parser.parse_args()
    data = torchnin.load_dataset("cifar-10", data_dir=options.data_dir)
    for name in options.only:
        config, cost = CANDIDATES[name]
        table = torchnin.summarize(torchnin.NiN(config), (1, 3, 32, 32))
        epochs = options.times * cost / table.num_macs / (0.9 * len(data.train))
        print(f"{name}: {table.num_parameters:,} parameters, {table.num_macs:,} MACs, {epochs:.2f} epochs", flush=True)
        # Part of an epoch is made by the share of pictures that are learned from; those held out are the same for all.
        whole = math.ceil(epochs)
        recipe = dataclasses.replace(torchnin.named_recipe("fast"), num_epochs=whole, **RECIPE)
        learned, held_out = data.train.split(0.1, seed=0)
        pictures = dataclasses.replace(data, train=learned.split(epochs / whole, seed=0)[1], validation=held_out)
        with tempfile.TemporaryDirectory() as folder:
            before = os.times()
            run = torchnin.train(config, pictures, recipe, out=f"{folder}/run", name=name)
            after = os.times()
            row = {
                "candidate": name,
                "num_parameters": table.num_parameters,
                "num_macs": table.num_macs,
                "epochs": round(epochs, 3),
                "validation_accuracy": run.result["validation_accuracy"],
                "processor_seconds": after.user + after.system - before.user - before.system,
                "threads": torch.get_num_threads(),
                "seed": 0,
                "date": datetime.now(UTC).date().isoformat(),
            }
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
