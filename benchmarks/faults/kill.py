"""Trainings, studies, downloads, exports and saves, killed by SIGKILL at chance moments and inside their writes, and gone on with.

    python benchmarks/faults/kill.py                  every part; an hour or two on one core
    python benchmarks/faults/kill.py train --chains 2

Needs Linux and gcc. What is killed is the real command on real pictures: as `python -m torchnin` in a process of its own (part `command`),
else forked from a process that has imported torch already. The parts:

    sweep       a short training is killed at every single call that changes a file: before it, and again half-way through it
    train       chains: a training is killed, resumed, killed, ... until it comes to its end; checkpoints follow each other within steps
    command     the same through the real command line, with all 7,000 pictures of the sample
    seeds       `--seeds 3`, killed and resumed until the study is done
    two         two processes pointed at one run folder, one after the other, at once, and after a kill
    download    a named dataset from a slow server on this machine, killed and begun again until it is there
    export      `nin export` over an older file
    save        Classifier.save over an older classifier

A kill falls at a chosen call among those that change files (counted by interpose.c), before it or half-way through its bytes; or at a
chosen time, with every such call made slow in half of the lives, so that a good share falls inside writes. In the end everything that a
training leaves is compared with one that was never killed: the bytes of weights, optimiser state, running mean, monitor and thinning in
the last checkpoints, of the classifier and of curves.png; and all values of metrics.jsonl, result.json, config.json, summary.json, line
by line, but `seconds`, `images_per_second`, `epoch_seconds`, `total_seconds`, `command`, `git_commit` and the checksums
over these. After every kill: no checkpoint is broken, no document is half of one, no line is lost or doubled.

Writes `results/kill.json`. Exit code 1 where anything differed.
"""

import argparse
import collections
import contextlib
import dataclasses
import functools
import gzip
import http.server
import itertools
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lives import Fate, Life, chances, differences, digests, forked, imported, live, spread, under_interposer
from summary import begun, complain, today, write

RESULTS = Path(__file__).resolve().parent / "results"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
# Momentum, Muon, running mean, thinning, dropout, augmentation, clipping, held-out pictures: everything that draws or remembers.
OPTIONS = (
    *("--model", "nin_small", "--dropout", "0.3", "--lr", "0.05", "--ema-decay", "0.9", "--flip", "--shift", "2"),
    *("--erase", "0.5", "--clip-norm", "1", "--thinning", "0.5", "--validation", "0.1", "--device", "cpu"),
)


@dataclasses.dataclass
class Tally:
    """What happened in a part."""

    seed: int
    until: float = math.inf
    """When to begin nothing more, on the monotonic clock."""
    kills: int = 0
    inside: int = 0
    ends: int = 0
    places: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    wrong: list[str] = dataclasses.field(default_factory=list)
    figures: dict[str, Any] = dataclasses.field(default_factory=dict)

    def note(self, life: Life) -> bool:
        """Count a life; True where it was killed."""
        if life.code == -signal.SIGKILL:
            self.kills += 1
            self.inside += life.inside
            self.places[life.place] += 1
            return True
        self.ends += 1
        return False

    def expect(self, holds: bool, sentence: str) -> None:
        if not holds:
            self.wrong.append(sentence)
            complain(sentence)

    @property
    def late(self) -> bool:
        return time.monotonic() > self.until

    def same(self, ours: Path, theirs: Path, what: str) -> None:
        """Expect two folders to hold the same."""
        different = differences(digests(ours), digests(theirs))
        self.expect(not different, f"{what}: not as if never killed: {', '.join(different)}")
        self.figures["compared"] = self.figures.get("compared", 0) + 1

    def to_dict(self) -> dict[str, Any]:
        return {
            "seed": self.seed,
            "kills": self.kills,
            "inside_writes": self.inside,
            "came_to_their_end": self.ends,
            **self.figures,
            "wrong": self.wrong,
            "where": dict(self.places.most_common()),
        }


def pictures(folder: Path) -> Path:
    """A few hundred pictures of the sample as a file."""
    import numpy as np

    import torchnin

    sample = torchnin.load_dataset("fashion-mnist-sample")
    train, test = sample.train, sample.test
    path = folder / "pictures.npz"
    np.savez(path, x_train=train.images[:240], y_train=train.labels[:240], x_test=test.images[:100], y_test=test.labels[:100])
    return path


