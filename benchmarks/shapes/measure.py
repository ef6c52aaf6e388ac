"""Which shapes of our own networks give the most accuracy per second: candidates trained for about the same time.

    python benchmarks/shapes/measure.py --data-dir DIR          CIFAR-10, the candidates for nin_base and nin_large
    python benchmarks/shapes/measure.py --only base-deep large-deep

Judged on a tenth of the train pictures that is held out; test pictures are not looked at. The number of epochs of each
candidate makes multiply-adds times pictures about equal, so that every candidate costs about the same arithmetic.
Appends a line per candidate to `results/cifar-10.jsonl`.
"""

import argparse
import dataclasses
import json
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

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


CANDIDATES = {
    # name: (network, epochs)
    "small": (network([((32, 32), 3, 2), ((96, 96), 3, 1)], (160,)), 10),
    "base-early": (network([((64, 64, 64), 3, 2), ((192, 192, 192), 3, 1)], (320, 320)), 1),
    "base-deep": (network([((32, 32, 32), 3, 1), ((96, 96, 96), 3, 1), ((192, 192, 192), 3, 1)], (256, 256)), 0.65),
    "base-wide": (network([((48, 48, 48), 5, 1), ((144, 144, 144), 3, 1)], (384, 384)), 0.35),
    "large-early": (network([((96, 96, 96), 3, 2), ((288, 288, 288), 3, 1)], (448, 448)), 0.5),
    "large-deep": (network([((48, 48, 48), 3, 1), ((128, 128, 128), 3, 1), ((256, 256, 256), 3, 1)], (384, 384)), 0.35),
}


def main() -> None:
    """Train the candidates that were asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="folder with CIFAR-10")
    parser.add_argument("--only", nargs="*", default=list(CANDIDATES), choices=list(CANDIDATES), help="which candidates")
    options = parser.parse_args()
    data = torchnin.load_dataset("cifar-10", data_dir=options.data_dir)
    for name in options.only:
        config, epochs = CANDIDATES[name]
        table = torchnin.summarize(torchnin.NiN(config), (1, 3, 32, 32))
        print(f"{name}: {table.num_parameters:,} parameters, {table.num_macs:,} MACs", flush=True)
        recipe = dataclasses.replace(torchnin.named_recipe("fast"), num_epochs=max(1, round(epochs)))
        # Half an epoch more or less is made by the share of pictures that is held out from learning, not from judging.
        whole = max(1, round(epochs))
        pictures = data if epochs == whole else shortened(data, epochs / whole)
        # Too few epochs for thinning, which begins after the first.
        recipe = dataclasses.replace(recipe, thinning=0.0)
        with tempfile.TemporaryDirectory() as folder:
            before = os.times()
            run = torchnin.train(config, pictures, recipe, out=f"{folder}/run", validation=0.1, name=name)
            after = os.times()
            row = {
                "candidate": name,
                "num_parameters": table.num_parameters,
                "num_macs": table.num_macs,
                "epochs": epochs,
                "validation_accuracy": run.result["validation_accuracy"],
                "seconds": run.result["seconds"],
                "processor_seconds": after.user + after.system - before.user - before.system,
                "images_per_second": run.result["images_per_second"],
                "seed": 0,
                "date": datetime.now(UTC).date().isoformat(),
            }
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


def shortened(data: torchnin.DatasetSplits, share: float) -> torchnin.DatasetSplits:
    """The dataset with a share of its train pictures, each class alike."""
    return dataclasses.replace(data, train=data.train.split(share, seed=0)[1])


if __name__ == "__main__":
    main()
