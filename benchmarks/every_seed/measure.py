"""Why the notebooks' NiN fails: their recipe over many seeds, watched class map by class map.

    MEASURE="python benchmarks/every_seed/measure.py"
    $MEASURE --out runs/why --seeds 50                                                   224 pixels, 10 epochs: a GPU's work
    $MEASURE --out runs/why-67 --seeds 10 --image-size 67 --steps 300 --test 2000        what a CPU can do: the smallest pictures
    $MEASURE --out runs/why-narrow --seeds 10 --image-size 67 --widths 8 24 32 --test 5000        and narrow blocks, all ten epochs

Network, initialisation, order of work and optimiser are those of `nin train --recipe d2l`; what is added only looks. `--change`
makes one change and nothing else, to tell what causes a failure from what goes with it (see `CHANGES`); two of the changes take
the last ReLU away and are no cure, for the network is another one then.

Each seed writes `CHANGE/seed-N.json`, and one that has been written is not trained again. Its rows hold, every `--every` steps:
loss and accuracy since the row before; per class map over the batch the share of its pixels that are zero, whether all are
(dead), its mean, and the norm of the gradient that passes its ReLU; the share of dead channels of each block and of the class
block's two hidden layers; the norm of the gradient of every convolution. After every epoch the test pictures are looked at:
accuracy, the recall of each class, and which maps are zero for every one of them. `results.py` makes one small file of many of these.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import torchnin
from torchnin.commands.process import set_up_process
from torchnin.data import Batches, derived_seed
from torchnin.files import write_json
from torchnin.models import NiN, NiNBlock
from torchnin.training import Recipe
from torchnin.training.optimisation import PICTURES_TO_LEVEL, initialise, level_class_maps, make_optimizers


@torch.no_grad()
def raised(network: NiN) -> None:
    """The notebooks' start, but for the class maps' bias, which is 1: every map lives at first."""
    nn.init.constant_(network.class_block[-2].bias, 1.0)


def leaky(network: NiN) -> None:
    """A tenth of what is below zero passes the last ReLU, so that no map can lose its gradient. A diagnosis, no cure."""
    network.class_block[-1] = nn.LeakyReLU(0.1)


def bare(network: NiN) -> None:
    """No last ReLU. A diagnosis, no cure."""
    network.class_block[-1] = nn.Identity()


def unchanged(_network: NiN) -> None:
    """The network as it starts."""


@dataclasses.dataclass(frozen=True)
class Change:
    """What is done to the start, and which values of the notebooks' recipe are others."""

    start: Callable[[NiN], None] = unchanged
    recipe: dict[str, Any] = dataclasses.field(default_factory=dict)


STEADY_START = {"initialisation": "alive", "level_class_maps": True}
CHANGES = {
    "none": Change(),
    "bias 1": Change(raised),
    "leaky": Change(leaky),
    "no last ReLU": Change(bare),
    "lr .02": Change(recipe={"lr": 0.02}),
    "lr .05": Change(recipe={"lr": 0.05}),
    "alive": Change(recipe=STEADY_START),
    "alive, lr .02": Change(recipe=STEADY_START | {"lr": 0.02}),
    "leaky, lr .02": Change(leaky, {"lr": 0.02}),
}


class Watch:
    """The share of dead channels of each block, and of the class block's hidden layers, in a forward pass that is looked at."""

    def __init__(self, network: NiN) -> None:
        self.shares: dict[str, float] = {}
        self.looking = False  # it waits for the device, so only in steps that write a row
        blocks = [layer for layer in network.body if isinstance(layer, NiNBlock)]
        for number, block in enumerate(blocks, 1):
            block.register_forward_hook(self._hook(f"block {number}"))
        for number, index in enumerate((1, 3), 1):
            network.class_block[index].register_forward_hook(self._hook(f"class block, layer {number}"))

    def _hook(self, name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Tensor) -> None:
            if self.looking:
                self.shares[name] = round(float((output.detach().amax((0, 2, 3)) <= 0).float().mean()), 3)

        return hook


def network_of(widths: list[int] | None) -> NiN:
    """nin_d2l, its three blocks of other widths where they are given; the class block stays, ten channels throughout."""
    network = torchnin.create_model("nin_d2l")
    if widths is None:
        return network
    blocks = tuple(dataclasses.replace(block, channels=(width,) * 3) for block, width in zip(network.config.blocks, widths, strict=True))
    return NiN(dataclasses.replace(network.config, blocks=blocks))


