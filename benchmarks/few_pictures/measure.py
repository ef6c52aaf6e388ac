"""What trained weights are worth where pictures are few: ten of each class, from drawn weights and from those that ship.

    python benchmarks/few_pictures/measure.py PHOTOS          a folder of pictures, a folder for each class; ten minutes on one core
    python benchmarks/few_pictures/measure.py PHOTOS --num-epochs 60         the same, shorter; three minutes

From the folder's pictures so many of each class are drawn by the seed to learn from, and all others are the test pictures; 32 pixels,
and every choice but the number of epochs is as `nin train` makes it by itself. Writes `results/few_pictures.json`, or
`results/few_pictures-60-epochs.json`: accuracies, seconds, machine and versions.
"""

import argparse
import dataclasses
import statistics
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
import numpy as np  # noqa: E402

import torchnin  # noqa: E402
from conditions import computes, machine  # noqa: E402
from torchnin.files import write_json  # noqa: E402

RESULTS = HERE / "results"
SIZE = 32
# As options of `nin train`, and as `torchnin.train` takes it.
WAYS = {
    "--model nin_small": "nin_small",
    "--model nin_base": "nin_base",
    "--weights cifar-10-base": "cifar-10-base",
}


def drawn(splits: torchnin.DatasetSplits, each: int, seed: int) -> torchnin.DatasetSplits:
    """So many pictures of each class to learn from, all others to test."""
    labels, numbers = np.asarray(splits.train.labels), np.random.default_rng(seed)
    chosen = np.concatenate([numbers.permutation(np.flatnonzero(labels == label))[:each] for label in range(splits.train.num_classes)])
    others = np.setdiff1d(np.arange(len(labels)), chosen)
    return dataclasses.replace(splits, train=splits.train.select(chosen), test=splits.train.select(others))


def measured(splits: torchnin.DatasetSplits, way: str, seed: int, num_epochs: int | None) -> dict[str, Any]:
    """One training."""
    network = torchnin.load(WAYS[way]) if "--weights" in way else WAYS[way]
    recipe = torchnin.named_recipe("fast")
    if num_epochs is not None:
        recipe = dataclasses.replace(recipe, num_epochs=num_epochs, min_steps=0)  # as the option does
    with tempfile.TemporaryDirectory() as folder:
        run = torchnin.train(network, splits, recipe, out=f"{folder}/run", seed=seed, quiet=True)
        return {"seed": seed, **{key: run.result[key] for key in ("test_accuracy", "test_pictures", "epochs", "seconds")}}


def main() -> None:
    """Train every way with every seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", help="a folder of pictures, a folder for each class")
    parser.add_argument("--each", type=int, default=10, help="pictures of each class to learn from")
    parser.add_argument("--num-epochs", type=int, help="passes over them; by default as many as nin train makes")
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    splits = torchnin.load_dataset(options.photos, image_size=SIZE, channels=3)
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for seed in range(options.seeds):
        few = drawn(splits, options.each, seed)
        for way, rows in found.items():
            rows.append(measured(few, way, seed, options.num_epochs))
            print(way, rows[-1], flush=True)
    document = {
        "pictures_of_each_class": options.each,
        "image_size": SIZE,
        "data": Path(options.photos).name,
        "ways": {way: {"mean": statistics.mean(row["test_accuracy"] for row in rows), "runs": rows} for way, rows in found.items()},
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {**machine(), "computes": computes()},
    }
    write_json(RESULTS / f"few_pictures{f'-{options.num_epochs}-epochs' if options.num_epochs else ''}.json", document)


if __name__ == "__main__":
    main()