def chance_of(chance: random.Random, calls: int, seconds: float) -> Fate:
    """When a life is to be killed: at a call, or at a time."""
    if chance.random() < 0.5:
        return Fate(at=chance.randint(1, calls), do=chance.choice(("kill", "half")))
    slow = chance.choice((0, 20_000))
    return Fate(signal=signal.SIGKILL, after=chance.uniform(0, seconds), slow=slow)


def whole_documents(folder: Path, tally: Tally, what: str) -> None:
    """What a run folder holds after a kill can be read, and is whole."""
    from torchnin.training import Run
    from torchnin.training.checkpoint import read_checkpoint

    for run in (Run(path.parent) for path in folder.rglob("config.json") if path.parent.name not in ("classifier", "checkpoint")):
        try:
            config, sentence = run.read_config()
            checkpoint, broken = read_checkpoint(run.path / "checkpoint")
            tally.expect(sentence is None and not broken, f"{what}: {sentence} {broken}")
            tally.expect(config["recipe"]["ema_decay"] == 0.9, f"{what}: config.json is another")
            epochs = [row["epoch"] for row in run.metrics]
            tally.expect(epochs == list(range(1, len(epochs) + 1)), f"{what}: metrics.jsonl has the epochs {epochs}")
            learned = len(checkpoint.progress["rows"])
            tally.expect(0 <= learned - len(epochs) <= 1, f"{what}: {len(epochs)} lines for {learned} epochs")
            if run.finished:
                tally.expect(0 <= run.result["test_accuracy"] <= 1, f"{what}: result.json")
        except Exception as error:
            tally.expect(False, f"{what}: after a kill {error!r}")


def gone_on(command: Sequence[object], out: str, folder: Path) -> Sequence[object]:
    """What a user calls next: the command, or the way to go on once there is a configuration."""
    if not (folder / out / "config.json").exists():
        return command
    # What is to be done about a collapse is asked anew, as it is no part of the recipe.
    manner = command[command.index("--on-collapse") :][:2] if "--on-collapse" in command else ()
    return ("train", "--resume", "--out", out, *manner)


def train_command(data: Path | str, epochs: int, seed: int, *more: object) -> tuple[object, ...]:
    return ("train", data, "--num-epochs", epochs, "--seed", seed, "--out", "run", *OPTIONS, *(more or ("--batch-size", 32)))


def never_killed(argv: Sequence[object], folder: Path, tally: Tally, *, real: bool = False, every: float | None = None) -> Life:
    """The training that nothing disturbs."""
    folder.mkdir()
    life = live(argv, Fate(), cwd=folder, real=real, every=every)
    tally.expect(life.code == 0, f"{' '.join(map(str, argv))} ended with {life.code}: {life.err}")
    return life


def sweep(work: Path, tally: Tally, options: argparse.Namespace) -> None:
    """Every call that changes a file, before it and half-way through it."""
    command = train_command(pictures(work), 2, tally.seed)
    calls = never_killed(command, work / "whole", tally).calls
    keep_last(work / "whole" / "run")
    tally.figures["calls"] = calls
    for number in itertools.takewhile(lambda _: not tally.late, spread(options.first, calls, options.stride)):
        for do in ("kill", "half"):
            folder = work / f"{number}-{do}"
            folder.mkdir()
            life = live(command, Fate(at=number, do=do), cwd=folder)
            tally.expect(tally.note(life), f"call {number} was not reached: {life.code} {life.err}")
            whole_documents(folder, tally, f"call {number}, {do}")
            life = live(gone_on(command, "run", folder), Fate(), cwd=folder)
            tally.note(life)
            tally.expect(life.code == 0, f"call {number}, {do}: ended with {life.code}: {life.err}")
            keep_last(folder / "run")  # killed before the last one before it was taken away, there are three
            tally.same(folder / "run", work / "whole" / "run", f"call {number}, {do} ({life.place})")
            shutil.rmtree(folder)
        tally.figures["calls_tried"] = tally.figures.get("calls_tried", 0) + 1


