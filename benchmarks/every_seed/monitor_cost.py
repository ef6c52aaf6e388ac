"""What watching costs: the monitor's own share of a training step, and steps with it and without it, interleaved.

    python benchmarks/every_seed/monitor_cost.py

Steps are those of `nin train`, of which every second hundred goes unwatched, so that whatever else the machine does meets both.
A hundred steps hold one look at the blocks' channels and two at the findings, as in a training, a hundred at whether the loss is
finite and five at whether the weights are. Times are the processor's, of one thread, so that other work on the machine does not count;
the monitor's own is taken inside its calls. Writes `results/monitor_cost.json`.
"""

import argparse
import contextlib
import dataclasses
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import torchnin
from torchnin.commands.process import set_up_process
from torchnin.data import Batches
from torchnin.files import write_json
from torchnin.models import NiN
from torchnin.training.gradient import BatchGradient
from torchnin.training.monitor import Finite, Monitor
from torchnin.training.optimisation import initialise, make_optimizers
from torchnin.training.processes import joined
from torchnin.training.step import _WEIGHTS_EVERY

RESULTS = Path(__file__).parent / "results"
CASES = {"nin_small": ("fast", 28, 64), "nin_d2l": ("steady", 67, 8)}  # small batches: the monitor costs the same and the step less
_BLOCK = 100


class Clocked(Monitor):
    """The monitor, with a clock on everything it does, that can be told to do nothing."""

    on = True
    seconds = 0.0

    @contextlib.contextmanager
    def clock(self) -> Iterator[None]:
        began = time.process_time()
        yield
        self.seconds += time.process_time() - began

    @contextlib.contextmanager
    def watching(self, step: int) -> Iterator[None]:
        if not self.on:
            yield
            return
        watch = super().watching(step)
        with self.clock():
            watch.__enter__()
            clock = self.clock
            for block in self.network.body:
                hooks = block._forward_hooks
                for key, hook in hooks.items():

                    def timed(*arguments: Any, hook: Any = hook) -> None:
                        with clock():
                            hook(*arguments)

                    hooks[key] = timed
        yield
        with self.clock():
            watch.__exit__(None, None, None)

    def after_step(self, logits: Tensor, loss: Tensor, labels: Tensor, right: Tensor | None = None) -> None:
        if self.on:
            with self.clock():
                super().after_step(logits, loss, labels, right)

    def findings(self, epoch: int, step: int) -> list[Any]:
        with self.clock():
            return super().findings(epoch, step)


def measured(name: str, blocks: int) -> dict[str, Any]:
    """The cost for one network: `blocks` hundreds of watched steps, and as many unwatched."""
    recipe_name, size, batch_size = CASES[name]
    data = torchnin.load_dataset("fashion-mnist")
    recipe = dataclasses.replace(
        torchnin.named_recipe(recipe_name).fitted(num_pictures=len(data.train), mirror=True),
        batch_size=batch_size,
        image_size=size,
        thinning=0.0,
    )
    choice = torchnin.choose_device("cpu")
    torch.manual_seed(0)
    network: NiN = torchnin.create_model(name)
    initialise(network, recipe)
    network = choice.place(network).train()
    optimizers = make_optimizers(network, recipe)
    monitor = Clocked(network, data.class_names, data.train.class_counts.tolist(), 0, choice.device)
    finite = Finite(network, recipe, 10**9, Path("checkpoint"))
    preprocessing = torchnin.Preprocessing.of(data.train, image_size=size, normalise=recipe.normalise)
    batches = Batches(data.train, batch_size=batch_size, device=choice.device, seed=0)
    pictures = iter(batch for epoch in range(10**6) for batch in batches.epoch(epoch))
    took: dict[bool, list[float]] = {True: [], False: []}
    with joined("cpu") as processes:
        gradient = BatchGradient(
            network,
            recipe=recipe,
            preprocessing=preprocessing,
            seed=0,
            choice=choice,
            monitor=monitor,
            thinning=None,
            class_weights=None,
            processes=processes,
            pieces=1,
            on_out_of_memory="stop",
            say=print,
        )
        for step in range(-5, 2 * blocks * _BLOCK):
            monitor.on = step >= 0 and step // _BLOCK % 2 == 0
            batch = next(pictures)
            began = time.process_time()
            logits, loss = gradient(batch, max(step, 0))
            if monitor.on:
                with monitor.clock():
                    finite.check(loss, "loss", step + 1)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = 0.1 * group["peak_lr"]
                optimizer.step()
            monitor.after_step(logits, loss, batch.labels, logits.argmax(1) == batch.labels)
            if monitor.on and step % _WEIGHTS_EVERY == 0:
                with monitor.clock():
                    finite.check_weights(step + 1)
            if monitor.on and (step + 1) % 50 == 0:
                monitor.findings(1, step + 1)
            if step >= 0:
                took[monitor.on].append(time.process_time() - began)
    watched = blocks * _BLOCK
    return {
        "network": name,
        "image_size": size,
        "batch_size": batch_size,
        "watched_steps": watched,
        "step_milliseconds": round(1000 * statistics.median(took[False]), 3),
        "watched_step_milliseconds": round(1000 * statistics.median(took[True]), 3),
        "monitor_milliseconds_a_step": round(1000 * monitor.seconds / watched, 4),
        "share_of_a_step": round(monitor.seconds / sum(took[True]), 6),
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=3, help="hundreds of steps that are watched, and as many that are not")
    parser.add_argument("--only", nargs="*", choices=list(CASES), default=list(CASES))
    options = parser.parse_args()
    set_up_process()
    torch.set_num_threads(1)
    rows = []
    for name in options.only:
        rows.append(measured(name, options.blocks))
        print(rows[-1], flush=True)
    RESULTS.mkdir(exist_ok=True)
    write_json(
        RESULTS / "monitor_cost.json",
        {
            "date": time.strftime("%Y-%m-%d"),
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
