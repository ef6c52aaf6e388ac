"""Does a class map point at what the network uses? Cover that place of a picture and see the class's probability fall.

    nin train --num-epochs 6 --validation 0.1 --out runs/occlusion
    python benchmarks/occlusion/measure.py fashion-mnist runs/occlusion
    nin train --num-epochs 4 --validation 0.1 --image-size 56 --out runs/occlusion-56
    python benchmarks/occlusion/measure.py fashion-mnist runs/occlusion-56 --name fashion-mnist-56
    nin train cifar-10 --data-dir DIR --num-epochs 9 --validation 0.1 --out runs/occlusion-cifar
    python benchmarks/occlusion/measure.py cifar-10 runs/occlusion-cifar --data-dir DIR

500 test pictures, as many of each class, drawn with seed 0. Of each the class that the network gives it is looked at. A square
covers the place where that class's map is largest; to compare, one of the same area covers a random place and the place where the
map is lowest, neither touching the first, and the place where the map of another of the pictures is largest, wherever that is. The
square is black, or of the pictures' mean colour, or the picture itself, blurred. How to compare was thought out on held-out train
pictures; the test pictures were measured once.
Written to `results/NAME.json`: for each kind of cover and each area the mean fall of the probability, in how many pictures the
first fall is the larger one, and the mean difference with its 95 % interval (of the mean of paired differences), over all pictures
and by class; and how often which value of the map is the largest one.
"""

import argparse
import itertools
import json
import math
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

import torchnin
from torchnin.occlusion import OcclusionDrops, occlusion_drop

RESULTS = Path(__file__).parent / "results"
AREAS = (0.02, 0.05, 0.1)
FILLINGS: tuple[Literal["black", "mean", "blur"], ...] = ("black", "mean", "blur")
PICTURES = 500
SEED = 0


def chosen(dataset: torchnin.ImageDataset) -> torchnin.ImageDataset:
    """As many pictures of every class, drawn at random."""
    draw = np.random.default_rng(SEED)
    each = PICTURES // dataset.num_classes
    places = [draw.choice(np.flatnonzero(dataset.labels == label), each, replace=False) for label in range(dataset.num_classes)]
    return dataset.select(np.sort(np.concatenate(places)))


def compared(pointed: torch.Tensor, other: torch.Tensor) -> dict[str, float | list[float]]:
    """The first fall against the other: mean difference, its interval, and how often the first is larger."""
    differences = (pointed - other).double()
    mean, half = float(differences.mean()), 1.96 * float(differences.std()) / math.sqrt(len(differences))
    return {
        "mean_fall": round(float(other.mean()), 5),
        "mean_difference": round(mean, 5),
        "interval": [round(mean - half, 5), round(mean + half, 5)],
        "larger_in": round(float((pointed > other).double().mean()), 5),
    }


def figures(drops: OcclusionDrops, where: torch.Tensor) -> dict[str, Any]:
    """What the covers did to the pictures of a selection."""
    pointed = drops.pointed[where]
    return {
        "num_pictures": len(pointed),
        "mean_fall": round(float(pointed.mean()), 5),
        "against_random": compared(pointed, drops.elsewhere[where]),
        "against_lowest": compared(pointed, drops.lowest[where]),
        "against_exchanged": compared(pointed, drops.exchanged[where]),
    }


def main() -> None:
    """Measure one classifier on one dataset."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="the dataset's name")
    parser.add_argument("classifier", help="a run folder")
    parser.add_argument("--data-dir", help="where to look for the data first")
    parser.add_argument("--name", help="of the result; the dataset's by default")
    options = parser.parse_args()
    classifier = torchnin.load(options.classifier, device="cpu")
    pictures = chosen(torchnin.load_dataset(options.data, data_dir=options.data_dir).test.with_class_names(classifier.class_names))
    pixels = torch.tensor(pictures.images)
    logits = classifier.logits(pixels)
    given = logits.argmax(1)
    made = classifier.metadata
    maps = torch.cat([classifier.network.class_maps(classifier.preprocessing(part)).detach() for part in pixels.split(64)])
    highest = maps[torch.arange(len(maps)), given].flatten(1).argmax(1)
    document: dict[str, Any] = {
        "command": f"python benchmarks/occlusion/measure.py {options.data} RUN" + (f" --name {options.name}" if options.name else ""),
        "date": datetime.now(UTC).date().isoformat(),
        "data": options.data,
        "num_pictures": len(pictures),
        "seed": SEED,
        "network": made["name"],
        "picture_size": [classifier.preprocessing.height, classifier.preprocessing.width],
        "map_size": list(maps.shape[2:]),
        "trained": {
            "seed": made["seed"],
            "epochs": made["recipe"]["num_epochs"],
            "test_accuracy": made.get("test_accuracy"),
            "stopped_at": made.get("stopped_at"),
        },
        "highest_value": torch.bincount(highest, minlength=maps[0, 0].numel()).view(maps.shape[2:]).tolist(),
        "accuracy_on_these": float((given == torch.tensor(pictures.labels)).double().mean()),
        "mean_probability": statistics.fmean(logits.double().softmax(1).amax(1).tolist()),
        "versions": {"torch": torch.__version__, "torchnin": torchnin.__version__},
        "covers": [],
    }
    every = torch.ones(len(given), dtype=torch.bool)
    for filling, area in itertools.product(FILLINGS, AREAS):
        drops = occlusion_drop(
            classifier.network,
            classifier.preprocessing,
            pixels,
            given,
            share=area,
            filling=filling,
            generator=torch.Generator().manual_seed(SEED),
        )
        classes = [(name, given == label) for label, name in enumerate(classifier.class_names)]
        row = {
            "filling": filling,
            "share": round(drops.share, 5),
            **figures(drops, every),
            "per_class": {name: figures(drops, where) for name, where in classes if where.sum() >= 2},
        }
        document["covers"].append(row)
        against, exchanged = row["against_random"], row["against_exchanged"]
        print(
            f"{filling}, {drops.share:.1%} of the picture: pointed {row['mean_fall']:.3f}, random {against['mean_fall']:.3f}, "
            f"lowest {row['against_lowest']['mean_fall']:.3f}; more than random by {against['mean_difference']:.3f} "
            f"(95 % interval {against['interval'][0]:.3f} to {against['interval'][1]:.3f}), in {against['larger_in']:.0%} of the pictures; "
            f"than where another's map is highest by {exchanged['mean_difference']:.3f} {exchanged['interval']}",
            flush=True,
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{options.name or options.data}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