def chain(command: Sequence[object], folder: Path, tally: Tally, draw: Callable[[random.Random], Fate], **how: Any) -> int:
    """Kill and go on until the command comes to its end; how many kills that took."""
    folder.mkdir()
    out, kills, chance = str(command[command.index("--out") + 1]), 0, chances(tally.seed * 1000 + tally.figures.get("compared", 0))
    study = "--seeds" in command
    while True:
        begun = (folder / out).is_dir() and any((folder / out).iterdir())
        argv = (*command, *(("--resume",) if begun else ())) if study else gone_on(command, out, folder)
        life = live(argv, draw(next(chance)), cwd=folder, **how)
        if not tally.note(life):
            tally.expect(life.code == 0, f"{folder.name}: ended with {life.code} after {kills} kills: {life.err}")
            return kills
        kills += 1
        whole_documents(folder, tally, f"{folder.name}, kill {kills} ({life.place})")


def train(work: Path, tally: Tally, options: argparse.Namespace) -> None:
    """Chains of kills, with a checkpoint after every few steps."""
    data, lengths = pictures(work), []
    for number in itertools.takewhile(lambda _: not tally.late, range(options.chains)):
        # Those that recover also keep a state to go back to in their checkpoints.
        more = ("--batch-size", 32, "--on-collapse", "recover") if number % 3 == 2 else ()
        command = train_command(data, 6, number, *more)
        every = (0.0, 0.15)[number % 2]
        began = never_killed(command, work / f"whole-{number}", tally, every=every)
        draw = functools.partial(chance_of, calls=50, seconds=0.35 * began.seconds)
        lengths.append(chain(command, work / f"chain-{number}", tally, draw, every=every))
        # Which steps had a checkpoint depends on the clock; the two that stay in the end may be of other steps.
        last = keep_last(work / f"chain-{number}" / "run"), keep_last(work / f"whole-{number}" / "run")
        tally.expect(last[0] == last[1], f"chain {number}: the last step is {last[0]}, not {last[1]}")
        tally.same(work / f"chain-{number}" / "run", work / f"whole-{number}" / "run", f"chain {number}")
        print(f"chain {number}: {lengths[-1]} kills", flush=True)
    tally.figures["kills_in_one_training"] = lengths


def keep_last(run: Path) -> str:
    """Leave the last checkpoint alone, and say which it is."""
    newest = max((run / "checkpoint").glob("step-*.json")).stem
    for path in (run / "checkpoint").glob("step-*"):
        if path.name.partition(".")[0] != newest:
            path.unlink()
    return newest


def command(work: Path, tally: Tally, options: argparse.Namespace) -> None:
    """The real command line with the whole sample."""
    lengths = []
    argv = train_command("fashion-mnist-sample", 6, 0, "--batch-size", 500)
    began = never_killed(argv, work / "whole", tally, real=True)
    tally.figures |= {"seconds_undisturbed": round(began.seconds, 1), "calls": began.calls}

    def draw(chance: random.Random) -> Fate:
        # Of six epochs a life is to come through one or two, or nothing would ever be learned.
        if chance.random() < 0.6:
            return Fate(at=chance.randint(1, 45), do=chance.choice(("kill", "half")))
        return Fate(signal=signal.SIGKILL, after=chance.uniform(0.1, 0.7) * began.seconds, slow=chance.choice((0, 50_000)))

    for number in itertools.takewhile(lambda _: not tally.late, range(options.commands)):
        lengths.append(chain(argv, work / f"chain-{number}", tally, draw, real=True))
        tally.same(work / f"chain-{number}" / "run", work / "whole" / "run", f"command {number}")
        print(f"command {number}: {lengths[-1]} kills", flush=True)
    tally.figures["kills_in_one_training"] = lengths


def seeds(work: Path, tally: Tally, options: argparse.Namespace) -> None:
    """A study of three seeds."""
    data, lengths = pictures(work), []
    argv = ("train", data, "--num-epochs", 1, "--seeds", 3, "--out", "study", *OPTIONS, "--batch-size", 32)
    began = never_killed(argv, work / "whole", tally)
    draw = functools.partial(chance_of, calls=50, seconds=0.4 * began.seconds)
    for number in itertools.takewhile(lambda _: not tally.late, range(options.chains)):
        lengths.append(chain(argv, work / f"chain-{number}", tally, draw))
        tally.same(work / f"chain-{number}" / "study", work / "whole" / "study", f"study {number}")
    tally.figures["kills_in_one_study"] = lengths


