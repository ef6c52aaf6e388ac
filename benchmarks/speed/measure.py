"""How fast torchnin trains, evaluates and predicts, beside the notebooks' way, plain PyTorch, and what the machine allows.

    python benchmarks/speed/measure.py                          every row of every network, and the picture; about half an hour on two cores
    python benchmarks/speed/measure.py nin_d2l --rows step      one network, one row; what was measured before stays in the results
    python benchmarks/speed/measure.py --dtype float32          in float32 where bfloat16 would be faster
    python benchmarks/speed/measure.py --device cuda            on a GPU
    python benchmarks/speed/measure.py --quick                  small batches, two rounds, nothing written: does it run?
    python benchmarks/speed/measure.py --show                   the table and the picture of the recorded results

Each way runs in a process of its own (ways.py says what it does). They take turns, round after round, and so do the probes of the machine's
best rates, from which the bound is computed (bound.py); medians of the rounds, with the least and the most. Writes
results/DEVICE-DTYPE.json, by what torchnin computes in there: cpu-float32.json, cpu-bfloat16.json; with `--dtype` results/asked/ has it.
"""

import argparse
import dataclasses
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE.parent))  # conditions.py

from ways import CASES, THROUGHPUT, Case, case_of  # noqa: E402

ROWS = ("step", "epoch", "evaluate", "latency", "throughput", "start", "memory")
TIMED = ("step", "epoch", "evaluate", "latency", "throughput")
# How often in one turn: what takes milliseconds is repeated, and a step follows a step, as in a training.
REPEAT = {"cpu": {"step": 5, "latency": 20}, "cuda": {"step": 50, "latency": 200, "throughput": 20}}


