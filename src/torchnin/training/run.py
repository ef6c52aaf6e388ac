"""A run: the folder that a training writes and a user reads."""

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from torchnin.classifier import Classifier
from torchnin.data import DataError
from torchnin.files import (
    LOCK,
    exists,
    is_file,
    is_folder,
    locked_folder,
    parse_json,
    path_of,
    read_json,
    utf8,
    write_atomically,
    write_json,
)
from torchnin.training.checkpoint import has_checkpoint
from torchnin.values import comma_separated

# In this order a run that is replaced is taken away: killed in between, what is left can be gone on with, or begun anew.
_PARTS = ("result.json", "curves.png", "classifier", "metrics.csv", "metrics.jsonl", "tensorboard", "config.json", "checkpoint")
_COPY = Path("checkpoint", "config.json")  # a second one, for the day on which the first is broken
_CHECKSUM = "checksum"
# What a result has in every version, and is shown of it.
_FIGURES = ("test_accuracy", "test_loss", "test_pictures", "num_parameters", "epochs", "seconds", "dead_class_maps")
_CONFIG_HAS = {"network", "recipe", "data", "versions"}
# What a training leaves that was killed before its configuration stood; nothing of it is needed.
_BEGUN = {"checkpoint", "metrics.jsonl", "metrics.csv", "config.json.tmp", LOCK}


class Run:
    """A run folder: its configuration, the metrics of each epoch, the result, the classifier."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = path_of(path, "path")

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def config(self) -> dict[str, Any]:
        """The resolved configuration: network, recipe, data with checksums, versions, device, git commit."""
        return self.read_config()[0]

    def read_config(self) -> tuple[dict[str, Any], str | None]:
        """The configuration, and a sentence where `config.json` is broken, so that its copy beside the checkpoints was read.

        Raises:
            ValueError: there is none.
            DataError: it is broken, and so is the copy, or there is no copy.
        """
        try:
            return _read_sealed(self.path / "config.json", sealed=is_file(self.path / _COPY)), None
        except (DataError, OSError) as error:
            try:
                copy = _read_sealed(self.path / _COPY, sealed=True)
            except (ValueError, OSError):  # DataError is a ValueError
                raise error from None
            return copy, f"{error}; its copy {self.path / _COPY} is used"

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One row per finished epoch; where the training stopped in an epoch in which something was found, one more, with `unfinished`."""
        path = self.path / "metrics.jsonl"
        try:
            return [parse_json(line) for line in path.read_bytes().splitlines()] if is_file(path) else []
        except ValueError as error:
            raise DataError(f"{path} is not readable as one JSON object a line: {error}") from error

    @property
    def result(self) -> dict[str, Any]:
        """What came out: test accuracy and loss, parameters, epochs, seconds; figures are fractions of one."""
        path = self.path / "result.json"
        result = _read_json(path)
        for name in _FIGURES:
            if type(result.get(name)) not in (int, float):
                raise DataError(f"{path} is not what a training wrote: {name} is missing or no number")
        return result

    @property
    def finished(self) -> bool:
        """Whether the training came to its end."""
        return is_file(self.path / "result.json")

    @property
    def complete(self) -> bool:
        """Whether nothing is left to do: it is finished, and its classifier is there, or no checkpoint from which to make it again."""
        return self.finished and (is_file(self.path / "classifier" / "config.json") or not self.resumable)

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return has_checkpoint(self.path / "checkpoint")

    @cached_property
    def classifier(self) -> Classifier:
        """The trained classifier."""
        return Classifier.load(self.path)

    def write_config(self, config: Mapping[str, Any]) -> None:
        """Write `config.json` with its checksum, and first its copy."""
        document = {**config, _CHECKSUM: _checksum(config)}
        (self.path / _COPY).parent.mkdir(exist_ok=True)
        for path in (self.path / _COPY, self.path / "config.json"):
            write_json(path, document)

    def write_metrics(self, rows: list[dict[str, Any]]) -> None:
        """Write `metrics.jsonl` whole, so that no line is ever lost, doubled or half written; and the same as `metrics.csv`."""
        write_atomically(self.path / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows).encode())
        write_atomically(self.path / "metrics.csv", utf8(_as_csv(rows)))

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write `result.json`, the last file of a run."""
        write_json(self.path / "result.json", result)


def _as_csv(rows: list[dict[str, Any]]) -> str:
    """The rows under a line of column names: each block's dead channels a column of its own, what was found as its sentences."""
    flat = []
    for row in rows:
        channels = {f"dead channels, {block}": share for block, share in row.get("dead_channels", {}).items()}
        found = " | ".join(finding["message"] for finding in row.get("findings", ()))
        flat.append({name: value for name, value in row.items() if name != "dead_channels"} | channels | {"findings": found})
    if not flat:
        return ""
    columns = list(dict.fromkeys(name for row in flat for name in row))
    lines = [comma_separated(columns), *(comma_separated(row.get(name) for name in columns) for row in flat)]
    return "".join(f"{line}\n" for line in lines)


