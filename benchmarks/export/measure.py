"""How an exported classifier answers, how large it is and how fast, beside the classifier that it was made from.

    python benchmarks/export/measure.py --run runs/first                   every part; some minutes on two cores
    python benchmarks/export/measure.py --run runs/first --parts parity    one part

`--run` is a run of `nin train` on Fashion-MNIST. Each part writes `results/PART.json` with the machine and the versions:

parity    largest difference of a probability and of a class map, by size and number of the pictures (whole test pictures,
          stretched by Pillow)
networks  the same for every named network with weights at their start, by the export's own check
accuracy  float and 8-bit files on the 10,000 test pictures, and their sizes
speed     milliseconds of a call and of the processor, in turns: onnxruntime (float, 8 bits) and Classifier.predict on arrays
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import torchnin

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from conditions import computes, machine  # noqa: E402

SIZES = ((28, 28), (1, 2), (9, 15), (27, 29), (56, 56), (15, 63), (89, 9), (224, 224), (480, 640), (1201, 1603))
BATCHES = (1, 2, 7, 64)
BATCHES_OF_SPEED = (1, 8, 64, 256)
ROUNDS = 7
PARTS = ("parity", "networks", "accuracy", "speed")


def parity(classifier: torchnin.Classifier, exported: torchnin.ExportedClassifier, images: np.ndarray) -> dict[str, Any]:
    """Differences by size and number of pictures."""
    rows = []
    for height, width in SIZES:
        for batch in BATCHES if height * width < 1 << 17 else (1, 2):
            pictures = np.stack([np.asarray(Image.fromarray(one[0]).resize((width, height)))[None] for one in images[:batch]])
            predictions = classifier.predict([one.transpose(1, 2, 0) for one in pictures])
            expected = np.array([[one.probabilities[name] for name in classifier.class_names] for one in predictions])
            with torch.inference_mode():
                maps = classifier.network.class_maps(classifier.preprocessing(torch.from_numpy(pictures))).numpy()
            rows.append(
                {
                    "height": height,
                    "width": width,
                    "pictures": batch,
                    "probability": float(np.abs(exported.run(pictures) - expected).max()),
                    "class_map": float(np.abs(exported.class_maps(pictures) - maps).max() / np.abs(maps).max()),
                }
            )
    return {
        "largest_probability": max(row["probability"] for row in rows),
        "largest_class_map": max(row["class_map"] for row in rows),
        "by_size_and_batch": rows,
    }


def networks() -> dict[str, Any]:
    """Differences of every named network with weights at their start."""
    found = {}
    for name in torchnin.list_models():
        torch.manual_seed(0)
        config = torchnin.model_entry(name).config
        half = (0.5,) * config.in_channels
        preprocessing = torchnin.Preprocessing(
            channels=config.in_channels, height=config.image_size, width=config.image_size, mean=half, std=half
        )
        names = [f"class {number}" for number in range(config.num_classes)]
        with tempfile.TemporaryDirectory() as folder:
            made = torchnin.Classifier(torchnin.create_model(name), preprocessing, names, device="cpu")
            check = made.export_onnx(Path(folder) / "model.onnx").check
        found[name] = {"probability": check.largest_difference, "class_map": check.largest_map_difference}
    return {"largest_probability": max(each["probability"] for each in found.values()), "by_network": found}


def accuracy(classifier: torchnin.Classifier, folder: Path, data: torchnin.DatasetSplits) -> dict[str, Any]:
    """Both files on all test pictures."""
    report = classifier.evaluate(data.test)
    done = classifier.export_onnx(folder / "int8.onnx", int8=data, accept_accuracy_loss=True)
    found = done.to_dict()["int8"]
    kept = (
        "accuracy",
        "float_accuracy",
        "agreement",
        "largest_difference",
        "test_pictures",
        "calibration_pictures",
        "num_bytes",
        "float_num_bytes",
    )
    return {"evaluate_accuracy": report.accuracy, **{key: found[key] for key in kept}}


def speed(ways: dict[str, Callable[[np.ndarray], Any]], images: np.ndarray) -> dict[str, Any]:
    """All ways take turns; the median of the rounds. Processor seconds are those of all threads, and say more where others work too."""
    found = {}
    for batch in BATCHES_OF_SPEED:
        pictures, repeats = images[:batch], max(1, 64 // batch)
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
        for way in ways.values():
            way(pictures)
        for _ in range(ROUNDS):
            for name, way in ways.items():
                wall, processor = time.perf_counter(), time.process_time()
                for _ in range(repeats):
                    way(pictures)
                seconds[name].append(((time.perf_counter() - wall) / repeats, (time.process_time() - processor) / repeats))
        found[str(batch)] = {
            name: {
                "milliseconds": 1000 * statistics.median(wall for wall, _ in each),
                "processor_milliseconds": 1000 * statistics.median(processor for _, processor in each),
            }
            for name, each in seconds.items()
        }
    return {"rounds": ROUNDS, "threads": torch.get_num_threads(), "by_batch": found}


def main() -> None:
    """Measure the parts that were asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", required=True, type=Path, help="a run of nin train on Fashion-MNIST")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    classifier = torchnin.load(options.run, device="cpu")
    data = torchnin.load_dataset("fashion-mnist", download=False)
    result = torchnin.Run(options.run).result
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        plain = torchnin.ExportedClassifier(classifier.export_onnx(folder / "float.onnx").path)
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "parity": lambda: parity(classifier, plain, data.test.images),
            "networks": networks,
            "accuracy": lambda: accuracy(classifier, folder, data),
            "speed": lambda: speed(_ways(classifier, plain, folder, data), data.test.images),
        }
        for part in options.parts:
            load = os.getloadavg()[0]
            found = parts[part]()
            document = {
                "part": part,
                "command": f"python benchmarks/export/measure.py --run RUN --parts {part}",
                "run": {
                    "network": classifier.metadata.get("name"),
                    "seed": classifier.metadata.get("seed"),
                    "epochs": result.get("epochs"),
                },
                "date": datetime.now(UTC).date().isoformat(),
                "machine": {**machine("onnxruntime"), "computes": computes(), "load_before": load},
                **found,
            }
            (HERE / "results").mkdir(exist_ok=True)
            (HERE / "results" / f"{part}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
            print(json.dumps({key: value for key, value in found.items() if not isinstance(value, list)}, indent=2), flush=True)


def _ways(
    classifier: torchnin.Classifier, plain: torchnin.ExportedClassifier, folder: Path, data: torchnin.DatasetSplits
) -> dict[str, Callable[[np.ndarray], Any]]:
    small = torchnin.ExportedClassifier(classifier.export_onnx(folder / "int8.onnx", int8=data, accept_accuracy_loss=True).path)
    return {
        "Classifier.predict": classifier.predict,
        "onnxruntime, float32": plain.run,
        "onnxruntime, int8": small.run,
        "ExportedClassifier.predict": plain.predict,
    }


if __name__ == "__main__":
    main()
