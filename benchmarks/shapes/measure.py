"""Which shapes of our own networks give the most accuracy per second: candidates trained for about the same time.

    python benchmarks/shapes/measure.py cifar-10 --data-dir DIR             of three blocks, with a million and two million parameters
    python benchmarks/shapes/measure.py cifar-10 --only base-three large-three --times 3
    python benchmarks/shapes/measure.py fashion-mnist                       the candidates for nin_compact, up to 350,000 parameters

Judged on held-out train pictures; test pictures are not looked at. The number of epochs of each candidate makes multiply-adds
times pictures equal within a size, so that every candidate costs the same arithmetic. Appends a line per candidate to
`results/DATA.jsonl`, with the seconds of processor time that it took.
"""

import argparse
import dataclasses
import json
import math
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

import torchnin
from torchnin import Augmentation, BlockConfig, ClassBlockConfig, NiNConfig
from torchnin.data import DatasetSplits

RESULTS = Path(__file__).parent / "results"


def network(
    blocks: list[tuple[tuple[int, ...], int, int]], hidden: tuple[int, ...], channels: int = 3, no_pool: tuple[int, ...] = ()
) -> NiNConfig:
    """Blocks of (widths, kernel, stride), each followed by pooling but those of `no_pool` (from 0), and a class block of kernel 3."""
    return NiNConfig(
        blocks=tuple(
            BlockConfig(channels=widths, kernel_size=kernel, stride=stride, padding=kernel // 2, pool=place not in no_pool)
            for place, (widths, kernel, stride) in enumerate(blocks)
        ),
        class_block=ClassBlockConfig(hidden=hidden),
        in_channels=channels,
        num_classes=10,
        image_size=32 if channels == 3 else 28,
        batch_norm=True,
        class_map_relu=False,
        mlp_layers=1 if len(blocks[0][0]) == 2 else 2,
        dropout=0.0,
        pool_rounding="ceil",
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Candidate:
    """A network, and what its training may cost."""

    network: NiNConfig
    cost: float
    """Multiply-adds times pictures."""
    recipe: dict[str, Any]
    """What differs from the recipe `fast`."""
    held_out: float = 0.1
    """Share of the train pictures."""


# Few epochs: too few for thinning, and small batches, so that there are steps enough.
SHORT = {"batch_size": 128, "lr": 0.075, "muon_lr": 0.035, "thinning": 0.0, "min_batches": 0, "min_steps": 0}
ERASED = {"augmentation": Augmentation(flip=True, shift=1, erase=0.25), "min_batches": 0, "min_steps": 0}
BASE, LARGE, SMALL = 3e12, 4e12, 1.2e13


def _colour(blocks: list[tuple[tuple[int, ...], int, int]], hidden: tuple[int, ...], cost: float) -> Candidate:
    return Candidate(network=network(blocks, hidden), cost=cost, recipe=SHORT)


def _grey(blocks: list[tuple[tuple[int, ...], int, int]], hidden: int, *no_pool: int, image_size: int | None = None) -> Candidate:
    shape = network(blocks, (hidden,), 1, no_pool)
    return Candidate(network=shape, cost=SMALL, recipe={**ERASED, "image_size": image_size}, held_out=1 / 6)


CANDIDATES = {
    "cifar-10": {
        "base-early": _colour([((64, 64), 3, 2), ((224, 224), 3, 1)], (352,), BASE),
        "base-three": _colour([((48, 48), 3, 1), ((128, 128), 3, 1), ((256, 256), 3, 1)], (160,), BASE),
        "base-three-two-1x1": _colour([((48, 48, 48), 3, 1), ((128, 128, 128), 3, 1), ((224, 224, 224), 3, 1)], (160, 160), BASE),
        "large-early": _colour([((96, 96), 3, 2), ((320, 320), 3, 1)], (480,), LARGE),
        "large-three": _colour([((64, 64), 3, 1), ((192, 192), 3, 1), ((384, 384), 3, 1)], (256,), LARGE),
    },
    "fashion-mnist": {
        "small": _grey([((32, 32), 3, 2), ((96, 96), 3, 1)], 160, image_size=56),
        "small-wide": _grey([((48, 48), 3, 1), ((128, 128), 3, 1)], 192),
        "small-three": _grey([((32, 32), 3, 1), ((64, 64), 3, 1), ((128, 128), 3, 1)], 160, 2),
        "small-lean": _grey([((24, 24), 3, 1), ((48, 48), 3, 1), ((64, 64), 3, 1), ((96, 96), 3, 1)], 128, 1, 3),
        "small-deep": _grey([((32, 32), 3, 1), ((64, 64), 3, 1), ((64, 64), 3, 1), ((96, 96), 3, 1)], 160, 1, 3),
    },
}


def measured(name: str, candidate: Candidate, data: DatasetSplits, times: float) -> dict[str, Any]:
    """Train one candidate and judge it on the pictures held out."""
    size = candidate.recipe.get("image_size") or data.train.images.shape[-1]
    table = torchnin.summarize(torchnin.NiN(candidate.network), (1, data.train.images.shape[1], size, size))
    epochs = times * candidate.cost / table.num_macs / ((1 - candidate.held_out) * len(data.train))
    print(f"{name}: {table.num_parameters:,} parameters, {table.num_macs:,} MACs, {epochs:.2f} epochs", flush=True)
    # Part of an epoch is made by the share of pictures that are learned from; those held out are the same for all.
    whole = math.ceil(epochs)
    recipe = dataclasses.replace(torchnin.named_recipe("fast"), num_epochs=whole, **candidate.recipe)
    learned, held_out = data.train.split(candidate.held_out, seed=0)
    if epochs < whole:
        learned = learned.split(epochs / whole, seed=0)[1]
    pictures = dataclasses.replace(data, train=learned, validation=held_out)
    with tempfile.TemporaryDirectory() as folder:
        before = os.times()
        run = torchnin.train(candidate.network, pictures, recipe, out=f"{folder}/run", name=name)
        after = os.times()
        return {
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


def main() -> None:
    """Train the candidates that were asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=list(CANDIDATES))
    parser.add_argument("--data-dir", help="folder with the data")
    parser.add_argument("--only", nargs="*", help="which candidates")
    parser.add_argument("--times", type=float, default=1.0, help="how many times the usual cost each training may have")
    options = parser.parse_args()
    candidates = CANDIDATES[options.data]
    chosen = options.only or list(candidates)
    if unknown := [name for name in chosen if name not in candidates]:
        parser.error(f"no candidate is named {', '.join(unknown)}; the candidates: {', '.join(candidates)}")
    data = torchnin.load_dataset(options.data, data_dir=options.data_dir)
    for name in chosen:
        row = measured(name, candidates[name], data, options.times)
        with (RESULTS / f"{options.data}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
