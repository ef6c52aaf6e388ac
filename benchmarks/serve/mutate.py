"""10,000 broken pictures posted to `nin serve`, while honest clients go on asking: no 500, no stall, the answers of `predict`.

    python benchmarks/serve/mutate.py CLASSIFIER

The files are those of `mutations.py` with seed 0: pictures of every kind with bits flipped, cut, overwritten, removed, repeated,
inserted, crossed, resized in the header, replaced by noise. Each is also given to `Classifier.predict`: what it refuses must be
refused with a 4xx and one sentence, what it answers must be answered alike (or be refused because its declared type or its
signature is wrong, or it is too large). Writes `results/mutations.json`.
"""

import argparse
import asyncio
import statistics
import time
from collections import Counter
from datetime import UTC, datetime
from typing import Any

from mutations import bad_ones, good_ones, mutated
from running import Connection, record, running

import torchnin

SEED = 0
CONNECTIONS = 8


def judge(status: int, document: Any, expected: Any) -> str | None:
    """What is wrong with an answer, or None."""
    if status != 200 and (list(document) != ["error"] or not 10 < len(document["error"]) < 400 or "\n" in document["error"]):
        return f"no sentence: {document}"
    if isinstance(expected, torchnin.DataError):
        return None if 400 <= status < 500 else f"{status} where predict refuses: {expected}"
    if status in (400, 413, 415):
        return None
    if status != 200:
        return f"{status} where predict answers {expected.label}: {document}"
    if max(abs(document["probabilities"][name] - value) for name, value in expected.probabilities.items()) > 1e-4:
        return f"{document} where predict answers {expected}"
    return None


def measure(name: str, count: int) -> dict[str, Any]:
    """Post them all, with two honest clients beside."""
    cases = [(why, file, declared) for why, (file, declared, _) in bad_ones().items()] + list(mutated(count, SEED))
    expected = list(torchnin.load(name).predict_or_error(file for _, file, _ in cases))
    honest_file = good_ones()["png-grey"]
    statuses: Counter[int] = Counter()
    wrong: list[str] = []
    seconds: list[float] = []
    waited: list[float] = []
    finished = asyncio.Event()

    async def attack(port: int, first: int) -> None:
        connection = await Connection.to(port)
        for place in range(first, len(cases), CONNECTIONS):
            why, file, declared = cases[place]
            begin = time.perf_counter()
            status, document = await connection.post(file, declared)
            seconds.append(time.perf_counter() - begin)
            statuses[status] += 1
            if (fault := judge(status, document, expected[place])) is not None:
                wrong.append(f"{place} ({why}, declared {declared}): {fault}")
        connection.close()

    async def ask(port: int) -> None:
        connection = await Connection.to(port)
        while not finished.is_set():
            begin = time.perf_counter()
            status, _ = await connection.post(honest_file)
            waited.append(time.perf_counter() - begin)
            if status != 200:
                wrong.append(f"an honest request was answered {status}")
            await asyncio.sleep(0.005)
        connection.close()

    async def everything(port: int) -> None:
        honest = [asyncio.create_task(ask(port)) for _ in range(2)]
        await asyncio.gather(*(attack(port, first) for first in range(CONNECTIONS)))
        finished.set()
        await asyncio.gather(*honest)

    with running(name) as service:
        before = service.memory()
        asyncio.run(everything(service.port))
        after = service.memory()
    return {
        "files": len(cases),
        "seed": SEED,
        "statuses": {str(status): number for status, number in sorted(statuses.items())},
        "wrong": len(wrong),
        "first_wrong": wrong[:5],
        "ms": {"median": statistics.median(seconds) * 1e3, "slowest": max(seconds) * 1e3},
        "honest": {"requests": len(waited), "median_ms": statistics.median(waited) * 1e3, "slowest_ms": max(waited) * 1e3},
        "memory_mib": {"before": before, "after": after},
    }


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("classifier")
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    found = measure(options.classifier, options.files)
    print({key: value for key, value in found.items() if key != "first_wrong"})
    print(*found["first_wrong"], sep="\n")
    head = {"command": "python benchmarks/serve/mutate.py RUN", "date": datetime.now(UTC).date().isoformat()}
    record("mutations", {**head, **found})


if __name__ == "__main__":
    main()