def two(work: Path, tally: Tally, options: argparse.Namespace) -> None:
    """Two processes and one run folder."""
    argv = train_command("fashion-mnist-sample", 2, 0, "--batch-size", 500)
    never_killed(argv, work / "whole", tally, real=True)
    folder = work / "both"
    folder.mkdir()
    python = [sys.executable, "-m", "torchnin", *map(str, argv)]
    refused = f"another process is training into {Path('run')}; wait for it, or choose another --out"

    def begin() -> subprocess.Popen[str]:
        return subprocess.Popen(python, cwd=folder, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)

    first = begin()
    while not (folder / "run" / "config.json").exists():
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)  # it is short; the others shall find it there
    answers = []
    for way in ((), ("--overwrite",)):
        second = live((*argv, *way), Fate(), cwd=folder, real=True)
        answers.append(second)
    answers.append(live(("train", "--resume", "--out", "run"), Fate(), cwd=folder, real=True))
    first.send_signal(signal.SIGCONT)
    for answer in answers:
        tally.expect(answer.code == 2 and answer.err.endswith(f"nin: {refused}\n"), f"the second was not refused: {answer}")
    first.communicate()
    tally.same(folder / "run", work / "whole" / "run", "the first of two")
    # At the same moment: one trains, the others are refused, whoever comes first.
    for _ in range(options.chains):
        shutil.rmtree(folder / "run")
        several = [begin() for _ in range(3)]
        ended = [(process.communicate()[1], process.returncode) for process in several]
        won = [err for err, code in ended if code == 0]
        lost = [err for err, code in ended if code == 2 and ("another process" in err or "already holds a run" in err)]
        tally.expect((len(won), len(lost)) == (1, 2), f"of three at once {len(won)} trained and {len(lost)} were refused: {ended}")
        tally.same(folder / "run", work / "whole" / "run", "one of three at once")
    # A kill lets go of the folder at once.
    shutil.rmtree(folder / "run")
    first = begin()
    while not (folder / "run" / "config.json").exists():
        time.sleep(0.01)
    first.kill()
    first.wait()
    tally.kills += 1
    tally.places["between writes"] += 1
    after = live(("train", "--resume", "--out", "run"), Fate(), cwd=folder, real=True)
    tally.expect(after.code == 0, f"after a kill: {after.err}")
    tally.same(folder / "run", work / "whole" / "run", "after a kill")
    tally.figures |= {"refused": len(answers) + 2 * options.chains, "sentence": refused}


class SlowServer(http.server.ThreadingHTTPServer):
    """Serves files in small pieces, takes Range, and counts the bytes that it sent."""

    daemon_threads = True
    files: dict[str, bytes]
    sent = 0
    delay = 0.0


class SlowHandler(http.server.BaseHTTPRequestHandler):
    server: SlowServer

    def do_GET(self) -> None:
        data = self.server.files.get(self.path)
        if data is None:
            self.send_error(404)
            return
        start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        if start >= len(data):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            for offset in range(start, len(data), 1 << 16):
                piece = data[offset : offset + (1 << 16)]
                self.wfile.write(piece)
                self.server.sent += len(piece)
                time.sleep(self.server.delay)

    def log_message(self, *_: object) -> None:
        return


@contextlib.contextmanager
def served(files: dict[str, bytes], delay: float) -> Iterator[SlowServer]:
    server = SlowServer(("127.0.0.1", 0), SlowHandler)
    server.files, server.delay = files, delay
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()


def packed_cifar(folder: Path) -> bytes | None:
    """CIFAR-10 as its publisher packs it, where its files are at hand."""
    source = folder / "cifar-10-batches-py"
    if not source.is_dir():
        return None
    return subprocess.run(["tar", "-C", str(folder), "-czf", "-", source.name], check=True, capture_output=True).stdout


