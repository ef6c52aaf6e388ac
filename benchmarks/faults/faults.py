"""What a training does when the machine around it fails: each row of the table in docs/faults.md, really run.

    python benchmarks/faults/faults.py                    every row; an hour on one core (sudo for the rows that mount a small disk)
    python benchmarks/faults/faults.py sigterm clock

Needs Linux and gcc. The training is the one of kill.py: real pictures, everything switched on that draws or remembers. A failing disk
is made by a preloaded library that lets the n-th call that changes a file fail, for every n (interpose.c), and again with a small disk
in memory that is really full, or really read-only. After each fault the training is gone on with, and what it leaves is compared, to the
bit, with one that met no fault; kill.py says what is compared. Writes `results/faults.json`: fault, expected, seen, how often tried, how
often as expected. Exit code 1 where anything was not as expected.
"""

import argparse
import ctypes
import dataclasses
import errno
import json
import math
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from kill import OPTIONS, RESULTS, Tally, gone_on, keep_last, pictures, train_command, whole_documents
from lives import Fate, Life, chances, differences, digests, forked, imported, live, spread, under_interposer
from summary import begun, complain, today, write

FINDING = re.compile(r"out of memory at step \d+")
PIECES = re.compile(r"out of memory at step (\d+).*?in pieces of (\d+)")


@dataclasses.dataclass
class Row:
    """A line of the table."""

    fault: str
    expected: str
    tried: int = 0
    right: int = 0
    wrong: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    example: str = ""
    """A sentence that was said."""

    def trial(self, *failures: str | None) -> None:
        """Count a trial; what was not as expected is told in sentences."""
        found = [failure for failure in failures if failure]
        self.tried += 1
        self.right += not found
        self.wrong += found
        for failure in found:
            complain(failure)

    def say(self, life: Life) -> None:
        """Keep what a life said last, without the folder of this run."""
        lines = [line for line in life.err.splitlines() if line.strip()]
        if lines:
            self.example = re.sub(r"/\S*/(?=(run|pictures|photos|images)\b)", "", lines[-1])

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


@dataclasses.dataclass
class Place:
    """Where a row works, with the training that met no fault."""

    work: Path
    options: argparse.Namespace
    data: Path
    command: tuple[object, ...]
    whole: dict[str, str] = dataclasses.field(default_factory=dict)
    calls: int = 0
    seconds: float = 0.0

    def undisturbed(self) -> None:
        folder = self.fresh("whole")
        life = live(self.command, Fate(), cwd=folder)
        if life.code:
            sys.exit(f"the training without a fault ended with {life.code}: {life.err}")
        keep_last(folder / "run")
        self.whole, self.calls, self.seconds = digests(folder / "run"), life.calls, life.seconds

    def fresh(self, name: str) -> Path:
        folder = self.work / name
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        return folder

    def gone_on(self, folder: Path, what: str) -> list[str | None]:
        """Go on without the fault, and say where it is not as if there had been none."""
        life = live(gone_on(self.command, "run", folder), Fate(), cwd=folder)
        return [complaint(life, 0, what), self.same(folder / "run", what)] if life.code == 0 else [complaint(life, 0, what)]

    def same(self, run: Path, what: str) -> str | None:
        keep_last(run)
        different = differences(digests(run), self.whole)
        return f"{what}: not as without the fault: {', '.join(different)}" if different else None


def complaint(life: Life, code: int, what: str, says: str = "") -> str | None:
    """What is wrong with how a command ended: its code, a traceback, more or less than one sentence."""
    if life.code != code:
        return f"{what}: ended with {life.code}, not {code}: {life.err[-600:]}"
    if "Traceback" in life.err or "should not happen" in life.err:
        return f"{what}: {life.err[-600:]}"
    if code > 0 and (len(lines := [line for line in life.err.splitlines() if line.startswith("nin: ")]) != 1 or says not in lines[0]):
        return f"{what}: said {life.err[-600:]!r}, not one sentence with {says!r}"
    return None


def healthy(folder: Path, what: str) -> list[str | None]:
    tally = Tally(0)
    whole_documents(folder, tally, what)
    return [*tally.wrong]


# ---- the disk