def train_one(seed: int, data: torchnin.DatasetSplits, change: Change, options: argparse.Namespace) -> dict[str, Any]:
    """Train with one seed: its rows and its end."""
    recipe = dataclasses.replace(
        torchnin.named_recipe("d2l"), image_size=options.image_size, num_epochs=options.num_epochs, **change.recipe
    )
    choice = torchnin.choose_device(options.device)
    torch.manual_seed(derived_seed(seed, "weights"))
    network = network_of(options.widths)
    torch.manual_seed(derived_seed(seed, "initialisation"))
    initialise(network, recipe)
    change.start(network)
    network = choice.place(network).train()
    preprocessing = torchnin.Preprocessing.of(data.train, image_size=recipe.image_size, normalise=recipe.normalise)
    batches = Batches(data.train, batch_size=recipe.batch_size, device=choice.device, seed=seed)
    if recipe.level_class_maps:
        level_class_maps(network, batches.some(PICTURES_TO_LEVEL), preprocessing)
    (optimizer,) = make_optimizers(network, recipe)
    watch = Watch(network)
    rows: list[dict[str, Any]] = []
    tests: list[dict[str, Any]] = []
    sums, since, step, began = torch.zeros(2, dtype=torch.float64, device=choice.device), 0, 0, time.process_time()
    last = min(options.steps or recipe.num_epochs * batches.num_batches, recipe.num_epochs * batches.num_batches) - 1
    while step <= last:
        epoch, done = divmod(step, batches.num_batches)
        for batch in batches.epoch(epoch, start=done):
            torch.manual_seed(derived_seed(seed, "dropout", step))
            watch.looking = step % options.every == 0 or step == last or (step < options.every and step % 5 == 0)
            with choice.autocast():
                maps = network.class_maps(preprocessing(batch.pictures).contiguous(memory_format=choice.memory_format))
                logits = network.head(maps).float()
            maps.retain_grad()
            loss = F.cross_entropy(logits, batch.labels)
            network.zero_grad()
            loss.backward()
            sums += torch.stack([loss.detach(), (logits.argmax(1) == batch.labels).float().mean()])
            since += 1
            if watch.looking:
                mean_loss, accuracy = (sums / since).tolist()
                rows.append(
                    {"step": step, "loss": round(mean_loss, 4), "accuracy": round(accuracy, 4), **described(maps, network)}
                    | {"dead_channels": dict(watch.shares)}
                )
                sums.zero_()
                since = 0
            optimizer.step()
            step += 1
            if step > last:
                break
        watch.looking = False
        tests.append({"step": step, **tested(network, preprocessing, data, choice, options.test)})
        network.train()
    return {"seed": seed, "processor_seconds": round(time.process_time() - began, 1), "tests": tests, "rows": rows}


@torch.no_grad()
def described(maps: Tensor, network: NiN) -> dict[str, list[float] | list[int]]:
    """What a row says of the class maps `(n, k, y, x)`, of the gradient that reaches them and of the convolutions' gradients."""
    assert maps.grad is not None
    passing = maps.grad.float() * (maps > 0)
    values = maps.float()
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    return {
        "zero_share": rounded((values == 0).float().mean((0, 2, 3)), 3),
        "dead": torch.nonzero((values == 0).all(0).flatten(1).all(1)).flatten().tolist(),
        "mean": rounded(values.mean((0, 2, 3)), 4),
        "spread": rounded(values.mean((2, 3)).std(0), 4),
        "gradient_norm": rounded(passing.square().sum((0, 2, 3)).sqrt(), 5),
        "convolution_gradient_norms": [float(f"{float(layer.weight.grad.norm()):.3g}") for layer in convolutions],
    }


def rounded(values: Tensor, digits: int) -> list[float]:
    """The values as short decimals."""
    return [round(value, digits) for value in values.tolist()]


@torch.no_grad()
def tested(network: NiN, preprocessing: Any, data: torchnin.DatasetSplits, choice: Any, count: int) -> dict[str, Any]:
    """Accuracy on the first `count` test pictures (0: all), the recall of each class, and how each map answers its class."""
    network.eval()
    labels = torch.tensor(data.test.labels)[: count or None]
    maps, logits = [], []
    for batch in Batches(data.test, batch_size=256, device=choice.device).epoch():
        if count and len(torch.cat(logits) if logits else []) >= count:
            break
        found = network.class_maps(preprocessing(batch.pictures).contiguous(memory_format=choice.memory_format))
        maps.append(found.flatten(2).amax(2).cpu())
        logits.append(network.head(found).float().cpu())
    highest, answers = torch.cat(maps)[: len(labels)], torch.cat(logits)[: len(labels)]
    predicted = answers.argmax(1)
    classes = range(answers.shape[1])
    return {
        "test_accuracy": round(float((predicted == labels).float().mean()), 4),
        "test_loss": round(float(F.cross_entropy(answers, labels)), 4),
        "test_pictures": len(labels),
        "recalls": [round(float((predicted[labels == k] == k).float().mean()), 3) for k in classes],
        "predicted_shares": [round(float((predicted == k).float().mean()), 3) for k in classes],
        "dead_maps": [k for k in classes if bool((highest[:, k] <= 0).all())],
        "all_zero_pictures": round(float((answers <= 0).all(1).float().mean()), 4),
    }


def main() -> None:
    """Train every seed that is not written yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for what the seeds write")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--change", nargs="*", choices=list(CHANGES), default=["none"], help="one change after the other")
    parser.add_argument("--image-size", type=int, default=224, help="side of the pictures in pixels, at least 67")
    parser.add_argument("--widths", type=int, nargs=3, help="of the three blocks, in place of 96 256 384; the class block stays")
    parser.add_argument("--num-epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=0, help="stop after so many steps; 0 goes to the end")
    parser.add_argument("--every", type=int, default=25, help="steps between two rows")
    parser.add_argument("--test", type=int, default=0, help="test pictures to look at; 0 takes all")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    set_up_process()
    data = torchnin.load_dataset(options.data)
    recipe: Recipe = torchnin.named_recipe("d2l")
    conditions = {
        "network": "nin_d2l",
        "widths": options.widths or [96, 256, 384],
        "image_size": options.image_size,
        "batch_size": recipe.batch_size,
        "device": torchnin.choose_device(options.device).to_dict(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }
    for number in range(options.first_seed, options.first_seed + options.seeds):
        for name in options.change:
            path = options.out / name.replace(" ", "-").replace(",", "") / f"seed-{number}.json"
            if not path.is_file():
                found = train_one(number, data, CHANGES[name], options)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_json(path, {"change": name, **conditions, **found})
            found = json.loads(path.read_text(encoding="utf-8"))
            end = found["tests"][-1]
            print(
                f"{name}, seed {number}: test accuracy {end['test_accuracy']:.4f}, {len(end['dead_maps'])} maps dead, "
                f"{found['processor_seconds']:.0f} s of processor time",
                flush=True,
            )


if __name__ == "__main__":
    main()
