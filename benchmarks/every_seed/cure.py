"""Does the recipe `steady` train every seed, and what of it matters: each ingredient taken away in turn.

    CURE="python benchmarks/every_seed/cure.py"
    $CURE --out runs/cure --seeds 50 --only steady                                        224 pixels, 10 epochs: a GPU's work
    $CURE --out runs/cure-narrow --image-size 67 --widths 8 24 32 --num-epochs 1 --share 0.5 --seeds 3 --held-out 0.1 --least 0.4    a CPU's
    $CURE --out runs/mnist --model nin_mnist --data mnist --data-dir DIR --num-epochs 1 --seeds 20 --only steady
    $CURE --out runs/cifar --model nin_cifar10 --data cifar-10 --data-dir DIR --num-epochs 1 --seeds 20 --only steady
    ... --share 0.3                     the last one on a CPU

Every training is a run folder below `--out`, `VARIANT/seed-N`; one that is finished is not trained again and one that was cut off goes on,
so the command may be stopped and called again, and `--first-seed` parts the seeds among machines. The table goes to `--out/summary.json`. A
training fails where its accuracy is below `--least`, or a class map is dead at the end or over all test pictures, or it stops because
numbers are not finite. With `--held-out` the accuracy is that of so large a share of the train pictures, which is what a choice is made by;
else it is that of the test pictures.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import torchnin
from torchnin.commands.networks import NetworkChoices, named_config
from torchnin.commands.process import set_up_process
from torchnin.data import Augmentation
from torchnin.files import write_json
from torchnin.models import NiNConfig
from torchnin.training import CollapseError, DivergenceError, Recipe


def changed(**fields: Any) -> Callable[[Recipe], Recipe]:
    """A recipe with other values in some fields."""
    return lambda recipe: dataclasses.replace(recipe, **fields)


VARIANTS: dict[str, Callable[[Recipe], Recipe]] = {
    "steady": changed(),
    "without Muon": changed(optimizer="sgd", lr=0.02),
    "without Muon, rate .1": changed(optimizer="sgd", lr=0.1, warmup=0.2),
    "rate .05 for the first and last layer": changed(lr=0.05),
    "without living class maps": changed(initialisation="he"),
    "initialisation as built": changed(initialisation="as built"),
    "Xavier initialisation": changed(initialisation="xavier"),
    "without warm-up": changed(warmup=0.0),
    "without clipping": changed(clip_norm=None),
    "norms not kept": changed(keep_norms=False),
    "maps not levelled": changed(level_class_maps=False),
    "norms not kept, maps not levelled": changed(keep_norms=False, level_class_maps=False),
    "without momentum": lambda recipe: dataclasses.replace(recipe, momentum=0.0, muon_momentum=0.0, lr=recipe.lr / (1 - recipe.momentum)),
    "constant learning rate": changed(schedule="constant"),
    "pixels in [0, 1]": changed(normalise=False),
    "without weight decay": changed(weight_decay=0.0),
    "without flips": changed(augmentation=Augmentation()),
    "the notebooks'": lambda recipe: dataclasses.replace(
        torchnin.named_recipe("d2l"), image_size=recipe.image_size, num_epochs=recipe.num_epochs
    ),
}


def one(variant: str, seed: int, data: torchnin.DatasetSplits, options: argparse.Namespace) -> dict[str, Any]:
    """The row of one training, trained now where it is not finished yet."""
    folder = options.out / variant.replace(" ", "-").replace("'", "").replace("[0,-1]", "0-1") / f"seed-{seed}"
    recipe = dataclasses.replace(
        torchnin.named_recipe("steady"), num_epochs=options.num_epochs, image_size=options.image_size, min_batches=0, min_steps=0
    )
    begun = (folder / "config.json").is_file()
    try:
        run = torchnin.train(
            network_of(options),
            data,
            VARIANTS[variant](recipe),
            out=folder,
            name=options.model.partition(":")[0],
            seed=seed,
            device=options.device,
            validation=options.held_out,
            resume=begun,
            quiet=True,
        )
    except (DivergenceError, CollapseError) as error:
        return {"seed": seed, "accuracy": None, "dead_class_maps": None, "failure": str(error)}
    accuracy, dead = run.result["validation_accuracy" if options.held_out else "test_accuracy"], run.result["dead_class_maps"]
    dead = max(dead, dead_over(run.classifier, data.test))  # the monitor needs fifty steps to call a map dead
    failure = f"{dead} class maps dead" if dead else f"accuracy {accuracy:.3f}" if accuracy < options.least else None
    return {"seed": seed, "accuracy": accuracy, "dead_class_maps": dead, "failure": failure}


def dead_over(classifier: torchnin.Classifier, pictures: torchnin.ImageDataset) -> int:
    """How many class maps are zero for every one of these pictures."""
    network = classifier.network
    if not (network.config.class_map_relu and network.config.head == "gap"):
        return 0
    alive = torch.zeros(network.num_classes, dtype=torch.bool)
    with torch.inference_mode():
        for start in range(0, len(pictures), 100):
            pixels = torch.from_numpy(pictures.images[start : start + 100])
            alive |= (network(classifier.preprocessing(pixels)) > 0).any(0).cpu()
    return int((~alive).sum())


def network_of(options: argparse.Namespace) -> NiNConfig:
    """The network, its blocks of other widths where they are given; the class block stays."""
    config = named_config(options.model, NetworkChoices())
    if options.widths is None:
        return config
    blocks = tuple(
        dataclasses.replace(block, channels=(width,) * len(block.channels))
        for block, width in zip(config.blocks, options.widths, strict=True)
    )
    return dataclasses.replace(config, blocks=blocks)


def main() -> None:
    """Train what is not trained yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and summary.json")
    parser.add_argument("--model", default="nin_d2l", help="a network's name, or a variant as `nin train --model` takes it")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--image-size", type=int, help="side in pixels; the network's own where it is not given")
    parser.add_argument("--widths", type=int, nargs="*", help="of the blocks, in place of the network's own; the class block stays")
    parser.add_argument("--num-epochs", type=int, default=10)
    parser.add_argument(
        "--held-out", type=float, default=0.0, help="share of the train pictures to judge by, in place of the test pictures"
    )
    parser.add_argument("--share", type=float, default=1.0, help="share of the train pictures to learn from")
    parser.add_argument("--test-share", type=float, default=1.0, help="share of the test pictures to judge by, as many of each class")
    parser.add_argument("--seeds", type=int, default=50, help="how many")
    parser.add_argument("--first-seed", type=int, default=0, help="the others count on from it")
    parser.add_argument("--least", type=float, default=0.85, help="accuracy below which a training counts as failed")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS), help="which variants")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    set_up_process()
    if options.image_size is None:
        options.image_size = network_of(options).image_size
    data = torchnin.load_dataset(options.data, data_dir=options.data_dir)
    if options.share < 1:
        data = dataclasses.replace(data, train=data.train.split(options.share, seed=0)[1])
    if options.test_share < 1:
        data = dataclasses.replace(data, test=data.test.split(options.test_share, seed=0)[1])
    options.out.mkdir(parents=True, exist_ok=True)
    summary: dict[str, Any] = {
        "model": options.model,
        "widths": options.widths,
        "data": options.data,
        "image_size": options.image_size,
        "num_epochs": options.num_epochs,
        "pictures": len(data.train),
        "test_pictures": len(data.test),
        "held_out": options.held_out,
        "least": options.least,
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "device": torchnin.choose_device(options.device).to_dict(),
        "variants": {},
    }
    for variant in options.only:
        rows: list[dict[str, Any]] = []
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            rows.append(one(variant, seed, data, options))
            print(f"{variant}, seed {seed}: {json.dumps(rows[-1])}", flush=True)
            summary["variants"][variant] = table(rows)
            write_json(options.out / "summary.json", summary)


def table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the seeds of one variant say together."""
    accuracies = [row["accuracy"] for row in rows if row["accuracy"] is not None]
    return {
        "seeds": len(rows),
        "failures": sum(row["failure"] is not None for row in rows),
        "median": statistics.median(accuracies) if accuracies else None,
        "lowest": min(accuracies, default=None),
        "highest": max(accuracies, default=None),
        "runs": rows,
    }


if __name__ == "__main__":
    main()
