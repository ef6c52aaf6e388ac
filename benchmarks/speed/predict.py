"""How long a prediction takes, beside eager and compiled PyTorch and onnxruntime with the same weights, and how soon the first one comes.

    python benchmarks/speed/predict.py                     every network; about eight minutes on two cores
    python benchmarks/speed/predict.py nin_small --parts networks
    python benchmarks/speed/predict.py --parts start       nin predict and nin --help as whole processes

networks  One process for each way, all with the same weights (drawn with seed 0, normalisation with the statistics of real pictures);
          they take turns, round after round. `single`: from the bytes of a PNG of the network's size to the class, with all cores and
          with one thread; `network`: the network alone on one normalised picture, one thread; `many`: seconds a picture from uint8
          arrays to probabilities. The rivals do no more than that: decode by Pillow, normalise, run, softmax. `predict` is
          Classifier.predict, errors, names and all; `predict by torch` the same without the extra `onnx`.
start     Whole processes in turns: `nin predict`, and a bare script that imports torch, loads the same weights and predicts the same
          picture.

Medians of the rounds with the least and the most; writes results/predict.json.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torchnin.commands.process import set_up_process

set_up_process()  # what `nin` sets for itself, before torch is imported, is set for the rivals too

import numpy as np  # noqa: E402
import torch  # noqa: E402
from PIL import Image  # noqa: E402
from torch import Tensor, nn  # noqa: E402

import torchnin  # noqa: E402

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from conditions import computes, machine  # noqa: E402

NETWORKS = ("nin_small", "nin_mnist", "nin_base", "nin_d2l")
WAYS = ("predict", "predict by torch", "eager", "compiled", "onnxruntime")
OURS = WAYS[:2]
ROWS = ("single", "single, one thread", "network, one thread", "many")
ROUNDS = 7
SECONDS_A_TURN = 0.25
MANY_PIXELS = 256 * 28 * 28  # at once in the row `many`: 256 pictures of 28 pixels, 16 of 224 at least
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

BARE = """
import sys
import numpy as np, torch
from PIL import Image
from safetensors.torch import load_file
from torchnin.models import create_model
network = create_model(sys.argv[1])
network.load_state_dict(load_file(sys.argv[2]))
network.eval()
pixels = torch.from_numpy(np.array(Image.open(sys.argv[3])))[None, None].float()
with torch.inference_mode():
    print(network((pixels / 255 - .2860) / .3530).softmax(1)[0].max())