class Process:
    """A way, waiting for its turns."""

    def __init__(self, way: str, case: str, device: str, dtype: str, quick: bool) -> None:
        # The notebooks' user sets nothing, so the ways set for themselves what they do set.
        env = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
        self.way = way
        self.repeat = REPEAT.get(device.partition(":")[0], {})
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "ways.py"), way, case, device, dtype, "quick" if quick else "whole"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env,
        )  # fmt: skip
        self.first = self.answer()

    def answer(self) -> dict[str, Any]:
        """One line of its output."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"the process of {self.way} ended with code {self.process.wait()}")
        return json.loads(line)

    def ask(self, what: str) -> dict[str, Any]:
        """What it answers to one line of its input."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {self.repeat.get(what, 1)}\n")
        self.process.stdin.flush()
        return self.answer()

    def turn(self, row: str) -> float:
        """Seconds that one turn took; bytes of memory at most."""
        answer = self.ask(row)
        return answer.get("seconds", answer.get("bytes"))

    def end(self) -> None:
        """Let it go."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def check_same(case: Case, processes: list[Process]) -> float:
    """That all ways have the same network, data and batch; the largest difference between their logits."""
    import torch

    worst = 0.0
    reference = processes[0].first
    logits = torch.tensor(processes[0].ask("logits")["logits"])
    for process in processes[1:]:
        for key in ("parameters", "batch", "threads"):
            if process.first[key] != reference[key]:
                raise SystemExit(f"{process.way} has {process.first[key]} {key}, {processes[0].way} {reference[key]}")
        if process.way != "nin train":  # which normalises its pictures
            one = torch.tensor(process.ask("logits")["logits"])
            worst = max(worst, float((one - logits).abs().max() / logits.abs().max()))
    # Pillow rounds resized pixels to 256 levels, and bfloat16 has 8 bits.
    if worst > 0.02:
        raise SystemExit(f"{case.network}: the ways' logits differ by {worst:.3f} of the largest")
    return worst


def of_rounds(values: list[float]) -> dict[str, Any]:
    """Median, least and most."""
    return {"median": statistics.median(values), "low": min(values), "high": max(values), "rounds": len(values)}


def measure(name: str, rows: list[str], device: str, dtype: str, rounds: int, quick: bool) -> Iterator[dict[str, Any]]:
    """The asked rows of one case, one after the other, so that what is measured is kept whatever ends the rest."""
    import torch
    from bound import Probe, bound, forward_and_backward

    import torchnin

    case = case_of(name, device, dtype, quick=quick)
    choice = torchnin.choose_device(device, dtype)
    probe = Probe(choice.device, choice.dtype)
    network = torchnin.create_model(case.network)
    forward, backward = forward_and_backward(network, torch.empty(case.batch, 1, case.size, case.size))
    alone, _ = forward_and_backward(network, torch.empty(1, 1, case.size, case.size))

    def row(name: str, found: dict[str, Any]) -> dict[str, Any]:
        if probe.found and name in TIMED:
            rates = probe.best()
            step = bound(forward, rates, choice.dtype) + bound(backward, rates, choice.dtype)
            one = bound(forward, rates, torch.float32) / case.batch
            least = {
                "step": step,
                "epoch": step * case.epoch_batches,
                "evaluate": one * case.evaluated,
                "latency": bound(alone, rates, torch.float32),
                "throughput": one * THROUGHPUT,
            }
            found = {**found, "bound": {"median": least[name]}, "rates": rates.to_dict(), "probes": probe.spread()}
        return {
            "case": dataclasses.asdict(case),
            "largest_logit_difference": difference,
            "rows": {name: {**found, "measured": conditions(device, dtype)}} if name in rows else {},
        }

    processes = [Process(way, name, device, dtype, quick) for way in case.ways]
    difference = check_same(case, processes)
    for timed in TIMED:
        if timed not in rows:
            continue
        seconds: dict[str, list[float]] = {way: [] for way in case.ways}
        for number in range(rounds + 1):
            for process in processes:
                took = process.turn(timed)
                if number:  # the first round warms up
                    seconds[process.way].append(took)
            probe.measure()
        yield row(timed, {way: of_rounds(values) for way, values in seconds.items()})
    for process in processes:
        process.end()
    if "memory" in rows:
        peaks: dict[str, list[float]] = {way: [] for way in case.ways}
        for _ in range(rounds):
            for way in case.ways:
                process = Process(way, name, device, dtype, quick)  # that has done nothing but train
                for _ in range(3):
                    process.turn("step")
                peaks[way].append(process.turn("peak"))
                process.end()
        yield row("memory", {way: of_rounds(values) for way, values in peaks.items()})
    if "start" in rows:
        starts: dict[str, list[float]] = {way: [] for way in case.ways}
        for number in range(rounds + 1):
            for way in case.ways:
                process = Process(way, name, device, dtype, quick)
                if number:  # the first reads the files from the disk
                    starts[way].append(process.first["ready"])
                process.end()
        yield row("start", {way: of_rounds(values) for way, values in starts.items()})


def conditions(device: str, dtype: str = "auto") -> dict[str, Any]:
    """Date, load and machine of a row."""
    import torch

    from conditions import computes, machine

    gpu = {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda} if device != "cpu" else {}
    when = {"date": datetime.now(UTC).date().isoformat(), "load": round(os.getloadavg()[0], 1)}
    return {**when, **machine("numpy", "pillow", "safetensors"), "computes": computes(device, dtype), **gpu}


def computed_in(device: str, dtype: str = "auto") -> str:
    """What torchnin computes in on a device of this machine, as the names of results and pictures have it: `cpu-bfloat16`."""
    import torchnin

    return f"{device.partition(':')[0]}-{torchnin.choose_device(device, dtype).to_dict()['dtype']}"


def main() -> None:
    """Measure what was asked for, write it, show it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", help=f"which of {', '.join(CASES)}; all where none is named")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("auto", "float32", "bfloat16"), default="auto", help="in which torchnin trains")
    parser.add_argument("--quick", action="store_true", help="small batches and two rounds, nothing written")
    parser.add_argument("--show", action="store_true", help="the table and the picture of what is recorded")
    options = parser.parse_args()
    if unknown := set(options.networks) - set(CASES):
        parser.error(f"no network {', '.join(unknown)}; there are {', '.join(CASES)}")
    from show import draw, table

    if options.show:
        for path in sorted((HERE / "results").glob("c*-*.json")):
            document = json.loads(path.read_text(encoding="utf-8"))
            print(f"{path.stem}\n{table(document)}\n")
            draw(document, picture_of(path.stem))
        return
    computed = computed_in(options.device, options.dtype)
    asked = options.dtype != "auto"
    path = HERE / "results" / ("asked" if asked else "") / f"{computed}.json"
    document = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    for name in options.networks or CASES:
        rounds = 2 if options.quick else options.rounds
        for measured in measure(name, options.rows, options.device, options.dtype, rounds, options.quick):
            before = document.get(name, {}).get("rows", {})
            document[name] = {**measured, "rows": {**before, **measured["rows"]}}
            if not options.quick:
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
            print(table({name: measured}), flush=True)
    print(table(document))
    if not options.quick and not asked:
        draw(document, picture_of(computed))


def picture_of(computed: str) -> Path:
    """Where the picture of recorded speeds lies; `computed`: as `computed_in` has it."""
    return HERE.parents[1] / "docs" / "pictures" / f"speed-{computed.removeprefix('cpu-')}.png"


if __name__ == "__main__":
    main()
