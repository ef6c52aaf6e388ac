"""What grows with the size of the batch, of the picture and of the dataset: pictures per second and memory, learning and predicting.

    python benchmarks/speed/scaling.py                    everything; about six minutes on two cores, 2 GB of disk
    python benchmarks/speed/scaling.py --parts batch size
    python benchmarks/speed/scaling.py --scratch DIR      where the generated pictures lie (by default a temporary folder)

batch    nin_small at 28 pixels, 1 to 4,096 pictures at once
size     nin_small, 8 pictures at once of 28 to 512 pixels a side
dataset  nin_small at 28 pixels, 256 at once, in random order from 10,000 to a million pictures: the same arrays in memory, memory-mapped,
         and memory-mapped after the system has forgotten the file, in a process that may have 512 MiB more than it begins with
files    nin_small, PNG files of 28 pixels through Classifier.predict_or_error, beside the threads that decode alone

`learn` is preprocessing, forward, backward and the update of SGD over Batches; `predict` is Classifier.logits over Batches. Every row is a
process of its own; stores take turns, round after round. Memory is the peak of what is the process's own (pages of files, which the system
may take away at any time, are not), less what it had before it began. Writes results/scaling.json.
"""

import argparse
import ctypes
import itertools
import json
import mmap
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from torchnin.commands.process import set_up_process

set_up_process()  # as `nin` does, before torch is imported

import numpy as np  # noqa: E402
import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from PIL import Image  # noqa: E402

import torchnin  # noqa: E402
from torchnin.data import Batches  # noqa: E402
from torchnin.data.ahead import decode_ahead  # noqa: E402
from torchnin.training.optimisation import make_optimizers  # noqa: E402

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from conditions import computes, machine  # noqa: E402

BATCHES = (1, 4, 16, 64, 256, 1024, 4096)
SIZES = (28, 56, 112, 224, 512)
COUNTS = (10_000, 100_000, 1_000_000)
FILES = 10_000
STORES = ("memory", "mapped", "mapped, forgotten, 512 MiB")
WORKS = ("learn", "predict")
ROUNDS = 5
SECONDS = 0.6
BUDGET = 512 << 20
NAMES = tuple("abcdefghij")


class Peak:
    """The peak of the memory that is the process's own, above what it was at the beginning; bytes."""

    def __init__(self) -> None:
        ctypes.CDLL(None).malloc_trim(0)  # or what was freed before would be used again, and not seen
        self.before = self.most = self.own()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    @staticmethod
    def own() -> int:
        _, resident, shared, *_ = map(int, Path("/proc/self/statm").read_text().split())
        return (resident - shared) * os.sysconf("SC_PAGE_SIZE")

    def watch(self) -> None:
        while not self.done.wait(0.01):
            self.most = max(self.most, self.own())

    def end(self) -> int:
        self.done.set()
        self.thread.join()
        return self.most - self.before


def steps(dataset: torchnin.ImageDataset, work: str, batch_size: int) -> Iterator[int]:
    """Work through a dataset in random order, without end; the pictures of each step."""
    p = torchnin.Preprocessing(channels=1, height=dataset.image_size[0], width=dataset.image_size[1], mean=(0.286,), std=(0.353,))
    torch.manual_seed(0)
    network = torchnin.create_model("nin_small")
    classifier = torchnin.Classifier(network, p, NAMES, device="cpu")
    batches = Batches(dataset, batch_size=batch_size, device=torch.device("cpu"), seed=0)
    optimizers = make_optimizers(network.train(), torchnin.Recipe(optimizer="sgd", lr=1e-4))
    for epoch in itertools.count():
        for batch in batches.epoch(epoch):
            if work == "predict":
                classifier.logits(batch.pictures)
            else:
                for parameter in network.parameters():
                    parameter.grad = None
                F.cross_entropy(network(p(batch.pictures)), batch.labels).backward()
                for optimizer in optimizers:
                    optimizer.step()
            yield len(batch.labels)


def rate(work: Iterator[int], seconds: float = SECONDS) -> float:
    """Pictures per second, after two steps that are not counted."""
    for _ in range(2):
        next(work)
    begun, pictures = time.perf_counter(), 0
    while (passed := time.perf_counter() - begun) < seconds or not pictures:
        pictures += next(work)
    passed = time.perf_counter() - begun
    return pictures / passed


