"""Makes of a recorded run the weights that ship: a classifier's folder in src/torchnin/weights, with its model card.

    python benchmarks/records/ship.py runs/fashion-mnist-small/seed-0 --name fashion-mnist-small
    python benchmarks/records/ship.py --cards              write all model cards anew, as after a new seed of a record
    python benchmarks/records/ship.py --cards --check      fail where one is not what the records say

The weights of convolutions are stored in float16, all else (biases, batch normalisation with its statistics) in float32; everything is
read back to float32 and computed in it. Both forms are evaluated on the whole test set, and where the accuracies differ by more than
0.02 points, nothing is written (`--float32` ships the float32 form then). The run must stand in `results/NAME.json` (record.py), which
says what the other seeds reached. By our rule the first seed ships, however it did: choosing the best is choosing on test pictures.
"""

import argparse
import json
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
from card import card  # noqa: E402

import torchnin  # noqa: E402
from records import RESULTS  # noqa: E402
from torchnin.files import write_json  # noqa: E402

WEIGHTS = Path(torchnin.__file__).parent / "weights"
MAX_POINTS = 0.02
MAX_BYTES = 12_000_000


def ship(run: torchnin.Run, name: str, *, half: bool = True, data_dir: Path | None = None, weights: Path = WEIGHTS) -> Path:
    """Write the folder of a finished run's weights.

    Returns:
        The folder.

    Raises:
        ValueError: the run is not the one that the record has, float16 costs accuracy, or all weights together would be too large.
    """
    record = read_record(name)
    row = next((row for row in record["seeds"] if row["seed"] == run.result["seed"]), None)
    if row is None or row["test_accuracy"] != run.result["test_accuracy"]:
        raise ValueError(f"{run.path} is not among the seeds of {RESULTS / name}.json; record it first: record.py {name} --runs DIR --kept")
    classifier = run.classifier
    splits = torchnin.training.load_recorded(classifier.metadata["data"], data_dir=data_dir)
    as_trained = classifier.evaluate(splits.test)
    if abs(as_trained.accuracy - run.result["test_accuracy"]) > 0.0005:  # another processor rounds otherwise
        raise ValueError(f"{run.path}: accuracy {as_trained.accuracy:.4f} here, and its result.json says {run.result['test_accuracy']:.4f}")
    with tempfile.TemporaryDirectory() as aside:
        kept = torchnin.load(classifier.save(Path(aside) / name, half=half))
        report = kept.evaluate(splits.test)
        points = 100 * abs(report.accuracy - as_trained.accuracy)
        if points > MAX_POINTS:
            raise ValueError(
                f"float16 changes the test accuracy from {as_trained.accuracy:.4%} to {report.accuracy:.4%}, by more than {MAX_POINTS} "
                "points; nothing was written (--float32 ships the weights as they are)"
            )
        kept.metadata = _metadata(kept.metadata, report)
        folder = kept.save(Path(aside) / "out" / name, half=half)
        write_json(folder / "card.json", _facts(run, kept, as_trained, report, half))
        (folder / "README.md").write_text(card(folder, record), encoding="utf-8")
        others = [path for path in weights.glob("*/*") if path.parent.name != name]
        if (total := sum(path.stat().st_size for path in (*others, *folder.iterdir()))) > MAX_BYTES:
            raise ValueError(f"with {name} the weights would take {total:,} bytes, and {MAX_BYTES:,} may ship; nothing was written")
        shutil.rmtree(weights / name, ignore_errors=True)
        shutil.copytree(folder, weights / name)
    return weights / name


def read_record(name: str) -> dict[str, Any]:
    """What record.py wrote.

    Raises:
        ValueError: there is no such record.
    """
    path = RESULTS / f"{name}.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing; record the run first: python benchmarks/records/record.py {name} --runs DIR --kept")
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def _metadata(metadata: dict[str, Any], report: torchnin.Report) -> dict[str, Any]:
    """What travels with the weights: without the places and notes of the machine that trained them."""
    data = metadata["data"]
    # A dataset is found again by its name; its home stands where a folder stood.
    data = {**data, "source": torchnin.data.CATALOG[data["name"]].home, "notes": []}
    return {**metadata, "data": data, "test_accuracy": report.accuracy, "test_accuracy_interval": list(report.accuracy_interval)}


def _facts(
    run: torchnin.Run, classifier: torchnin.Classifier, as_trained: torchnin.Report, report: torchnin.Report, half: bool
) -> dict[str, Any]:
    """What the model card is made from, beside the record and the classifier's own configuration."""
    dataset = torchnin.data.CATALOG[classifier.metadata["data"]["name"]]
    sample = {}
    if dataset.name.startswith("fashion-mnist"):
        # Its test pictures are a part of the full set's test pictures, so no training has seen them.
        found = classifier.evaluate(torchnin.load_dataset("fashion-mnist-sample").test)
        sample = {"sample": {"data": "fashion-mnist-sample", "num_pictures": found.num_pictures, "accuracy": found.accuracy}}
    return {
        "shipped": datetime.now(UTC).date().isoformat(),
        "seed": run.result["seed"],
        "stored": "float16" if half else "float32",
        "num_bytes_as_trained": (run.path / "classifier" / "model.safetensors").stat().st_size,
        "as_trained": {"accuracy": as_trained.accuracy, "loss": as_trained.loss},
        "answers_changed": int((as_trained.predictions != report.predictions).sum()),
        "largest_change_of_confidence": float((as_trained.confidences - report.confidences).abs().max()),
        "test": report.to_dict(),
        **sample,
    }


def cards(weights: Path = WEIGHTS) -> dict[Path, str]:
    """The model card of each classifier that ships, as it should be, by its file."""
    return {path.parent / "README.md": card(path.parent, read_record(path.parent.name)) for path in sorted(weights.glob("*/card.json"))}


def main() -> None:
    """Ship a run, or write the model cards."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="a finished run folder")
    parser.add_argument("--name", help="the weights' name, which is that of their record")
    parser.add_argument("--data-dir", type=Path, help="where to look for the data first")
    parser.add_argument("--float32", action="store_true", help="store the weights as they are")
    parser.add_argument("--cards", action="store_true", help="write the model cards anew")
    parser.add_argument("--check", action="store_true", help="with --cards: write nothing, fail where one is not up to date")
    options = parser.parse_args()
    if options.cards:
        for path, wanted in cards().items():
            if options.check and path.read_text(encoding="utf-8") != wanted:
                sys.exit(f"{path.parent.name}: its model card is not what the records say; run python benchmarks/records/ship.py --cards")
            if not options.check:
                path.write_text(wanted, encoding="utf-8")
        return
    if options.run is None or options.name is None:
        parser.error("give a run folder and --name, or --cards")
    try:
        folder = ship(torchnin.Run(options.run), options.name, half=not options.float32, data_dir=options.data_dir)
    except ValueError as error:
        sys.exit(str(error))
    print(f"{folder}: {sum(path.stat().st_size for path in folder.iterdir()):,} bytes; read its README.md before it is committed")


if __name__ == "__main__":
    main()
