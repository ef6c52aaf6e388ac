"""Commands of `nin` begun to be killed, or to meet a failing disk: each a life of which is known where among its writes it ended.

The calls that change files are counted by `interpose.c`, which is compiled here and preloaded. A life is either the real command in a
process of its own, or a child forked from this process when torch and torchnin are imported already: the same `main()`, two seconds
earlier. For the second kind this process itself has to run under the preloaded library: `under_interposer()`.
"""

import contextlib
import csv
import dataclasses
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
_PATIENCE = 1800.0
# What a file of a run, a study, a download or an export is called in the records.
_PLACES = (
    (r"checkpoint/step-\d+\.safetensors", "checkpoint's tensors"),
    (r"checkpoint/step-\d+\.json", "checkpoint's JSON"),
    (r"checkpoint/config\.json", "copy of config.json"),
    (r"classifier/model\.safetensors", "classifier's weights"),
    (r"classifier/config\.json", "classifier's config.json"),
    (r"curves", "curves.png"),
    (r"\.onnx", "exported file"),
    (r"(config\.json|metrics\.jsonl|result\.json|summary\.json|model\.safetensors)", r"\1"),
    (r"(\.gz|\.part)(/|\.|$)", "download"),
)


def interposer(folder: Path) -> Path:
    """Compile `interpose.c` into a folder."""
    made = folder / "interpose.so"
    if not made.exists():
        aside = made.with_suffix(f".{os.getpid()}")
        command = ["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", str(aside), str(HERE / "interpose.c"), "-ldl"]
        subprocess.run(command, check=True)
        os.replace(aside, made)
    return made


def under_interposer(folder: Path) -> None:
    """Begin this program anew under the preloaded library, unless it runs under it."""
    if "interpose.so" not in os.environ.get("LD_PRELOAD", ""):
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}  # bits depend on their number, and a fork keeps one alone
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **threads, "LD_PRELOAD": str(interposer(folder))})


def imported() -> None:
    """Import what `nin train` imports as it goes, so that each child has it from its beginning."""
    import matplotlib.backends.backend_agg
    import matplotlib.figure  # noqa: F401
    import torch
    import tyro  # noqa: F401

    import torchnin.commands.datasets
    import torchnin.commands.export
    import torchnin.commands.train
    import torchnin.training  # noqa: F401

    torch.set_num_threads(1)


@dataclasses.dataclass(kw_only=True)
class Fate:
    """What is to become of a life. Without anything, it comes to its own end."""

    at: int = 0
    """Which of the counted calls, from 1."""
    do: str = ""
    """What happens at it: kill, half, fail, once; see interpose.c."""
    errno: int = 0
    """What a failing call says."""
    slow: int = 0
    """Microseconds that every counted call takes longer."""
    clock: str = ""
    """How the wall clock jumps."""
    signal: int = 0
    """What is sent from outside,"""
    after: float = 0.0
    """so many seconds after the beginning,"""
    when: Callable[[], bool] | None = None
    """or as soon as this holds."""

    def environment(self, below: Path, log: Path) -> dict[str, str]:
        given = {"AT": self.at, "DO": self.do, "ERRNO": self.errno, "SLOW": self.slow, "CLOCK": self.clock}
        values = {"FAULTS_BELOW": str(below), "FAULTS_LOG": str(log)}
        return values | {f"FAULTS_{name}": str(value) for name, value in given.items() if value}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Life:
    """How a command ended."""

    code: int
    """Its exit code; below 0, the signal that ended it."""
    out: str
    err: str
    calls: int
    """How many counted calls it began."""
    place: str
    """Where it was at its end: in which call on which file, or what it had last done."""
    inside: bool
    """Whether that is inside a call that changes files, or between the calls that write one checkpoint, classifier or document."""
    seconds: float


def live(
    argv: Sequence[object], fate: Fate, *, cwd: Path, below: Path | None = None, real: bool = False, every: float | None = None
) -> Life:
    """Run `nin ARGV` in a folder to its end, whatever that is.

    Args:
        argv: the command's arguments.
        fate: what becomes of it.
        cwd: the folder that it runs in; its writes below `below` (by default the same) are counted.
        below: the folder whose files matter.
        real: run `python -m torchnin` in a process of its own; else `main()` in a child of this one.
        every: seconds between two checkpoints within an epoch, in place of the sixty that `nin train` takes.
    """
    arguments = [str(argument) for argument in argv]
    if real:
        assert every is None

        def begin(settings: Mapping[str, str], out: Path, err: Path) -> int:
            environment = {name: value for name, value in os.environ.items() if not name.startswith("FAULTS_")}
            command = [sys.executable, "-m", "torchnin", *arguments]
            with out.open("wb") as stdout, err.open("wb") as stderr:
                return subprocess.Popen(command, env={**environment, **settings}, cwd=cwd, stdout=stdout, stderr=stderr).pid

        return _lived(begin, fate, cwd, below or cwd)

    def command() -> None:
        from torchnin.commands.main import main
        from torchnin.training import loop

        if every is not None:
            loop._CHECKPOINT_SECONDS = every
        sys.argv = ["nin", *arguments]
        main(arguments)

    return forked(command, fate, cwd=cwd, below=below)


