"""Broken and hostile input for every reader and loader, guided by coverage.

    python benchmarks/faults/fuzz.py                     every target, 100,000 inputs each; some hours on one core
    python benchmarks/faults/fuzz.py idx npz --runs 1000

Needs Linux and atheris, which no extra brings: `pip install atheris`.

Each target of `fuzz_targets.py` (readers) and `fuzz_programs.py` (service, exported files, command lines) runs in a process of its own,
one thread, under a limit on its memory: libFuzzer (through atheris) starts from small whole files, changes them, and keeps what reaches
new code, the package's and Pillow's. A whole file gives a result; anything else has to end in an error of the package's own naming
(DataError, ValueError, TrainingError, or OSError from the system), within seconds. Every other exception is a finding: it is counted, its
input and traceback are kept, and the command fails.

`results/fuzz-TARGET.json` says how many inputs there were, what became of them, the code reached, the slowest input (seconds of
processor time) and the peak of the memory.
"""

import argparse
import collections
import hashlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
# What an input may take beyond what is there before the first one: a picture of the largest allowed size, several times over.
MEMORY_BYTES = 2 << 30
# Of processor time: the wall clock of a machine that others use too says nothing. What took longer is a finding.
TIMEOUT_SECONDS = 10.0


def fuzz_here(name: str, runs: int, seed: int, folder: Path) -> None:
    """Run one target in this process and write `stats.json` and findings into the folder; libFuzzer ends the process."""
    import atheris

    # Instrumented while they are imported: what is imported before stays dark.
    instrumented = ["torchnin", "PIL", "starlette", "python_multipart"]
    with atheris.instrument_imports(include=instrumented):
        from fuzz_programs import PROGRAMS
        from fuzz_targets import READERS

        target = (READERS | PROGRAMS)[name](folder)
    outcomes: collections.Counter[str] = collections.Counter()
    slowest: dict[str, Any] = {"cpu_seconds": 0.0}
    findings: dict[str, int] = {}
    before = peak_bytes()
    limit_memory()
    signal.signal(signal.SIGVTALRM, too_long)

    def one(data: bytes) -> None:
        started = time.process_time()
        signal.setitimer(signal.ITIMER_VIRTUAL, TIMEOUT_SECONDS)
        try:
            outcome = target.run(data)
        except target.errors as error:
            outcome = type(error).__name__
        except BaseException as error:
            outcome = f"finding: {type(error).__name__}"
            where = "".join(traceback.format_tb(error.__traceback__)[-2:])
            key = hashlib.sha256(f"{type(error)}{where}".encode()).hexdigest()[:12]
            if key not in findings:
                (folder / f"finding-{key}.bin").write_bytes(data)
                (folder / f"finding-{key}.txt").write_text(traceback.format_exc())
            findings[key] = findings.get(key, 0) + 1
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        seconds = time.process_time() - started
        outcomes[outcome] += 1
        if seconds > slowest["cpu_seconds"]:
            slowest.update(cpu_seconds=seconds, bytes=len(data), outcome=outcome)
            (folder / "slowest.bin").write_bytes(data)
        if (count := outcomes.total()) == runs or count % 5000 == 0:
            stats = {
                "inputs": count,
                "outcomes": dict(outcomes.most_common()),
                "findings": findings,
                "slowest": slowest,
                "peak_megabytes_added": round((peak_bytes() - before) / 2**20, 1),
            }
            (folder / "stats.json").write_text(json.dumps(stats))

    corpus = folder / "corpus"
    corpus.mkdir(exist_ok=True)
    for content in target.seeds:
        (corpus / hashlib.sha256(content).hexdigest()[:16]).write_bytes(content)
    words = folder / "words.dict"
    escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in target.words)
    words.write_text("".join(f'"{word}"\n' for word in escaped))
    options = [
        *(f"-runs={runs}", f"-seed={seed}", f"-max_len={target.max_len}", "-timeout=86400", "-rss_limit_mb=0"),
        "-report_slow_units=86400",  # by the clock, and into the folder that the target watches
        *("-len_control=0", "-print_final_stats=1", f"-artifact_prefix={folder}/", f"-dict={words}", str(corpus)),
    ]
    change = target.mutate
    mutator = {"custom_mutator": lambda data, most, seed: change(data, most, seed)[:most]} if change else {}
    atheris.Setup([sys.argv[0], *options], one, **mutator)
    atheris.Fuzz()


class TooLongError(BaseException):
    """An input took more than TIMEOUT_SECONDS."""


def too_long(*_: object) -> None:
    """Break into an input that takes too long."""
    raise TooLongError


def peak_bytes() -> int:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def limit_memory() -> None:
    """Let what comes from here on take no more than `MEMORY_BYTES`: beyond that Python raises MemoryError, which is a finding."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * os.sysconf("SC_PAGE_SIZE") + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def fuzz(name: str, runs: int, seed: int, keep: Path) -> dict[str, Any]:
    """Run one target in a process of its own; what it found is kept below `keep`."""
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as scratch:
        folder = Path(scratch)
        command = [sys.executable, __file__, "--child", name, "--runs", str(runs), "--seed", str(seed), "--scratch", scratch]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHNIN_HOME": f"{scratch}/home", "PATH": "", "PYTHONWARNINGS": "ignore"}
        environment["TORCHNIN_DATA_MIRROR"] = "http://127.0.0.1:9"
        started = time.monotonic()
        with (folder / "log").open("wb") as log:
            code = subprocess.run(command, stdout=log, stderr=log, check=False, env=environment, cwd=scratch).returncode
        log_text = (folder / "log").read_text(errors="replace")
        stats = json.loads((folder / "stats.json").read_text()) if (folder / "stats.json").is_file() else {"inputs": 0, "findings": {}}
        reached = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", log_text)
        for path in (*folder.glob("finding-*"), *folder.glob("crash-*"), *folder.glob("timeout-*"), *folder.glob("slowest.bin")):
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{name}-{path.name}").write_bytes(path.read_bytes())
        if code or stats["inputs"] < runs:
            keep.mkdir(parents=True, exist_ok=True)
            (keep / f"{name}-log.txt").write_text(log_text[-20_000:])
    cov, features, corpus = map(int, reached[-1]) if reached else (0, 0, 0)
    return {
        "target": name,
        **stats,
        "exit_code": code,
        "edges_covered": cov,
        "features": features,
        "corpus": corpus,
        "seed": seed,
        "seconds": round(time.monotonic() - started),
    }


def main() -> None:
    sys.path.append(str(HERE.parent))
    from fuzz_programs import PROGRAMS
    from fuzz_targets import READERS

    from conditions import machine

    targets = READERS | PROGRAMS
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", help=f"which, of {', '.join(targets)}; all by default")
    parser.add_argument("--runs", type=int, default=100_000, help="inputs a target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("fuzz-findings"), help="where inputs that show something are kept")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where what came of it is written")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--scratch", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        fuzz_here(given.child, given.runs, given.seed, given.scratch)
        return
    if unknown := set(given.targets) - targets.keys():
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(targets)}")
    bad = False
    for name in given.targets or targets:
        result = fuzz(name, given.runs, given.seed, given.keep)
        bad |= bool(result["findings"] or result["exit_code"] or result["inputs"] < given.runs)
        print(f"{name}: {json.dumps(result)}", flush=True)
        given.results.mkdir(parents=True, exist_ok=True)
        record = {**result, "measured": datetime.now(UTC).date().isoformat(), "machine": machine("numpy", "pillow", "safetensors")}
        (given.results / f"fuzz-{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    sys.exit(bad)


if __name__ == "__main__":
    main()
