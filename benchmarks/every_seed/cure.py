"""Does the recipe `steady` train every seed, and what of it matters: each ingredient taken away in turn.

    CURE="python benchmarks/every_seed/cure.py"
    $CURE --out runs/cure --seeds 50 --only steady                                        224 pixels, 10 epochs: a GPU's work
    $CURE --out runs/cure-112 --image-size 112 --share 0.2 --num-epochs 2 --seeds 5       what a CPU can do
    $CURE --out runs/mnist --model nin_mnist --data mnist --data-dir DIR --num-epochs 1 --seeds 20 --only steady
    $CURE --out runs/cifar --model nin_cifar10 --data cifar-10 --data-dir DIR --num-epochs 1 --seeds 20 --only steady

Every training is a run folder below `--out`, `VARIANT/seed-N`; one that is finished is not trained again and one that was
cut off goes on, so the command may be stopped and called again. The table goes to `--out/summary.json`. A training fails where
its test accuracy is below `--least`, or a class map is dead at the end, or it stops because numbers are not finite.
"""

import argparse
import dataclasses
import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torchnin
from torchnin.data import Augmentation
from torchnin.files import write_json
from torchnin.training import CollapseError, DivergenceError, Recipe


def changed(**fields: Any) -> Callable[[Recipe], Recipe]:
    """A recipe with other values in some fields."""
    return lambda recipe: dataclasses.replace(recipe, **fields)


VARIANTS: dict[str, Callable[[Recipe], Recipe]] = {
    "steady": changed(),
    "without living class maps": changed(initialisation="he"),
    "initialisation as built": changed(initialisation="as built"),
    "Xavier initialisation": changed(initialisation="xavier"),
    "without warm-up": changed(warmup=0.0),
    "without clipping": changed(clip_norm=None),
    "without momentum": lambda recipe: dataclasses.replace(recipe, momentum=0.0, lr=recipe.lr / (1 - recipe.momentum)),
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
    recipe = dataclasses.replace(torchnin.named_recipe("steady"), num_epochs=options.num_epochs, image_size=options.image_size)
    begun = (folder / "config.json").is_file()
    try:
        run = torchnin.train(
            options.model, data, VARIANTS[variant](recipe), out=folder, seed=seed, device=options.device, resume=begun, quiet=True
        )
    except (DivergenceError, CollapseError) as error:
        return {"seed": seed, "test_accuracy": None, "failure": str(error)}
    accuracy, dead = run.result["test_accuracy"], run.result["dead_class_maps"]
    failure = f"accuracy {accuracy:.3f}" if accuracy < options.least else f"{dead} class maps dead" if dead else None
    return {"seed": seed, "test_accuracy": accuracy, "dead_class_maps": dead, "seconds": run.result["seconds"], "failure": failure}


def main() -> None:
    """Train what is not trained yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs and summary.json")
    parser.add_argument("--model", default="nin_d2l")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir")
    parser.add_argument("--image-size", type=int, help="side in pixels; the network's own where it is not given")
    parser.add_argument("--num-epochs", type=int, default=10)
    parser.add_argument("--share", type=float, default=1.0, help="share of the train pictures to learn from")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--least", type=float, default=0.85, help="test accuracy below which a training counts as failed")
    parser.add_argument("--only", nargs="*", choices=list(VARIANTS), default=list(VARIANTS), help="which variants")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    if options.image_size is None:
        options.image_size = torchnin.model_entry(options.model).config.image_size
    data = torchnin.load_dataset(options.data, data_dir=options.data_dir)
    if options.share < 1:
        data = dataclasses.replace(data, train=data.train.split(options.share, seed=0)[1])
    options.out.mkdir(parents=True, exist_ok=True)
    summary: dict[str, Any] = {
        "model": options.model,
        "data": options.data,
        "image_size": options.image_size,
        "num_epochs": options.num_epochs,
        "pictures": len(data.train),
        "least": options.least,
        "device": torchnin.choose_device(options.device).to_dict(),
        "variants": {},
    }
    for variant in options.only:
        rows: list[dict[str, Any]] = []
        for seed in range(options.seeds):
            rows.append(one(variant, seed, data, options))
            print(f"{variant}, seed {seed}: {json.dumps(rows[-1])}", flush=True)
            summary["variants"][variant] = table(rows)
            write_json(options.out / "summary.json", summary)


def table(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the seeds of one variant say together."""
    accuracies = [row["test_accuracy"] for row in rows if row["test_accuracy"] is not None]
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