def forked(work: Callable[[], object], fate: Fate, *, cwd: Path, below: Path | None = None) -> Life:
    """Do some work in a child of this process."""

    def begin(settings: Mapping[str, str], out: Path, err: Path) -> int:
        os.environ.update(settings)  # before the fork: the child's first counted call reads them
        pid = os.fork()
        if not pid:
            _worked(work, cwd, out, err)
        for name in settings:
            del os.environ[name]
        return pid

    return _lived(begin, fate, cwd, below or cwd)


def _lived(begin: Callable[[Mapping[str, str], Path, Path], int], fate: Fate, cwd: Path, below: Path) -> Life:
    log, out, err = (cwd.with_name(f"{cwd.name}.{name}") for name in ("log", "out", "err"))
    for path in (log, out, err):
        path.write_bytes(b"")
    since = time.monotonic()
    pid = begin(fate.environment(below, log), out, err)
    try:
        code = _followed(pid, fate, since)
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        raise
    calls, place, inside = where(log)
    seconds = time.monotonic() - since
    return Life(code=code, out=out.read_text(), err=err.read_text(), calls=calls, place=place, inside=inside, seconds=seconds)


def _worked(work: Callable[[], object], cwd: Path, out: Path, err: Path) -> NoReturn:
    """What the child does, ending as a program does."""
    code = 70
    try:
        os.chdir(cwd)
        for number, path in ((1, out), (2, err)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_TRUNC), number)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        work()
        code = 0
    except SystemExit as done:
        code = done.code if isinstance(done.code, int) else 0 if done.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _followed(pid: int, fate: Fate, since: float) -> int:
    """Wait for a child, and send it what it is to be sent."""
    sent = not fate.signal
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - since
        if not sent and (seconds >= fate.after if fate.when is None else fate.when()):
            os.kill(pid, fate.signal)
            sent = True
        if seconds > _PATIENCE:
            os.kill(pid, signal.SIGKILL)
            raise TimeoutError(f"a life did not end within {_PATIENCE:.0f} s")
        time.sleep(0.001 if sent else 0.0002)


def where(log: Path) -> tuple[int, str, bool]:
    """How many calls a life began, where it was in the end, and whether that is in the middle of writing something."""
    calls, last, open_call = 0, ("", ""), False
    for line in log.read_text().splitlines():
        kind, number, *rest = line.split(" ", 3)
        if kind == "b":
            calls, last, open_call = int(number), (rest[0], rest[1]), True
        elif kind == "e":
            open_call = False
    if not calls:
        return 0, "before its first write", False
    name = named(last[1])
    if open_call:
        return calls, f"in {last[0]}: {name}", True
    # A file that is written aside is not done before its new name, and a checkpoint not before its second file.
    writing = last[0] in ("open", "write", "fsync") or (
        last[0] == "rename" and name in ("checkpoint's tensors", "classifier's config.json")
    )
    return calls, f"after {last[0]}: {name}" if writing else "between writes", writing


def named(path: str) -> str:
    """What a path is, whatever its step and folder."""
    for pattern, name in _PLACES:
        if found := re.search(pattern, path):
            return found.expand(name)
    return "folder"


def digests(folder: Path, *, ignored: Sequence[str] = ()) -> dict[str, str]:
    """The SHA-256 of each file below a folder, with wall-clock figures left out of the documents that hold some."""
    found = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if not any(re.search(pattern, name) for pattern in ignored):
            found[name] = hashlib.sha256(timeless(path)).hexdigest()
    return found


# Excluded from comparisons: how long something took; the command line, which says --resume or not, and the state of the checkout, which may
# change while this runs; and the checksums over them.
_TIMES = {"seconds", "images_per_second", "epoch_seconds", "total_seconds", "command", "git_commit", "whole", "checksum"}


def timeless(path: Path) -> bytes:
    """A file's bytes; a JSON document's or a table's without what the clock decides, and without the checksums of those values."""
    data = path.read_bytes()
    if path.suffix == ".csv":
        return json.dumps(_without_times(list(csv.DictReader(data.decode().splitlines())))).encode()
    if path.suffix not in (".json", ".jsonl"):
        return data
    return "\n".join(json.dumps(_without_times(json.loads(line))) for line in _documents(path.suffix, data)).encode()


def _documents(suffix: str, data: bytes) -> list[bytes]:
    return data.splitlines() if suffix == ".jsonl" else [data]


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(inner) for key, inner in value.items() if key not in _TIMES}
    return [_without_times(inner) for inner in value] if isinstance(value, list) else value


def differences(ours: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """Which files are not the same, are missing, or are too many."""
    return sorted(name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name))


def spread(first: int, last: int, stride: int = 1) -> list[int]:
    """Every so manieth number, in an order in which the first few already lie all over."""
    numbers = range(first, last + 1, stride)
    return [number for start in range(5) for number in numbers[start::5]]


def chances(seed: int) -> Iterator[random.Random]:
    """A source of chance of its own for every life, so that a recorded one can be tried again."""
    number = 0
    while True:
        yield random.Random(f"{seed}/{number}")
        number += 1