def failing_call(place: Place, number: int, do: str, saying: str) -> Row:
    code, reading = getattr(errno, saying), os.strerror(getattr(errno, saying))
    how = {"ENOSPC": "from it on no call that needs room succeeds", "EROFS": "from it on none succeeds", "EIO": "it alone fails"}[saying]
    row = Row(
        f"{reading} (`{saying}`) at each of the {place.calls} calls with which a training of one epoch changes files: {how}",
        "exit 1 and one sentence with the file's name, or no harm; all documents whole; resumed, the same bits",
    )
    harmless, until = 0, time.monotonic() + 60 * place.options.minutes
    for at in spread(1, place.calls, number):
        if time.monotonic() > until:
            break
        folder = place.fresh("disk")
        life = live(place.command, Fate(at=at, do=do, errno=code), cwd=folder)
        what = f"{saying} at call {at} ({life.place})"
        if life.code == 0:
            # Taking away what is not needed any more may fail, and so may what was done already.
            harmless += 1
            row.trial(complaint(life, 0, what), place.same(folder / "run", what))
            continue
        row.say(life)
        row.trial(complaint(life, 1, what, reading), *healthy(folder, what), *place.gone_on(folder, what))
    if row.tried < place.calls:
        row.notes.append(f"{row.tried} calls, spread over all, were tried")
    if harmless:
        row.notes.append(f"{harmless} did no harm")
    return row


def disk_full(place: Place) -> Row:
    return failing_call(place, place.options.stride, "fail", "ENOSPC")


def read_only(place: Place) -> Row:
    return failing_call(place, place.options.stride, "fail", "EROFS")


def broken_disk(place: Place) -> Row:
    return failing_call(place, place.options.stride, "once", "EIO")


def mount(folder: Path, options: str) -> bool:
    return subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=False, capture_output=True).returncode == 0


def remount(folder: Path, options: str) -> bool:
    return subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=False, capture_output=True).returncode == 0


def small_disk(place: Place) -> Row:
    row = Row(
        "a disk in memory that is really too small, for sizes that let the first, second, ... file still be written",
        "exit 1, one sentence; with more room the same bits",
    )
    for size in (64, 1024, 2048, 3072, 4096, 5120, 6144, 7168):
        folder = place.fresh("small")
        if not mount(folder, f"size={size}k"):
            row.notes.append("not run: mounting was refused")
            return row
        try:
            life = live(place.command, Fate(), cwd=folder)
            what = f"a disk of {size} KiB"
            if life.code:
                row.say(life)
                faults = [complaint(life, 1, what, os.strerror(errno.ENOSPC)), *healthy(folder, what)]
                remount(folder, "size=64m")
                row.trial(*faults, *place.gone_on(folder, what))
            else:
                row.notes.append(f"{size} KiB were enough")
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    return row


def really_read_only(place: Place) -> Row:
    row = Row("a disk in memory that is made read-only at chance moments", "exit 1, one sentence; writable again, the same bits")
    chance = chances(1)
    for number in range(place.options.times):
        folder = place.fresh("readonly")
        if not mount(folder, "size=64m"):
            row.notes.append("not run: mounting was refused")
            return row
        try:
            moment = next(chance).uniform(0.2, 0.9) * place.seconds

            def at_once(since: float = time.monotonic(), folder: Path = folder, moment: float = moment) -> bool:
                return time.monotonic() - since > moment and remount(folder, "ro")

            # "Sent" is nothing but a signal that is ignored: what counts is the remount, which succeeds once no file is open.
            life = live(place.command, Fate(signal=signal.SIGCONT, when=at_once), cwd=folder)
            what = f"read-only {number}"
            faults = [complaint(life, 1, what, os.strerror(errno.EROFS)), *healthy(folder, what)] if life.code else []
            row.say(life)
            remount(folder, "rw")
            row.trial(*faults, *place.gone_on(folder, what))
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    return row


# ---- broken files