def new_run_folder(stem: str) -> Path:
    """`runs/<stem>`, or the first of `runs/<stem>-2`, `-3`, ... that does not exist."""
    path, number = Path("runs") / stem, 2
    while exists(path):
        path, number = Path("runs") / f"{stem}-{number}", number + 1
    return path


@contextlib.contextmanager
def opened(path: Path, *, resume: bool, overwrite: bool) -> Iterator[Run]:
    """A run folder for one training alone: made, or taken over as asked, and locked against a second process.

    Raises:
        ValueError: it holds a run and nothing was said of it, holds something else, or another process trains into it.
        OSError: it cannot be made or written to.
    """
    run = Run(path)
    if exists(path) and not is_folder(path):
        raise ValueError(f"{path} is a file; a run needs a folder, choose another --out")
    path.mkdir(parents=True, exist_ok=True)
    # What lies there is looked at under the lock: until then another process may still be writing it.
    with locked(path):
        names = {entry.name for entry in path.iterdir()}
        found = holds_run(path)
        if names - _BEGUN and not found:
            raise ValueError(f"{path} is not empty and holds no run; nothing there is touched, choose another --out")
        if found and not (resume or overwrite):
            raise ValueError(
                f"{path} already holds a run; --resume (resume=True) goes on with it, --overwrite "
                "(overwrite=True) replaces it, or choose another --out"
            )
        if not resume:
            _remove_parts(path)
        for aside in path.glob(".curves.*.png"):  # of a process that was killed while it drew
            aside.unlink(missing_ok=True)
        yield run


def is_run_folder(path: Path) -> bool:
    """Whether a folder holds a run, or nothing but what a training leaves that was killed before its configuration stood."""
    if not is_folder(path):
        return False
    return not {entry.name for entry in path.iterdir()} - _BEGUN or holds_run(path)


def remove_run(path: Path) -> None:
    """Take a run away, and its folder where nothing else is in it.

    Raises:
        ValueError: another process trains into it.
    """
    with locked(path):
        _remove_parts(path)
        for aside in (*path.glob(".curves.*.png"), path / "config.json.tmp"):  # of a process that was killed while it wrote
            aside.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not empty: what a training has not written stays
        path.rmdir()


def holds_run(path: Path) -> bool:
    """Whether a folder holds the configuration of a run, from which alone nothing can be gone on with."""
    # With a copy that is whole beside it, a config.json that is not is a run's all the same.
    return exists(path / "config.json") and (_is_config(path / "config.json") or _is_config(path / _COPY))


def _remove_parts(path: Path) -> None:
    for part in (path / name for name in _PARTS):
        if is_folder(part):
            shutil.rmtree(part, ignore_errors=True)
        else:
            part.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """A folder for one process alone.

    Raises:
        ValueError: another process trains into it.
    """
    with locked_folder(path) as alone:
        if not alone:
            raise ValueError(f"another process is training into {path}; wait for it, or choose another --out")
        yield


def _is_config(path: Path) -> bool:
    """Whether this is the configuration of a run: other programs have a `config.json` too, and theirs is never overwritten."""
    try:
        return read_json(path).keys() >= _CONFIG_HAS
    except (OSError, ValueError):
        return False


def _checksum(config: Mapping[str, Any]) -> str:
    """Of the values, so that a file that was only laid out anew is the same."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def _read_sealed(path: Path, *, sealed: bool) -> dict[str, Any]:
    """A configuration that has the checksum written with it; those of earlier versions have none, which `sealed` does not accept."""
    config = _read_json(path)
    expected = config.pop(_CHECKSUM, None)
    if (sealed or expected is not None) and expected != (found := _checksum(config)):
        raise DataError(f"{path} is not as the training wrote it (SHA-256 of its values {found[:12]}, expected {str(expected)[:12]})")
    return config


def _read_json(path: Path) -> dict[str, Any]:
    if not is_file(path):
        raise ValueError(f"{path} is missing: {path.parent} is no run, or its training has not come so far")
    try:
        return read_json(path)
    except ValueError as error:
        raise DataError(f"{path} is not readable as JSON: {error}") from error
