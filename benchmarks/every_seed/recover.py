"""Does `--on-collapse recover` save the notebooks' recipe? The same seeds warned of and recovered.

    RECOVER="python benchmarks/every_seed/recover.py --out runs/recover"
    $RECOVER                                                                      224 pixels, 10 epochs: a GPU's work
    $RECOVER --image-size 67 --widths 8 24 32 --num-epochs 2 --seeds 5            what a CPU can do

Every training is a run folder below `--out`, `warn/seed-N` and `recover/seed-N`; one that is finished is not trained again. Writes
`results/recover.json`: test accuracy, dead class maps, and what the monitor said and did.
"""

import argparse
import dataclasses
import time
from pathlib import Path
from typing import Any

import torch
from cure import network_of

import torchnin
from torchnin.commands.process import set_up_process
from torchnin.files import write_json
from torchnin.training import CollapseError, DivergenceError

RESULTS = Path(__file__).parent / "results"


def one(seed: int, on_collapse: Any, data: torchnin.DatasetSplits, options: argparse.Namespace) -> dict[str, Any]:
    """The row of one training, trained now where it is not finished yet."""
    folder = options.out / on_collapse / f"seed-{seed}"
    recipe = dataclasses.replace(torchnin.named_recipe("d2l"), num_epochs=options.num_epochs, image_size=options.image_size)
    try:
        run = torchnin.train(
            network_of(options),
            data,
            recipe,
            out=folder,
            name=options.model,
            seed=seed,
            device=options.device,
            on_collapse=on_collapse,
            resume=(folder / "config.json").is_file(),
            quiet=True,
        )
    except (CollapseError, DivergenceError) as error:
        return {"seed": seed, "test_accuracy": None, "gave_up": str(error)}
    findings = [finding for row in run.metrics for finding in row["findings"]]
    return {
        "seed": seed,
        "test_accuracy": run.result["test_accuracy"],
        "dead_class_maps": run.result["dead_class_maps"],
        "train_accuracy": [round(row["train_accuracy"], 4) for row in run.metrics],
        "recoveries": sum(finding["kind"] == "recovered" for finding in findings),
        "findings": [{"kind": finding["kind"], "step": finding["step"], "message": finding["message"]} for finding in findings],
    }


def main() -> None:
    """Train every seed both ways, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--widths", type=int, nargs="*", help="of the blocks, in place of the network's own; the class block stays")
    parser.add_argument("--num-epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--device", default="auto")
    options = parser.parse_args()
    options.model = "nin_d2l"
    set_up_process()
    data = torchnin.load_dataset("fashion-mnist")
    found: dict[str, Any] = {
        "network": options.model,
        "widths": options.widths,
        "image_size": options.image_size,
        "num_epochs": options.num_epochs,
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
        "warn": [],
        "recover": [],
    }
    for seed in range(options.seeds):
        for way in ("warn", "recover"):
            found[way].append(one(seed, way, data, options))
            print(way, found[way][-1], flush=True)
            RESULTS.mkdir(exist_ok=True)
            write_json(RESULTS / "recover.json", found)


if __name__ == "__main__":
    main()
