"""How fast `nin serve` answers beside `Classifier.predict`, whether every answer is right, and whether its memory stays flat.

    python benchmarks/serve/measure.py speed CLASSIFIER        wrk with 1, 8 and 64 connections, predict before and after each
    python benchmarks/serve/measure.py answers CLASSIFIER      100,000 requests on 64 connections, each answer compared to predict's
    python benchmarks/serve/measure.py memory CLASSIFIER       what one process that looks holds, after every size of batch and after many

Needs wrk (apt install wrk) and Linux. CLASSIFIER is a run folder; the pictures are 1,000 of Fashion-MNIST's test pictures
as PNG files. Both sides get the encoded files: `predict` a list of their bytes, in batches as it makes them itself, on all cores; the
service one file a request, and again in forms of several files. So decoding counts on both sides; HTTP, JSON and the
load tool only on the service's. All of it shares the same cores, wrk included; its processor time is recorded, so that one can
see what it takes away. Connections that wait for each answer before they ask again never have more pictures on their way than there
are connections, so `predict` is also measured with as many at a time.

CLASSIFIER may be of any network; only the pictures are Fashion-MNIST's. One that takes long over a picture needs fewer of them:
`--pictures 64`.

Writes `results/speed.json`, `results/answers.json` and `results/memory.json` for `nin_small`; for another network its name stands in
the file's, as in `speed-nin_d2l.json`, and for pictures of another size than its own that too, as in `speed-nin_d2l-112.json`.
"""

import argparse
import asyncio
import io
import json
import os
import random
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from running import Connection, record, running

import torchnin
from torchnin.commands.process import set_up_process
from torchnin.web.looker import Looker, Task

PICTURES = 1000
CONNECTIONS = (1, 8, 64)
FORMS = {1: 64, 8: 64, 64: 8}  # pictures in a form, by connections: no more at once than may wait
# Its name, connections, pictures a request.
WAYS = (
    *((str(connections), connections, 1) for connections in CONNECTIONS),
    *((f"{connections}, forms of {size}", connections, size) for connections, size in FORMS.items()),
)
SCRIPT = Path(__file__).parent / "post.lua"


def files(count: int = PICTURES) -> list[bytes]:
    """The first test pictures of the sample of Fashion-MNIST, as PNG files."""
    pictures = torchnin.load_dataset("fashion-mnist-sample").test.images[:count, 0]
    kept = [io.BytesIO() for _ in pictures]
    for picture, file in zip(pictures, kept, strict=True):
        Image.fromarray(picture).save(file, "PNG")
    return [file.getvalue() for file in kept]


def form(pictures: list[bytes]) -> bytes:
    """A multipart body of some files."""
    head = b'--x\r\nContent-Disposition: form-data; name="picture"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    return b"".join(head + picture + b"\r\n" for picture in pictures) + b"--x--\r\n"


def write_bodies(folder: Path, pictures: list[bytes]) -> None:
    """The bodies of the requests, as wrk's script wants them: of single pictures, and of forms."""
    for size in {1, *FORMS.values()}:
        (folder / str(size)).mkdir()
        groups = [pictures[start : start + size] for start in range(0, len(pictures) - size + 1, size)]
        for number, group in enumerate(groups):
            (folder / str(size) / f"{number}.png").write_bytes(group[0] if size == 1 else form(group))


def predict_speed(classifier: Any, pictures: list[bytes], seconds: float, at_once: int | None = None) -> dict[str, float]:
    """Pictures per second and processor time per picture of `Classifier.predict` on the files, all or so many in each call."""
    at_once = min(at_once or PICTURES, len(pictures))
    groups = [pictures[start : start + at_once] for start in range(0, len(pictures) - at_once + 1, at_once)]
    count = 0
    begin, cpu = time.perf_counter(), time.process_time()
    while (passed := time.perf_counter() - begin) < seconds:
        classifier.predict(groups[count % len(groups)])
        count += 1
    return {"per_second": count * at_once / passed, "cpu_ms": (time.process_time() - cpu) / (count * at_once) * 1e3}


