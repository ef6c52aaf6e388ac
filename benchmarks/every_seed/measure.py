"""Why the notebooks' NiN fails: their recipe over many seeds, watched class map by class map.

    python benchmarks/every_seed/measure.py --out runs/why --seeds 50                                    224 pixels, 10 epochs: a GPU's work
    python benchmarks/every_seed/measure.py --out runs/why --seeds 10 --image-size 112 --steps 300       what a CPU can do

Network, initialisation, order of work and optimiser are those of `nin train --recipe d2l`; what is added only looks. Each
seed writes `seed-N.jsonl`, a row every `--every` steps, and `seed-N.json`, its end; a seed that has its end is not trained
again. A row holds, per class map over the batch: the share of its pixels that are zero, whether all are (dead), its mean, and
the norm of the gradient that passes its ReLU; and per block the share of channels that are zero for every picture.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

import torchnin
from torchnin.data import Batches, derived_seed
from torchnin.files import write_json
from torchnin.models import NiN, NiNBlock
from torchnin.training.optimisation import initialise, make_optimizers


@dataclasses.dataclass
class DeadChannels:
    """The share of dead channels of each block in the last forward pass."""

    shares: dict[str, float]
    looking: bool = False
    """Whether to look: it waits for the device, so only in steps that write a row."""

    def look_at(self, network: NiN) -> None:
        """Look at the blocks of a network from now on."""
        blocks = [layer for layer in network.body if isinstance(layer, NiNBlock)]
        for number, block in enumerate(blocks, 1):
            block.register_forward_hook(self._hook(f"block {number}"))

    def _hook(self, name: str) -> Any:
        def hook(_module: Any, _inputs: Any, output: Tensor) -> None:
            if self.looking:
                self.shares[name] = float((output.detach().amax((0, 2, 3)) <= 0).float().mean())

        return hook


def train_one(seed: int, data: torchnin.DatasetSplits, options: argparse.Namespace) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Train with one seed; the rows and the end."""
    recipe = dataclasses.replace(torchnin.named_recipe("d2l"), image_size=options.image_size, num_epochs=options.num_epochs)
    choice = torchnin.choose_device(options.device)
    torch.manual_seed(derived_seed(seed, "weights"))
    network = torchnin.create_model("nin_d2l")
    torch.manual_seed(derived_seed(seed, "initialisation"))
    initialise(network, recipe)
    network = choice.place(network).train()
    (optimizer,) = make_optimizers(network, recipe)
    preprocessing = torchnin.Preprocessing.of(data.train, image_size=recipe.image_size, normalise=False)
    batches = Batches(data.train, batch_size=recipe.batch_size, device=choice.device, seed=seed)
    channels = DeadChannels({})
    channels.look_at(network)
    rows: list[dict[str, Any]] = []
    step = 0
    for epoch in range(recipe.num_epochs):
        for batch in batches.epoch(epoch):
            if options.steps and step == options.steps:
                break
            torch.manual_seed(derived_seed(seed, "dropout", step))
            channels.looking = step % options.every == 0
            with choice.autocast():
                maps = network.class_maps(preprocessing(batch.pictures).contiguous(memory_format=choice.memory_format))
                logits = network.head(maps).float()
            maps.retain_grad()
            loss = F.cross_entropy(logits, batch.labels)
            optimizer.zero_grad()
            loss.backward()
            if channels.looking:
                rows.append(
                    {"step": step, "epoch": epoch + 1, "loss": loss.item(), **described(maps), "dead_channels": dict(channels.shares)}
                )
            optimizer.step()
            step += 1
    report = torchnin.Classifier(network, preprocessing, data.class_names, device=str(choice.device)).evaluate(data.test)
    recalls = [figures.recall for figures in report.per_class]
    end = {
        "seed": seed,
        "steps": step,
        "test_accuracy": report.accuracy,
        "test_loss": report.loss,
        "recall_of_each_class": recalls,
        "dead_at_the_end": rows[-1]["dead"],
        "image_size": recipe.image_size,
        "device": choice.to_dict(),
        "torch": torch.__version__,
    }
    return rows, end


@torch.no_grad()
def described(maps: Tensor) -> dict[str, list[float] | list[bool]]:
    """What a row says of the class maps `(n, k, y, x)` and the gradient that reaches them."""
    assert maps.grad is not None
    passing = maps.grad.float() * (maps > 0)
    return {
        "zero_share": (maps == 0).float().mean((0, 2, 3)).tolist(),
        "dead": (maps == 0).all(0).flatten(1).all(1).tolist(),
        "mean": maps.float().mean((0, 2, 3)).tolist(),
        "gradient_norm": passing.square().sum((0, 2, 3)).sqrt().tolist(),
    }


def main() -> None:
    """Train every seed that has no end yet, and summarise."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the rows and ends")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--image-size", type=int, default=224, help="side of the pictures in pixels, at least 67")
    parser.add_argument("--num-epochs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=0, help="stop after so many steps; 0 goes to the end")
    parser.add_argument("--every", type=int, default=10, help="steps between two rows")
    parser.add_argument("--data", default="fashion-mnist")
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    data = torchnin.load_dataset(options.data)
    ends = []
    for seed in range(options.seeds):
        path = options.out / f"seed-{seed}.json"
        if not path.is_file():
            rows, end = train_one(seed, data, options)
            path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
            write_json(path, end)
        end = json.loads(path.read_text(encoding="utf-8"))
        ends.append(end)
        print(f"seed {seed}: test accuracy {end['test_accuracy']:.4f}, {sum(end['dead_at_the_end'])} maps dead", flush=True)
    bins = {
        "at most .11": (0.0, 0.11),
        ".11 to .7": (0.11, 0.7),
        ".7 to .8": (0.7, 0.8),
        ".8 to .85": (0.8, 0.85),
        "at least .85": (0.85, 2.0),
    }
    accuracies = sorted(end["test_accuracy"] for end in ends)
    summary = {
        "seeds": len(ends),
        "median": accuracies[len(accuracies) // 2],
        "lowest": accuracies[0],
        "highest": accuracies[-1],
        "bins": {name: sum(low <= accuracy < high for accuracy in accuracies) for name, (low, high) in bins.items()},
    }
    write_json(options.out / "summary.json", summary)
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