def download(work: Path, tally: Tally, options: argparse.Namespace) -> None:
    """A set of single files, and where it is at hand one in an archive."""
    names = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
    sets = {"fashion-mnist": {f"/fashion-mnist/{name}.gz": _packed(FASHION_MNIST / name) for name in names}}
    if options.data_dir is not None and (archive := packed_cifar(options.data_dir)) is not None:
        sets["cifar-10"] = {"/cifar-10/cifar-10-python.tar.gz": archive}
    tally.figures["sets"] = {}
    import torchnin.data.locate

    torchnin.data.locate.SYSTEM_FOLDER = work / "none"  # as on a machine without the distribution's package
    for name, files in sets.items():
        size, lengths, sent = sum(map(len, files.values())), [], []
        delay = 1.5 * (1 << 16) / size  # undisturbed, a second and a half; then an archive is still to be unpacked
        (work / f"{name}-whole").mkdir()
        with served(files, delay) as server:
            whole = fetched(name, work / f"{name}-whole", f"http://127.0.0.1:{server.server_address[1]}", Fate())
        tally.expect(whole.code == 0, f"{name}: undisturbed, ended with {whole.code}: {whole.err}")
        shutil.rmtree(work / f"{name}-whole")
        for number in itertools.takewhile(lambda _: not tally.late, range(options.chains)):
            home = work / f"{name}-{number}"
            home.mkdir()
            kills, chance = 0, chances(tally.seed * 1000 + number)
            with served(files, delay) as server:
                address = f"http://127.0.0.1:{server.server_address[1]}"
                while True:
                    fate = chance_of(next(chance), calls=whole.calls, seconds=whole.seconds)
                    life = fetched(name, home, address, fate)
                    if not tally.note(life):
                        break
                    kills += 1
                tally.expect(life.code == 0, f"{name}: ended with {life.code} after {kills} kills: {life.err}")
                tally.expect(f"{name}: {home}" in life.out or str(home) in life.out, f"{name}: {life.out}")
                lengths.append(kills)
                sent.append(server.sent)
            # Read anew, with the checksums of the catalogue, and nothing else left there.
            again = fetched(name, home, "http://127.0.0.1:9", Fate())
            tally.expect(again.code == 0, f"{name}: what was fetched is not accepted: {again.err}")
            left = sorted(path.name for path in (home / "data").rglob("*.part*"))
            tally.expect(not left, f"{name}: left behind: {left}")
        tally.figures["sets"][name] = {
            "bytes": size,
            "kills_in_one_download": lengths,
            "sent_over_size": [round(n / size, 2) for n in sent],
        }


def fetched(name: str, home: Path, mirror: str, fate: Fate) -> Life:
    os.environ |= {"TORCHNIN_HOME": str(home), "TORCHNIN_DATA_MIRROR": mirror}
    return live(("datasets", "--download", name), fate, cwd=home)


def _packed(path: Path) -> bytes:
    """The file as its publisher has it: packed."""
    there = path.with_name(f"{path.name}.gz")
    return there.read_bytes() if there.exists() else gzip.compress(path.read_bytes(), 6, mtime=0)


def export(work: Path, tally: Tally, options: argparse.Namespace) -> None:
    """`nin export` over the file of another classifier: the old one, the new one, or none, and always whole."""
    import onnxruntime  # noqa: F401 - imported before the lives begin, as torch is
    import onnxscript  # noqa: F401
    import torch.onnx  # noqa: F401

    data = pictures(work)
    for name, seed in (("old", 1), ("new", 2)):
        never_killed(train_command(data, 1, seed), work / name, tally)
    new, old = (work / name / "run" for name in ("new", "old"))
    wanted = {}
    for name, run in (("new", new), ("old", old)):
        life = live(("export", run, "--out", f"{name}.onnx"), Fate(), cwd=work / name)
        tally.expect(life.code == 0, f"export: {life.err}")
        wanted[name] = (work / name / f"{name}.onnx").read_bytes()
        calls, seconds = life.calls, life.seconds
    tally.figures["calls"] = calls
    chance = chances(tally.seed)
    fates = [Fate(at=number, do=do) for number in range(1, calls + 1) for do in ("kill", "half")]
    fates += [dataclasses.replace(chance_of(next(chance), 1, seconds), at=0, do="", signal=9) for _ in range(2 * options.chains)]
    for number, fate in itertools.takewhile(lambda _: not tally.late, enumerate(fates)):
        folder = work / f"out-{number}"
        folder.mkdir()
        if number % 3:
            (folder / "model.onnx").write_bytes(wanted["old"])
        if fate.signal and not fate.after:
            fate.after = next(chance).uniform(0, seconds)
        life = live(("export", new, "--out", folder / "model.onnx"), fate, cwd=folder)
        killed = tally.note(life)
        there = (folder / "model.onnx").read_bytes() if (folder / "model.onnx").exists() else None
        accepted = {wanted["new"], wanted["old"] if number % 3 else None}
        tally.expect(there in accepted, f"export {number} ({life.place}): {'half a file' if there else 'the old file is gone'}")
        if not killed:
            tally.expect(life.code == 0, f"export {number}: {life.err}")
        if number % 5 == 0:
            again = live(("export", new, "--out", folder / "model.onnx"), Fate(), cwd=folder)
            tally.note(again)
            tally.expect(again.code == 0, f"export {number} again: {again.err}")
            names = sorted(path.name for path in folder.iterdir())
            tally.expect(names == ["model.onnx"], f"export {number} again leaves {names}")
            tally.expect((folder / "model.onnx").read_bytes() == wanted["new"], f"export {number} again gave another file")