def children_cpu() -> float:
    """Processor seconds of the processes that were started and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def load(service: Any, folder: str, connections: int, seconds: int, count: int, size: int = 1) -> dict[str, Any]:
    """What wrk measures, with the processor time of the service and of wrk itself; times are of a request, the rest of a picture."""
    kind = "image/png" if size == 1 else "multipart/form-data; boundary=x"
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(SCRIPT), service.address, "--"]
    command += [f"{folder}/{size}", str(count // size), kind]
    before, cpu, own = service.metrics(), service.cpu_seconds(), children_cpu()
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = json.loads(next(line for line in out.splitlines() if line.startswith("RESULT ")).removeprefix("RESULT "))
    while (after := service.metrics())["nin_waiting_pictures"]:  # what wrk no longer waited for
        time.sleep(0.1)
    passes = after["nin_batch_pictures_count"] - before["nin_batch_pictures_count"]
    pictures = found["requests"] * size
    return {
        **found,
        "per_second": pictures / found["seconds"],
        "service_cpu_ms": (service.cpu_seconds() - cpu) / pictures * 1e3,
        "wrk_cpu_ms": (children_cpu() - own) / pictures * 1e3,
        "mean_batch": (after["nin_batch_pictures_sum"] - before["nin_batch_pictures_sum"]) / passes,
    }


def speed(name: str, rounds: int, seconds: int, count: int) -> dict[str, Any]:
    """Rounds of predict, then wrk with each number of connections; predict again at the end of a round."""
    pictures = files(count)
    classifier = torchnin.load(name)
    measured: dict[str, list[dict[str, Any]]] = {name: [] for name, _, _ in WAYS}
    with tempfile.TemporaryDirectory() as folder, running(name) as service:
        write_bodies(Path(folder), pictures)
        load(service, folder, 8, 2, count)
        predict_speed(classifier, pictures, 2)
        memory = [service.memory()]
        loads = [os.getloadavg()[0]]
        for _ in range(rounds):
            for way, connections, size in WAYS:
                before = predict_speed(classifier, pictures, seconds / 2)
                found = load(service, folder, connections, seconds, count, size)
                as_many = predict_speed(classifier, pictures, seconds / 2, connections * size)
                after = predict_speed(classifier, pictures, seconds / 2)
                predict = (before["per_second"] + after["per_second"]) / 2
                found |= {"predict_as_many_per_second": as_many["per_second"]}
                found |= {"share_of_as_many": found["per_second"] / as_many["per_second"]}
                found |= {"predict_per_second": predict, "predict_cpu_ms": (before["cpu_ms"] + after["cpu_ms"]) / 2}
                found |= {"share_of_predict": found["per_second"] / predict, "p99_over_median": found["p99_ms"] / found["median_ms"]}
                measured[way].append(found)
                print(way, {key: round(value, 3) for key, value in found.items()}, flush=True)
            memory.append(service.memory())
            loads.append(os.getloadavg()[0])
    medians = {way: {key: statistics.median(round_[key] for round_ in rounds_) for key in rounds_[0]} for way, rounds_ in measured.items()}
    return {
        "memory_mib": memory,
        "load_average": loads,
        "median_by_connections": medians,
        "rounds_by_connections": measured,
    }


def answers(name: str, count: int, connections: int, keep: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """So many requests, each answer compared to what `predict` says of the same file; memory at every tenth, and `keep` told so far."""
    pictures = files()
    expected = torchnin.load(name).predict(pictures)
    wrong: list[str] = []
    worst = 0.0
    memory: list[float] = []
    done = 0

    async def ask(service: Any, first: int) -> None:
        nonlocal worst, done
        connection = await Connection.to(service.port)
        for number in range(first, count, connections):
            right = expected[number % PICTURES]
            status, document = await connection.post(pictures[number % PICTURES])
            if status != 200 or document["label"] != right.label or list(document["probabilities"]) != list(right.probabilities):
                near = status == 200 and all(
                    abs(document["probabilities"][key] - right.probabilities[key]) < 1e-5 for key in right.probabilities
                )
                if not near:
                    wrong.append(f"{number}: {status} {document}")
            if status == 200:
                worst = max(worst, *(abs(document["probabilities"][key] - value) for key, value in right.probabilities.items()))
            done += 1
            if done % (count // 10) == 0:
                memory.append(service.memory())
                print(f"{done:,} answered, {len(wrong)} wrong, {memory[-1]:.1f} MiB", flush=True)
                keep(so_far())
        connection.close()

    def so_far() -> dict[str, Any]:
        return {
            "requests": count,
            "connections": connections,
            "answered": done,
            "wrong": len(wrong),
            "first_wrong": wrong[:5],
            "largest_difference_of_a_probability": worst,
            "memory_mib": memory,
            "seconds": time.perf_counter() - begin,
        }

    async def ask_all(service: Any) -> None:
        await asyncio.gather(*(ask(service, first) for first in range(connections)))

    with running(name) as service:
        begin = time.perf_counter()
        asyncio.run(ask_all(service))
        found = so_far()
        counted = service.metrics()['nin_requests_total{path="/v1/predict",status="200"}']
    return {**found, "counted_by_the_service": int(counted)}


def memory(name: str) -> dict[str, Any]:
    """Memory of a process that looks: oneDNN keeps what it prepared for each number of pictures at once, and nothing else stays."""
    torch.set_num_threads(1)
    pictures, draw = files(), random.Random(0)
    looker = Looker(torchnin.load(name), max_pixels=25_000_000)

    def look(sizes: Iterable[int]) -> float:
        for size in sizes:
            looker.look([Task("predict", picture) for picture in draw.choices(pictures, k=size)])
        kept = re.search(r"Anonymous:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text(encoding="utf-8"))
        assert kept is not None
        return int(kept[1]) / 1024

    sizes = range(1, 65)
    return {
        "after_the_first_mib": look([1]),
        "after_each_size_thrice_mib": look([*sizes] * 3),
        "after_each_300_more_of_random_sizes_mib": [look(draw.choices(sizes, k=300)) for _ in range(10)],
    }


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "answers", "memory"))
    parser.add_argument("classifier")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=6, help="of wrk in each round, for each number of connections")
    parser.add_argument(
        "--pictures", type=int, default=PICTURES, help="at least 64; fewer than 1,000 for a network that takes long over one"
    )
    parser.add_argument("--requests", type=int, default=100_000)
    options = parser.parse_args()
    set_up_process()  # predict runs with the settings that nin gives the service, too
    wrk = subprocess.run(["wrk", "-v"], capture_output=True, text=True, check=False).stdout.split("\n")[0].split(" [")[0]
    classifier = torchnin.load(options.classifier)
    network, size = classifier.metadata.get("name"), classifier.preprocessing.height
    head = {
        "command": f"python benchmarks/serve/measure.py {' '.join([options.what, 'RUN', *sys.argv[3:]])}",
        "network": network,
        "image_size": size,
        "num_macs": classifier.summarize().num_macs,
        "load_tool": {"speed": wrk, "answers": "the client in running.py", "memory": None}[options.what],
        "date": datetime.now(UTC).date().isoformat(),
    }

    def keep(document: dict[str, Any]) -> None:
        own = not network or torchnin.model_entry(network).config.image_size == size
        parts = [options.what, *([network] if network != "nin_small" or not own else []), *([] if own else [size])]
        record("-".join(map(str, parts)), {**head, **document})

    if options.what == "speed":
        keep({"seconds_each": options.seconds, **speed(options.classifier, options.rounds, options.seconds, options.pictures)})
    elif options.what == "memory":
        keep(memory(options.classifier))
    else:
        keep(answers(options.classifier, options.requests, 64, keep))


if __name__ == "__main__":
    main()