def checkpoint_bits(place: Place) -> Row:
    from torchnin.training import TrainingError
    from torchnin.training.checkpoint import read_checkpoint

    row = Row("", "noticed each time, and never read")
    folder = place.fresh("bits")
    shutil.copytree(place.work / "whole" / "run" / "checkpoint", folder / "checkpoint")
    (document,), (tensors,) = ((folder / "checkpoint").glob(f"step-*.{kind}") for kind in ("json", "safetensors"))
    counts = {
        "every bit of its JSON": 0,
        "a bit in each byte of the tensors' header": 0,
        "and in every so many bytes of the tensors": 0,
        "a lost block of 4,096 bytes": 0,
        "cut off": 0,
    }

    def tried(path: Path, data: bytes, changed: bytes, kind: str) -> None:
        if changed == data:
            return
        path.write_bytes(changed)
        counts[kind] += 1
        try:
            read_checkpoint(folder / "checkpoint")
            row.trial(f"{path.name}: {kind} was read")
        except TrainingError as error:
            row.trial(None if "is broken" in str(error) else str(error))

    def flipped(data: bytes, place: int, bit: int) -> bytes:
        return b"".join((data[:place], bytes([data[place] ^ (1 << bit)]), data[place + 1 :]))

    for path in (document, tensors):
        data = path.read_bytes()
        kinds = list(counts)
        if path is document:
            for index in range(len(data)):
                for bit in range(8):
                    tried(path, data, flipped(data, index, bit), kinds[0])
        else:
            header = 8 + int.from_bytes(data[:8], "little")
            for index in range(0, header, place.options.stride):
                tried(path, data, flipped(data, index, index % 8), kinds[1])
            for index in range(header, len(data), 2003):
                tried(path, data, flipped(data, index, index % 8), kinds[2])
        for start in range(0, len(data), 4096 * (1 if path is document else 16)):
            tried(path, data, data[:start] + bytes(min(4096, len(data) - start)) + data[start + 4096 :], kinds[3])
        for part in range(64):
            tried(path, data, data[: len(data) * part // 64], kinds[4])
        path.write_bytes(data)
    row.fault = "a checkpoint that changed on the disk: " + ", ".join(f"{kind} ({count:,})" for kind, count in counts.items())
    return row


def config_bits(place: Place) -> Row:
    from torchnin import DataError, Run

    row = Row("every bit of a run's `config.json`", "noticed and the copy used, or the same values in other words")
    run = Run(shutil.copytree(place.work / "whole" / "run", place.fresh("config") / "run"))
    path, config = run.path / "config.json", run.config
    data, same = path.read_bytes(), 0
    for index in range(len(data)):
        for bit in range(8):
            path.write_bytes(b"".join((data[:index], bytes([data[index] ^ (1 << bit)]), data[index + 1 :])))
            try:
                found, sentence = run.read_config()
                same += sentence is None
                row.trial(None if found == config else f"config.json: byte {index}, bit {bit} was read as another configuration")
            except DataError as error:
                row.trial(f"config.json: byte {index}, bit {bit}: {error}")
    row.notes.append(f"{same} of them mean the same, such as another kind of blank")
    return row


def broken_checkpoint(place: Place) -> Row:
    row = Row(
        "`nin train --resume` where the newest checkpoint is cut off, emptied, gone, or has a flipped bit (header, tensors, JSON)",
        "the one before it is used, that is said, the same bits",
    )
    stopped = place.fresh("stopped")
    live(
        place.command,
        Fate(signal=signal.SIGKILL, when=lambda: len(list(stopped.glob("run/checkpoint/step-*.json"))) == 2),
        cwd=stopped,
        every=0.0,
    )

    def flip(path: Path, share: float) -> None:
        data = bytearray(path.read_bytes())
        data[int(share * (len(data) - 1))] ^= 16
        path.write_bytes(data)

    ways: dict[str, Callable[[Path], object]] = {
        "cut off": lambda path: os.truncate(path, path.stat().st_size // 2),
        "emptied": lambda path: os.truncate(path, 0),
        "gone": lambda path: path.unlink(),
        "flipped at its beginning": lambda path: flip(path, 0.001),
        "flipped in the middle": lambda path: flip(path, 0.5),
        "flipped at its end": lambda path: flip(path, 1.0),
    }
    for suffix in ("safetensors", "json"):
        for name, damage in ways.items():
            if (suffix, name) == ("json", "gone"):
                continue  # then it is no checkpoint
            folder = place.fresh("broken")
            shutil.copytree(stopped / "run", folder / "run")
            newest = max((folder / "run" / "checkpoint").glob(f"step-*.{suffix}"))
            damage(newest)
            life = live(("train", "--resume", "--out", "run"), Fate(), cwd=folder)
            what = f"{newest.name} {name}"
            said = f"{newest.stem}" in life.err and "the checkpoint before it is used" in life.err
            row.example = next((line for line in life.err.splitlines() if "is broken" in line), "")
            row.trial(complaint(life, 0, what), None if said else f"{what}: not said: {life.err}", place.same(folder / "run", what))
    return row


# ---- the data


def data_after(place: Place) -> Row:
    row = Row(
        "the dataset's file is changed, cut off or taken away between a kill and `--resume`",
        "refused with a sentence; put back, the same bits",
    )
    for name, code, change in (
        ("changed", 2, lambda path: path.write_bytes((place.work / "other.npz").read_bytes())),
        ("cut off", 1, lambda path: os.truncate(path, path.stat().st_size // 2)),
        ("taken away", None, lambda path: path.unlink()),
    ):
        folder = place.fresh("after")
        kept = place.data.read_bytes()
        live(place.command, Fate(signal=signal.SIGKILL, when=lambda folder=folder: (folder / "run" / "config.json").exists()), cwd=folder)
        try:
            change(place.data)
            life = live(("train", "--resume", "--out", "run"), Fate(), cwd=folder)
        finally:
            place.data.write_bytes(kept)
        row.say(life)
        what = f"data {name}"
        row.trial(complaint(life, life.code if code is None and life.code in (1, 2) else code or 2, what), *place.gone_on(folder, what))
    return row


def data_during(place: Place) -> Row:
    row = Row("the dataset's file is changed, cut off or taken away while the training runs", "no effect: it was read whole; the same bits")
    for name, change in (
        ("changed", lambda path: path.write_bytes((place.work / "other.npz").read_bytes())),
        ("cut off", lambda path: os.truncate(path, 100)),
        ("taken away", lambda path: path.unlink()),
    ):
        folder = place.fresh("during")
        kept = place.data.read_bytes()

        def begun(folder: Path = folder, change: Callable[[Path], object] = change) -> bool:
            if (folder / "run" / "config.json").exists():
                change(place.data)
                return True
            return False

        try:
            life = live(place.command, Fate(signal=signal.SIGCONT, when=begun), cwd=folder)
        finally:
            place.data.write_bytes(kept)
        row.trial(complaint(life, 0, f"data {name}"), place.same(folder / "run", f"data {name}"))
    return row


def data_mapped(place: Place) -> Row:
    """Pictures that stay in a memory-mapped file and are read as they are needed, which Python's interface allows."""
    import numpy as np

    import torchnin

    row = Row(
        "a memory-mapped file of pictures is changed, cut off, replaced or taken away while the training reads from it (Python)",
        "stopped with a sentence, no SIGBUS; put back, the same weights",
    )
    sample = torchnin.load_dataset("fashion-mnist-sample")
    recipe = torchnin.Recipe(num_epochs=2, batch_size=32, optimizer="sgd", lr=0.05, ema_decay=0.9)
    path = place.work / "images.npy"
    np.save(path, sample.train.images[:960])

    def train(resume: bool) -> None:
        mapped = np.load(path, mmap_mode="r")
        learned = torchnin.data.ImageDataset(mapped, sample.train.labels[:960], sample.class_names)
        splits = torchnin.DatasetSplits(name="mapped", train=learned, test=sample.test.select(range(50)), source="arrays")
        try:
            torchnin.train("nin_small", splits, recipe, out="run", device="cpu", resume=resume)
        except torchnin.DataError as error:
            sys.exit(f"nin: {error}" if print(f"nin: {error}", file=sys.stderr) else 1)

    def other(path: Path) -> None:
        aside = path.with_name("aside.npy")
        np.save(aside, 255 - sample.train.images[:960])
        os.replace(aside, path)

    def written_to(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(4000)
            file.write(b"other pixels")

    undisturbed = place.fresh("mapped-whole")
    life = forked(lambda: train(False), Fate(), cwd=undisturbed)
    weights = (undisturbed / "run" / "classifier" / "model.safetensors").read_bytes() if life.code == 0 else b""
    for name, change in (
        ("changed", written_to),
        ("cut off", lambda path: os.truncate(path, 5000)),
        ("replaced", other),
        ("taken away", Path.unlink),
    ):
        folder = place.fresh("mapped")
        kept, state = path.read_bytes(), path.stat()

        def begun(folder: Path = folder, change: Callable[[Path], object] = change) -> bool:
            if (folder / "run" / "config.json").exists():
                change(path)
                return True
            return False

        life = forked(lambda: train(False), Fate(signal=signal.SIGCONT, when=begun), cwd=folder)
        what = f"memory-mapped file {name}"
        path.write_bytes(kept)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
        row.say(life)
        again = forked(lambda: train(True), Fate(), cwd=folder)
        found = (folder / "run" / "classifier" / "model.safetensors").read_bytes() if again.code == 0 else b"none"
        row.trial(
            complaint(life, 1, what, "changed since"), complaint(again, 0, what), None if found == weights else f"{what}: other weights"
        )
    return row


def photos(folder: Path) -> Path:
    """The sample's pictures as a folder of PNG files."""
    from PIL import Image

    import torchnin

    train, root = torchnin.load_dataset("fashion-mnist-sample").train, folder / "photos"
    for index in range(200):
        place = root / f"class-{train.labels[index]}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(train.images[index, 0]).save(place / f"{index}.png")
    return root


def decoding_thread(place: Place) -> Row:
    """Pictures are decoded on threads of the one process; there is no loader process that could be killed alone."""
    row = Row(
        "a thread that decodes a folder's pictures gets SIGKILL, meets a broken picture, or one that vanishes meanwhile",
        "killed: the process ends, begun anew the same bits; else one sentence that names the picture, nothing written",
    )
    root = photos(place.work)
    command = ("train", root, "--num-epochs", 1, "--out", "run", *OPTIONS, "--batch-size", 32)
    whole = place.fresh("photos-whole")
    live(command, Fate(), cwd=whole)
    wanted = digests(whole / "run")

    def killed_in_decoding() -> None:
        """Kill the thread that decodes the 50th picture, as the system kills one: it is the whole process that ends."""
        from torchnin.commands.main import main
        from torchnin.data.readers import folder as reader

        decode, seen = reader.decode_quietly, [0]

        def counted(*arguments: Any) -> Any:
            seen[0] += 1
            if seen[0] == 50 and threading.current_thread() is not threading.main_thread():
                ctypes.CDLL(None).syscall(234, os.getpid(), threading.get_native_id(), signal.SIGKILL)  # tgkill
            return decode(*arguments)

        reader.decode_quietly = counted
        main([str(part) for part in command])

    folder = place.fresh("photos-killed")
    life = forked(killed_in_decoding, Fate(), cwd=folder)
    again = live(command, Fate(), cwd=folder)
    different = differences(digests(folder / "run"), wanted) if again.code == 0 else ["all"]
    row.trial(
        None if life.code == -signal.SIGKILL else f"a killed thread left the process with {life.code}: {life.err}",
        complaint(again, 0, "after a killed thread"),
        f"after a killed thread: {different}" if different else None,
    )
    victim = next(iter(sorted(root.glob("*/1*.png"))))
    kept = victim.read_bytes()
    for name, change in (("broken", lambda: victim.write_bytes(kept[: len(kept) // 2])), ("vanished", lambda: _dangling(victim))):
        folder = place.fresh("photos-broken")
        change()
        life = live(command, Fate(), cwd=folder)
        victim.unlink()
        victim.write_bytes(kept)
        row.say(life)
        written = list(folder.iterdir())
        row.trial(complaint(life, 1, f"a picture {name}", victim.name), f"a picture {name}: left {written}" if written else None)
    return row


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.png")


# ---- signals


def signalled(place: Place, number: signal.Signals, code: int, saved: bool) -> Row:
    names = {"SIGTERM": "SIGTERM, as a scheduler sends it,", "SIGINT": "Ctrl-C (SIGINT)", "SIGHUP": "the terminal goes away (SIGHUP)"}
    expected = (
        f"exit {code}, a checkpoint of that step and the way to go on; " if saved else f"ended by the signal (shells report {code}); "
    )
    row = Row(f"{names[number.name]} at chance moments", f"{expected}resumed, the same bits")
    chance, early = chances(number), 0
    for trial in range(place.options.times):
        folder = place.fresh("signal")
        life = live(place.command, Fate(signal=number, after=next(chance).uniform(0, 0.95) * place.seconds), cwd=folder)
        what = f"{number.name} {trial} ({life.place})"
        faults: list[str | None] = []
        if life.code == code and saved and "everything is saved" in life.err:
            step = int(re.search(r"stopped at step ([\d,]+)", life.err)[1].replace(",", ""))  # type: ignore[index]
            newest = max((folder / "run" / "checkpoint").glob("step-*.json")).stem
            faults = [
                complaint(life, code, what, "--resume"),
                None if newest == f"step-{step:09d}" else f"{what}: {newest}, stopped at {step}",
            ]
            row.say(life)
        elif life.code != 0:
            # Before the first step there is nothing to save, and after the last one all is.
            early += 1
            accepted = (code, -number)
            faults = [None if life.code in accepted and "Traceback" not in life.err else f"{what}: {life.code}: {life.err}"]
        row.trial(*faults, *healthy(folder, what), *place.gone_on(folder, what))
    if saved and early:
        row.notes.append(f"{early} came before the first or after the last step: ended at once")
    return row


def sigterm(place: Place) -> Row:
    return signalled(place, signal.SIGTERM, 143, True)


def ctrl_c(place: Place) -> Row:
    return signalled(place, signal.SIGINT, 130, True)


def hang_up(place: Place) -> Row:
    return signalled(place, signal.SIGHUP, 129, False)


# ---- memory


def limited(arguments: Sequence[object], spare: int, kept: Path) -> Callable[[], None]:
    """The command with so many MiB more of address space than the first such one had when its first step began; `kept` says how many."""

    def run() -> None:
        from torchnin.commands.main import main
        from torchnin.training import loop

        go = loop.Training.go

        def with_limit(self: Any) -> None:
            used = int(next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmSize")).split()[1])
            if not kept.exists():
                kept.write_text(str(used << 10))
            before = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (int(kept.read_text()) + (spare << 20), before[1]))
            go(self)
            resource.setrlimit(resource.RLIMIT_AS, before)

        loop.Training.go = with_limit  # type: ignore[method-assign]
        main([str(argument) for argument in arguments])

    return run


def out_of_memory(place: Place) -> list[Row]:
    import numpy as np

    import torchnin

    train = torchnin.load_dataset("fashion-mnist-sample").train
    path = place.work / "memory.npz"
    np.savez(path, x_train=train.images[:320], y_train=train.labels[:320], x_test=train.images[320:360], y_test=train.labels[320:360])
    options = ("--model", "nin_small", "--num-epochs", 2, "--batch-size", 320, "--image-size", 64, "--device", "cpu", "--out", "run")
    command, again = ("train", path, *options), ("train", "--resume", "--out", "run")

    def taken(arguments: Sequence[object], folder: Path, fate: Fate | None = None) -> Life:
        return forked(limited(arguments, spare, place.work / "memory-at-the-first-step"), fate or Fate(), cwd=folder)

    # The least memory that does, in steps, and some more, for where it fits narrowly chance decides into how many pieces a batch goes.
    spare = 200
    while spare < 1000 and taken(command, place.fresh("memory-tried")).code != 0:
        spare += 40
    spare += 80

    rows = [
        Row("memory for half of a batch (`RLIMIT_AS`)", "said once; learned in pieces, the batch stays what it was; exit 0"),
        Row(
            "the same with `--on-out-of-memory stop`", "exit 1, one sentence with the `--accumulate` to go on with; gone on with it, exit 0"
        ),
        Row(
            "SIGKILL while it recovers from that, right after it was said",
            "resumed under the same limit, exit 0; the same weights where batches go into the same pieces, for which memory decides anew",
        ),
    ]
    whole = place.fresh("memory-whole")
    life = whole_life = taken(command, whole)
    said = FINDING.findall(life.err)
    rows[0].trial(complaint(life, 0, "memory"), None if said else f"the limit of {spare} MiB was no limit: {life.err}")
    rows[0].notes.append(f"{spare} MiB beyond what is there at the first step")
    rows[0].example = next((line for line in life.err.splitlines() if "out of memory" in line), "")
    wanted = digests(whole / "run")
    folder = place.fresh("memory-stop")
    life = taken((*command, "--on-out-of-memory", "stop"), folder)
    rows[1].say(life)
    pieces = re.search(r"--accumulate (\d+)", life.err)
    gone = taken((*again, "--on-out-of-memory", "stop", "--accumulate", pieces[1] if pieces else 2), folder)
    rows[1].trial(complaint(life, 1, "memory, stop", "--accumulate"), complaint(gone, 0, "memory, gone on"))
    for number in range(place.options.times // 2):
        folder = place.fresh("memory-killed")
        err = folder.with_name("memory-killed.err")
        life = taken(command, folder, Fate(signal=signal.SIGKILL, when=lambda err=err: bool(FINDING.search(err.read_text()))))
        what = f"killed in the recovery, {number} ({life.place})"
        gone = taken(again, folder)
        other = PIECES.findall(gone.err) != PIECES.findall(whole_life.err)
        different = differences(digests(folder / "run"), wanted) if gone.code == 0 and not other else []
        # The finding quotes the library that had no memory, which may be another one.
        different = [name for name in different if not name.endswith((".json", "metrics.jsonl", "metrics.csv"))]
        rows[2].notes += [f"once in other pieces ({', '.join(size for _, size in PIECES.findall(gone.err))})"] * other
        rows[2].trial(
            None if life.code == -signal.SIGKILL else f"{what}: ended with {life.code}",
            complaint(gone, 0, what),
            f"{what}: {different}" if different else None,
        )
    return rows


# ---- the clock


def clock(place: Place) -> Row:
    year = 365 * 24 * 3600
    row = Row(
        "the wall clock jumps, by an hour, a year, decades, forth and back, while a training runs and between kill and `--resume`",
        "the same bits; every `seconds` is that of the monotonic clock, none negative or larger than the command took",
    )
    for jumps in (f"1:{year}", f"1:{-year}", f"5:{year} 40:{-year} 90:3600", "3:-3600 20:3600 60:0", f"10:{40 * year}", f"10:{-50 * year}"):
        folder = place.fresh("clock")
        life = live(place.command, Fate(clock=jumps), cwd=folder)
        row.trial(
            complaint(life, 0, f"clock {jumps}"), place.same(folder / "run", f"clock {jumps}"), *_times(folder / "run", life.seconds, jumps)
        )
    for before, after in ((f"1:{year}", f"1:{-year}"), (f"1:{-year}", f"1:{year}")):
        folder = place.fresh("clock")
        killed = live(place.command, Fate(clock=before, at=place.calls // 2, do="kill"), cwd=folder)
        life = live(gone_on(place.command, "run", folder), Fate(clock=after), cwd=folder)
        what, took = f"clock {before}, killed, {after}", killed.seconds + life.seconds
        row.trial(complaint(life, 0, what), place.same(folder / "run", what), *_times(folder / "run", took, what))
    return row


def _times(run: Path, most: float, what: str) -> list[str | None]:
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found = [*(row["seconds"] for row in rows), json.loads((run / "result.json").read_text())["seconds"]]
    return [None if 0 < seconds <= most else f"{what}: {seconds} s, the command took {most}" for seconds in found]


# ---- several processes


class Torchrun:
    """Two gloo processes under torchrun."""

    def __init__(self, arguments: Sequence[object], folder: Path) -> None:
        with socket.socket() as listening:
            listening.bind(("127.0.0.1", 0))
            port = listening.getsockname()[1]
        launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-addr", "127.0.0.1", "--master-port", port)
        command = [sys.executable, *map(str, (*launcher, "-m", "torchnin", *arguments))]
        environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        self.err, self.folder = folder.with_name(f"{folder.name}.err"), folder
        with self.err.open("wb") as err:
            self.process = subprocess.Popen(
                command, cwd=folder, stdout=subprocess.DEVNULL, stderr=err, env=environment, start_new_session=True
            )

    def begun(self, steps: int) -> list[int]:
        """The two processes, once the training has a checkpoint beyond so many steps."""
        while not any(int(path.stem[5:]) >= steps for path in self.folder.glob("run/checkpoint/step-*.json")):
            if self.process.poll() is not None:
                raise RuntimeError(self.err.read_text())
            time.sleep(0.05)
        return [int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]

    def ended(self, workers: Sequence[int], patience: float = 600.0) -> tuple[int, float, str]:
        """Exit code, seconds until all were gone, and what was said."""
        since = time.monotonic()
        try:
            code = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            code = self.process.wait()
        while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() - since < patience:
            time.sleep(0.1)
        return code, time.monotonic() - since, self.err.read_text()


def several(place: Place) -> list[Row]:
    command = ("train", "fashion-mnist-sample", "--num-epochs", 4, "--seed", 0, "--out", "run", *OPTIONS, "--batch-size", 500)
    whole = place.fresh("two-whole")
    run = Torchrun(command, whole)
    code, _, err = run.ended([])
    if code:
        sys.exit(f"two processes without a fault ended with {code}: {err}")
    keep_last(whole / "run")
    wanted = digests(whole / "run")
    saved, lost = "everything is saved, go on with", "has lost the others"
    cases: list[tuple[str, str, str, Callable[[Torchrun, list[int]], object]]] = [
        (
            "SIGTERM to torchrun",
            "both stop after the same step, one checkpoint, said once",
            saved,
            lambda run, _: run.process.send_signal(signal.SIGTERM),
        ),
        (
            "Ctrl-C in the terminal: SIGINT to torchrun and both processes",
            "the same",
            saved,
            lambda run, _: os.killpg(run.process.pid, signal.SIGINT),
        ),
        ("SIGTERM to one of the processes", "the same", saved, lambda _, pids: os.kill(pids[1], signal.SIGTERM)),
        ("one of the processes is killed", "the other ends with a sentence", lost, lambda _, pids: os.kill(pids[1], signal.SIGKILL)),
        (
            "one of the processes falls silent (SIGSTOP)",
            "after the five minutes that it is given the other ends with a sentence",
            lost,
            lambda _, pids: os.kill(pids[1], signal.SIGSTOP),
        ),
    ]
    rows = []
    for fault, expected, says, do in cases:
        row = Row(f"two processes under torchrun: {fault}", f"{expected}; resumed by two, the same bits")
        folder = place.fresh("two")
        run = Torchrun(command, folder)
        do(run, pids := run.begun(11))
        code, seconds, err = run.ended(pids)
        said = [line for line in err.splitlines() if says in line]
        row.example = said[0] if said else ""
        row.notes.append(f"all gone after {seconds:.0f} s, torchrun's own exit code {code}")
        again = Torchrun(("train", "--resume", "--out", "run"), folder)
        code, _, resumed = again.ended([])
        if code == 0:
            keep_last(folder / "run")
        different = differences(digests(folder / "run"), wanted) if code == 0 else ["all"]
        row.trial(
            None if len(said) == 1 and "Traceback" not in "".join(said) else f"{fault}: said {err[-1500:]}",
            f"{fault}: resumed with {code}: {resumed[-1500:]}" if code else None,
            f"{fault}: not the same bits: {different}" if different else None,
        )
        rows.append(row)
    return rows


ROWS: dict[str, Callable[[Place], Row | list[Row]]] = {
    "disk_full": disk_full,
    "read_only": read_only,
    "broken_disk": broken_disk,
    "small_disk": small_disk,
    "really_read_only": really_read_only,
    "checkpoint_bits": checkpoint_bits,
    "config_bits": config_bits,
    "broken_checkpoint": broken_checkpoint,
    "data_after": data_after,
    "data_during": data_during,
    "data_mapped": data_mapped,
    "decoding_thread": decoding_thread,
    "sigterm": sigterm,
    "ctrl_c": ctrl_c,
    "hang_up": hang_up,
    "out_of_memory": out_of_memory,
    "clock": clock,
    "several": several,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], default=[])
    parser.add_argument("--stride", type=int, default=1, help="only every so manieth call")
    parser.add_argument("--minutes", type=float, default=math.inf, help="after which the rows of a failing disk begin nothing more")
    parser.add_argument("--times", type=int, default=8, help="how often what happens at chance moments is tried")
    parser.add_argument("--results", type=Path, default=RESULTS / "faults.json")
    options = parser.parse_args()
    under_interposer(Path(tempfile.gettempdir()))
    imported()
    import numpy as np

    found = begun(options.results, "rows")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        data = pictures(work)
        arrays = dict(np.load(data))
        np.savez(work / "other.npz", **{**arrays, "x_train": 255 - arrays["x_train"]})
        place = Place(work, options, data, train_command(data, 1, 3))
        place.undisturbed()
        for name in options.rows or ROWS:
            since = time.monotonic()
            rows = ROWS[name](place)
            rows = rows if isinstance(rows, list) else [rows]
            found["rows"][name] = [row.to_dict() for row in rows]
            found["date"] = today()
            found["rows"] = {key: found["rows"][key] for key in ROWS if key in found["rows"]}
            write(options.results, found)
            for row in rows:
                wrong += len(row.wrong)
                print(f"{name}: {row.right} of {row.tried} as expected; {time.monotonic() - since:.0f} s", flush=True)
    sys.exit(wrong > 0)


if __name__ == "__main__":
    main()