def in_memory(count: int, size: int) -> torchnin.ImageDataset:
    """Pictures of one size, without end the same ones."""
    few = torchnin.load_dataset("fashion-mnist-sample").test.images[: min(count, 1000)]
    times = -(-size // few.shape[-1])
    large = few.repeat(times, 2).repeat(times, 3)[:, :, :size, :size]
    return torchnin.ImageDataset(np.resize(large, (count, 1, size, size)), np.arange(count) % 10, NAMES)


def plain(work: str, batch_size: int, size: int) -> dict[str, float]:
    """A row of `batch` and `size`: the rounds are the process's own."""
    dataset = in_memory(max(2, 2 * batch_size), size)
    peak, endless = Peak(), steps(dataset, work, batch_size)
    rates = [rate(endless, SECONDS / 2) for _ in range(ROUNDS)]
    return {**summary(rates), "memory": peak.end()}


def splits_of(count: int, store: str, path: str) -> torchnin.ImageDataset:
    """The first pictures of a file, as load_dataset takes them."""
    images = np.load(path, mmap_mode="r")[:count]
    if store == "memory":
        images = np.array(images)
    few = in_memory(100, 28)
    return torchnin.load_dataset(((images, np.arange(count) % 10), (few.images, few.labels))).train


def in_turns(work: str, count: int, paths: dict[str, str]) -> dict[str, list[float]]:
    """Pictures per second of every store, round after round."""
    data = {store: splits_of(count, store, path) for store, path in paths.items()}
    endless = {store: steps(dataset, work, 256) for store, dataset in data.items()}
    rates: dict[str, list[float]] = {store: [] for store in paths}
    for _ in range(ROUNDS):
        for store, path in paths.items():
            if "forgotten" in store:
                forget(data[store].images, path)
            rates[store].append(rate(endless[store]))
    return rates


def forget(images: np.ndarray, path: str) -> None:
    """Have the system drop a mapped file's pages, from this process and from its own memory."""
    base: Any = images
    while not isinstance(base, mmap.mmap):
        base = base.base
    base.madvise(mmap.MADV_DONTNEED)
    with Path(path).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def within_budget(work: str, count: int, store: str, path: str) -> dict[str, float]:
    """Memory, and the time until the first step is done, in a fresh process."""
    peak = Peak()
    if store.endswith("MiB"):
        used = next(int(line.split()[1]) << 10 for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (used + BUDGET, resource.getrlimit(resource.RLIMIT_DATA)[1]))
    begun = time.perf_counter()
    endless = steps(splits_of(count, store, path), work, 256)
    next(endless)
    first = time.perf_counter() - begun
    for _ in range(8):
        next(endless)
    return {"seconds to the first step": first, "memory": peak.end()}


def files(folder: str) -> dict[str, Any]:
    """PNG files through predict_or_error, in turns with their decoding alone."""
    p = torchnin.Preprocessing(channels=1, height=28, width=28, mean=(0.286,), std=(0.353,))
    torch.manual_seed(0)
    classifier = torchnin.Classifier(torchnin.create_model("nin_small"), p, NAMES, device="cpu")
    paths = sorted(Path(folder).iterdir())
    peak = Peak()
    rates: dict[str, list[float]] = {"predict": [], "decode": []}
    for _ in range(ROUNDS):
        for way, stream in (("predict", classifier.predict_or_error(paths)), ("decode", decode_ahead(paths, classifier.decode, ahead=256))):
            begun = time.perf_counter()
            done = sum(1 for _ in stream)
            rates[way].append(done / (time.perf_counter() - begun))
    return {**{way: summary(each) for way, each in rates.items()}, "memory": peak.end(), "files": len(paths)}


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """A call in a process of its own."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(function, arguments)


def dataset_rows(scratch: Path, counts: list[int]) -> list[dict[str, Any]]:
    """Every store of every size; the stores take turns."""
    few = torchnin.load_dataset("fashion-mnist-sample").test.images
    paths = {store: str(scratch / f"pictures-{'forgotten' in store}.npy") for store in STORES}
    for path in set(paths.values()):
        written = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(max(counts), 1, 28, 28))
        for start in range(0, len(written), len(few)):
            written[start : start + len(few)] = few[: len(written) - start]
        written.flush()
        del written
    rows = []
    for count, work in itertools.product(counts, WORKS):
        rates = apart(in_turns, work, count, paths)
        for store, each in rates.items():
            beside = [one / other for one, other in zip(each, rates["memory"], strict=True)]
            row = {"work": work, "pictures": count, "store": store, **summary(each), "beside memory": summary(beside)}
            rows.append({**row, **apart(within_budget, work, count, store, paths[store])})
            print(rows[-1], flush=True)
    return rows


def file_rows(scratch: Path) -> dict[str, Any]:
    """The files are written first."""
    folder = scratch / "files"
    folder.mkdir(exist_ok=True)
    images = torchnin.load_dataset("fashion-mnist-sample").test.images[:, 0]
    for number in range(FILES):
        Image.fromarray(images[number % len(images)]).save(folder / f"{number}.png")
    return apart(files, str(folder))


def summary(values: list[float]) -> dict[str, float]:
    """Median, least and most."""
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def main() -> None:
    """Measure the parts that were asked for; the others stay as they were measured before."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("batch", "size", "dataset", "files")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--scratch", type=Path, help="a folder for the generated pictures, 2 GB")
    parser.add_argument("--counts", nargs="+", type=int, default=list(COUNTS), help="pictures of the part dataset")
    options = parser.parse_args()
    path = HERE / "results" / "scaling.json"
    with tempfile.TemporaryDirectory(dir=options.scratch) as temporary:
        scratch = Path(temporary)
        measure: dict[str, Callable[[], Any]] = {
            "batch": lambda: [{"work": w, "batch": n, **apart(plain, w, n, 28)} for n in BATCHES for w in WORKS if n > 1 or w == "predict"],
            "size": lambda: [{"work": w, "size": n, **apart(plain, w, 8, n)} for n in SIZES for w in WORKS],
            "dataset": lambda: dataset_rows(scratch, options.counts),
            "files": lambda: file_rows(scratch),
        }
        for part in options.parts:
            load = os.getloadavg()[0]
            found = measure[part]()
            # Read again each time, for another part may have been measured meanwhile.
            document: dict[str, Any] = {"command": "python benchmarks/speed/scaling.py"}
            if path.is_file():
                document = json.loads(path.read_text(encoding="utf-8"))
            conditions = {
                "date": datetime.now(UTC).date().isoformat(),
                "machine": {**machine(), "computes": computes()},
                "threads": torch.get_num_threads(),
            }
            document[part] = {**conditions, "load_before": load, "rows": found}
            path.parent.mkdir(exist_ok=True)
            path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
            print(json.dumps(found, indent=1), flush=True)


if __name__ == "__main__":
    main()