"""


def make(name: str, folder: Path) -> None:
    """A classifier of that network, its weights drawn, its normalisation that of real pictures."""
    torch.manual_seed(0)
    config = torchnin.model_entry(name).config
    data = torchnin.load_dataset("fashion-mnist-sample", image_size=config.image_size)
    p = torchnin.Preprocessing.of(data.train)
    network = torchnin.create_model(name)
    with torch.no_grad():
        for start in range(0, 128, 16):
            network.train()(p(torch.from_numpy(data.train.images[start : start + 16])))
    torchnin.Classifier(network, p, data.class_names, device="cpu").save(folder)


def png(size: int, number: int = 0) -> bytes:
    """A test picture, at a size."""
    file = io.BytesIO()
    Image.fromarray(torchnin.load_dataset("fashion-mnist-sample").test.images[number, 0]).resize((size, size)).save(file, "png")
    return file.getvalue()


class Way:
    """One way to predict: a picture from its bytes, many from arrays, the network alone."""

    def __init__(self, way: str, folder: Path) -> None:
        self.classifier = torchnin.load(folder, device="cpu", backend="auto" if way == "predict" else "torch")
        self.p = self.classifier.preprocessing
        self.factor, self.offset = (values.numpy().reshape(1, -1, 1, 1) for values in self.p.factor_and_offset())
        self.way = way
        self.sessions: dict[int, Any] = {}
        # Ours is not asked for, as by a user who loads a classifier and predicts: from then on predictions look at its weights each time.
        network = None if way in OURS else self.classifier.network
        self.network = torch.compile(network, dynamic=False) if way == "compiled" else network
        if way == "onnxruntime":
            self.file = folder / "plain.onnx"

    def with_threads(self, threads: int) -> None:
        torch.set_num_threads(threads)
        if self.way == "onnxruntime" and threads not in self.sessions:
            import onnxruntime

            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = threads
            self.sessions[threads] = onnxruntime.InferenceSession(self.file, options, providers=["CPUExecutionProvider"])
        self.session = self.sessions.get(threads)

    def from_arrays(self, images: np.ndarray) -> Any:
        if self.way in OURS:
            return self.classifier.predict(images)
        if self.way == "onnxruntime":
            return self.session.run(None, {"normalised": images.astype(np.float32) * self.factor + self.offset})[0].tolist()
        with torch.inference_mode():
            return self.network(self.normalised(images)).softmax(1).tolist()

    def from_bytes(self, file: bytes) -> str:
        if self.way in OURS:
            return self.classifier.predict(file).label
        rows = self.from_arrays(np.array(Image.open(io.BytesIO(file)).convert("L"))[None, None])
        return self.classifier.class_names[int(np.argmax(rows[0]))]

    def normalised(self, images: np.ndarray) -> Tensor:
        pixels = (
            torch.from_numpy(np.ascontiguousarray(images)).float().mul_(torch.from_numpy(self.factor)).add_(torch.from_numpy(self.offset))
        )
        return pixels.contiguous(memory_format=torch.channels_last)

    def alone(self, images: np.ndarray) -> Callable[[], Any]:
        """The network on one prepared picture."""
        inputs = self.normalised(images)
        if self.way == "onnxruntime":
            array = inputs.contiguous().numpy()
            return lambda: self.session.run(None, {"normalised": array})
        network, onnx = self.classifier._for_prediction() if self.way in OURS else (self.network, None)
        if onnx is not None and onnx.is_faster(1):
            pixels = torch.from_numpy(images).float()
            return lambda: onnx(pixels)

        def run() -> Any:
            with torch.inference_mode():
                return network(inputs)

        return run


def serve(way_name: str, folder: Path, size: int) -> None:
    """The process of one way: takes the name of a row, answers with seconds a picture."""
    way = Way(way_name, folder)
    count = max(16, MANY_PIXELS // (size * size))
    images = torchnin.load_dataset("fashion-mnist-sample", image_size=size).test.images[:count]
    file = png(size)
    alone = None
    for line in sys.stdin:
        row = line.strip()
        way.with_threads(1 if "one thread" in row else CORES)
        alone = alone or way.alone(images[:1])
        work: Callable[[], Any] = {"many": lambda: way.from_arrays(images), "network, one thread": alone}.get(
            row, lambda: way.from_bytes(file)
        )
        work()
        begun, calls = time.perf_counter(), 0
        while calls == 0 or time.perf_counter() - begun < SECONDS_A_TURN:
            work()
            calls += 1
        print((time.perf_counter() - begun) / calls / (len(images) if row == "many" else 1), flush=True)


def export_plain(folder: Path) -> None:
    """The network and a softmax, as torch exports them."""

    class Answers(nn.Module):
        def __init__(self, network: nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, pixels: Tensor) -> Tensor:
            return self.network(pixels).softmax(1)

    classifier = torchnin.load(folder, device="cpu")
    p = classifier.preprocessing
    network = Answers(classifier.network.to(memory_format=torch.contiguous_format)).eval()
    example = torch.zeros(2, p.channels, p.height, p.width)
    torch.onnx.export(
        network, (example,), folder / "plain.onnx", dynamo=True, dynamic_shapes=({0: "n"},), input_names=["normalised"], opset_version=18,
        verbose=False,
    )  # fmt: skip


def network_rows(name: str, ways: list[str]) -> dict[str, Any]:
    """All rows of one network."""
    size = torchnin.model_entry(name).config.image_size
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make(name, folder)
        if "onnxruntime" in ways:
            export_plain(folder)
        command = [sys.executable, str(HERE / "predict.py"), "--serve"]
        processes = {
            way: subprocess.Popen([*command, way, str(folder), str(size)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            for way in ways
        }

        def turn(way: str, row: str) -> float:
            process = processes[way]
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(row + "\n")
            process.stdin.flush()
            return float(process.stdout.readline())

        for way in ways:  # compiled, packed and warm
            for row in ROWS:
                turn(way, row)
        seconds = {row: {way: [] for way in ways} for row in ROWS}
        for _ in range(ROUNDS):
            for row in ROWS:
                for way in ways:
                    seconds[row][way].append(turn(way, row))
        for process in processes.values():
            process.communicate()
    found: dict[str, Any] = {}
    for row, by_way in seconds.items():
        found[row] = {way: summary(each) for way, each in by_way.items()}
        rivals = [each["median"] for way, each in found[row].items() if way not in OURS]
        if "predict" in by_way and rivals:
            # The same round's times belong together: what else ran then, ran for all.
            ratios = [min(by_way[way][n] for way in ways if way not in OURS) / by_way["predict"][n] for n in range(ROUNDS)]
            found[row]["speed beside the best rival"] = {"of medians": min(rivals) / found[row]["predict"]["median"], **summary(ratios)}
        print(name, row, {way: f"{1000 * each['median']:.3f} ms" for way, each in found[row].items() if way in ways}, flush=True)
    return found


def start() -> dict[str, Any]:
    """Whole processes."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make("nin_small", folder / "classifier")
        (folder / "one.png").write_bytes(png(28))
        (folder / "bare.py").write_text(BARE)
        picture = str(folder / "one.png")
        commands = {
            "nin predict": [sys.executable, "-m", "torchnin", "predict", str(folder / "classifier"), picture],
            "bare script": [
                sys.executable,
                str(folder / "bare.py"),
                "nin_small",
                str(folder / "classifier" / "model.safetensors"),
                picture,
            ],
            "nin --help": [sys.executable, "-m", "torchnin", "--help"],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for number in range(ROUNDS + 1):
            for name, command in commands.items():
                begun = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                if number:  # the first brings the files into memory
                    seconds[name].append(time.perf_counter() - begun)
    ratios = [mine / bare for mine, bare in zip(seconds["nin predict"], seconds["bare script"], strict=True)]
    found = {**{name: summary(each) for name, each in seconds.items()}, "nin predict beside the bare script": summary(ratios)}
    print({name: f"{each['median']:.3f}" for name, each in found.items()}, flush=True)
    return found


def summary(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def main() -> None:
    """Measure what was asked for; what was measured before stays."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"by default {' '.join(NETWORKS)}")
    parser.add_argument("--parts", nargs="+", choices=("networks", "start"), default=("networks", "start"))
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--quick", action="store_true", help="write nothing")
    parser.add_argument("--serve", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        way, folder, size = options.serve
        serve(way, Path(folder), int(size))
        return

    path = HERE / "results" / "predict.json"
    document: dict[str, Any] = (
        json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {"command": "python benchmarks/speed/predict.py"}
    )

    def record(place: dict[str, Any], key: str, measure: Callable[[], dict[str, Any]]) -> None:
        load = os.getloadavg()[0]
        found = measure()
        when = {"date": datetime.now(UTC).date().isoformat(), "load_before": load, "rounds": ROUNDS}
        place[key] = {**when, "machine": {**machine("onnxruntime"), "computes": computes()}, "rows": found}
        if not options.quick:
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")

    if "start" in options.parts:
        record(document, "start", start)
    if "networks" in options.parts:
        for name in options.networks or NETWORKS:
            record(document.setdefault("networks", {}), name, lambda name=name: network_rows(name, options.ways))


if __name__ == "__main__":
    main()