def save(work: Path, tally: Tally, options: argparse.Namespace) -> None:
    """Classifier.save over another classifier, at every call, in chains: what a kill left is saved over by the next."""
    import torchnin

    data, classifiers = pictures(work), {}
    for name, seed in (("one", 1), ("two", 2)):
        never_killed(train_command(data, 1, seed), work / name, tally)
        classifiers[name] = torchnin.load(work / name / "run", device="cpu")
        classifiers[name].save(work / f"saved-{name}")
    wanted = {name: (work / f"saved-{name}" / "model.safetensors").read_bytes() for name in classifiers}
    folder = work / "folder"
    classifiers["one"].save(folder)
    there, number = "one", 0
    for stretch in range(options.chains):
        for at in range(1, 14):
            for do in ("kill", "half"):
                number += 1
                other = "two" if number % 2 else "one"
                life = saved(classifiers[other], folder, Fate(at=at, do=do))
                killed = tally.note(life)
                found = torchnin.load(folder, device="cpu")
                name = next((name for name in classifiers if _same_answers(found, classifiers[name])), None)
                tally.expect(name in (there, other), f"save {number} of stretch {stretch}, killed {life.place}: loads as {name}")
                tally.expect(killed or name == other, f"save {number}: came to its end and is not there")
                tally.expect(killed or (folder / "model.safetensors").read_bytes() == wanted[other], f"save {number}: other weights")
                there = name or there
    life = saved(classifiers["two"], folder, Fate())
    names = sorted(path.name for path in folder.iterdir())
    tally.expect(names == ["config.json", "model.safetensors"], f"saves leave {names}")


def saved(classifier: Any, folder: Path, fate: Fate) -> Life:
    """Save in a child."""
    return forked(lambda: classifier.save(folder), fate, cwd=folder)


def _same_answers(a: Any, b: Any) -> bool:
    import torch

    ours, theirs = a.network.state_dict(), b.network.state_dict()
    return a.metadata == b.metadata and all(torch.equal(ours[key], theirs[key]) for key in ours)


PARTS: dict[str, Callable[[Path, Tally, argparse.Namespace], None]] = {
    "sweep": sweep,
    "train": train,
    "seeds": seeds,
    "save": save,
    "export": export,
    "download": download,
    "two": two,
    "command": command,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--chains", type=int, default=8, help="of kills, in each part that has chains")
    parser.add_argument("--commands", type=int, default=4, help="chains through the real command line")
    parser.add_argument("--stride", type=int, default=1, help="only every so manieth call in the sweep")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which a part begins nothing more")
    parser.add_argument("--first", type=int, default=1, help="the first call of the sweep")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data-dir", type=Path, help="where cifar-10-batches-py lies, for the download of an archive")
    parser.add_argument("--results", type=Path, default=RESULTS / "kill.json")
    options = parser.parse_args()
    under_interposer(Path(tempfile.gettempdir()))
    imported()
    found = begun(options.results, "parts")
    wrong = 0
    for name in options.parts or PARTS:
        since = time.monotonic()
        tally = Tally(options.seed, since + 60 * options.minutes)
        with tempfile.TemporaryDirectory() as folder:
            PARTS[name](Path(folder), tally, options)
        seconds = round(time.monotonic() - since)
        found["parts"][name] = {**tally.to_dict(), "seconds": seconds, "date": today()}
        for key in ("kills", "inside_writes"):
            found[key] = sum(part[key] for part in found["parts"].values())
        found["wrong"] = sum(len(part["wrong"]) for part in found["parts"].values())
        write(options.results, found)
        print(f"{name}: {tally.kills} kills, {tally.inside} inside writes, {len(tally.wrong)} wrong, {seconds} s", flush=True)
        wrong += len(tally.wrong)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
