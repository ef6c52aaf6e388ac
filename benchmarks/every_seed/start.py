"""How the notebooks' NiN stands before its first step: what of a picture reaches the class maps, and which maps are zero already.

    python benchmarks/every_seed/start.py                      40 seeds at 224 pixels, 12 pictures: some minutes of one core
    python benchmarks/every_seed/start.py --image-size 67 --widths 8 24 32 --name start-narrow      the network of the longer trainings
    python benchmarks/every_seed/start.py --model nin_mnist --data mnist --data-dir DIR --image-size 28 --seeds 20 --name start-mnist
    python benchmarks/every_seed/start.py --model nin_cifar10 --data cifar-10 --data-dir DIR --image-size 32 --seeds 20 --name start-cifar10

For the start of each recipe the published network is drawn with so many seeds and shown the same train pictures, without dropout.
Per convolution: the root mean square of what it gives before its ReLU, the share of it that differs from picture to picture, and
the norm of its weights' gradient; per seed: how many class maps are zero for every picture, and how many are above zero for every
picture. Writes `results/start.json`, or whatever `--name` says.
"""

import argparse
import dataclasses
import statistics
import time
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from measure import network_of
from torch import Tensor, nn

import torchnin
from torchnin.commands.process import set_up_process
from torchnin.data import Batches, derived_seed
from torchnin.files import write_json
from torchnin.training.optimisation import PICTURES_TO_LEVEL, initialise, level_class_maps

RESULTS = Path(__file__).parent / "results"
STARTS = ("d2l", "steady")


def one(
    seed: int, recipe: torchnin.Recipe, options: argparse.Namespace, preprocessing: torchnin.Preprocessing, train: torchnin.ImageDataset
) -> dict[str, Any]:
    """What one drawn network makes of a batch."""
    batch = next(iter(Batches(train, batch_size=options.pictures, device=torch.device("cpu"), seed=0).epoch()))
    pictures = preprocessing(batch.pictures).contiguous(memory_format=torch.channels_last)
    torch.manual_seed(derived_seed(seed, "weights"))
    network = network_of(options.widths) if options.widths else torchnin.create_model(options.model)
    torch.manual_seed(derived_seed(seed, "initialisation"))
    initialise(network, recipe)
    if recipe.level_class_maps:
        some = Batches(train, batch_size=options.pictures, device=torch.device("cpu"), seed=seed).some(PICTURES_TO_LEVEL)
        level_class_maps(network, some, preprocessing)
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    sizes: list[float] = []
    apart: list[float] = []

    def look(_layer: nn.Module, _inputs: Any, output: Tensor) -> None:
        # Copied by the sums, for the ReLU after it works in place. What differs from picture to picture, at the same place.
        values = output.detach()
        sizes.append(float(values.square().mean().sqrt()))
        apart.append(float(values.std(0, correction=0).square().mean().sqrt()))

    for layer in convolutions:
        layer.register_forward_hook(look)
    network.eval()  # without dropout, whose noise would look like a difference between pictures
    maps = network.class_maps(pictures)
    loss = F.cross_entropy(network.head(maps), batch.labels)
    loss.backward()
    zero = (maps <= 0).flatten(2)
    return {
        "loss": loss.item(),
        "dead": int(zero.all(2).all(0).sum()),
        "always_on": int((~zero.all(2)).all(0).sum()),
        "size": sizes,
        "differs": [part / size for part, size in zip(apart, sizes, strict=True)],
        "gradient": [float(layer.weight.grad.norm()) for layer in convolutions],
    }


def main() -> None:
    """Draw, look, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--model", default="nin_d2l")
    parser.add_argument("--widths", type=int, nargs=3, help="of nin_d2l's blocks, in place of 96 256 384; the class block stays")
    parser.add_argument("--name", default="start", help="of the file below results/")
    parser.add_argument("--pictures", type=int, default=12)
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--data-dir")
    options = parser.parse_args()
    set_up_process()
    data = torchnin.load_dataset(options.data, data_dir=options.data_dir)
    found: dict[str, Any] = {
        "network": options.model,
        "widths": options.widths,
        "image_size": options.image_size,
        "pictures": options.pictures,
        "seeds": options.seeds,
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "starts": {},
    }
    for name in STARTS:
        recipe = dataclasses.replace(torchnin.named_recipe(name), image_size=options.image_size)
        preprocessing = torchnin.Preprocessing.of(data.train, image_size=options.image_size, normalise=recipe.normalise)
        rows = []
        for seed in range(options.seeds):
            rows.append(one(seed, recipe, options, preprocessing, data.train))
            print(name, seed, rows[-1]["dead"], rows[-1]["always_on"], round(rows[-1]["loss"], 4), flush=True)
        found["starts"][name] = {
            "dead_maps": [sum(row["dead"] == count for row in rows) for count in range(11)],
            "maps_on_for_every_picture": [sum(row["always_on"] == count for row in rows) for count in range(11)],
            "loss": medians([[row["loss"]] for row in rows])[0],
            **{key: medians([row[key] for row in rows]) for key in ("size", "differs", "gradient")},
        }
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{options.name}.json", found)


def medians(rows: list[list[float]]) -> list[float]:
    """The median over the seeds of each value of a row."""
    return [float(f"{statistics.median(values):.4g}") for values in zip(*rows, strict=True)]


if __name__ == "__main__":
    main()
