"""Checkpoints: atomic, complete, checked when read, free of pickle."""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from torchnin.files import MAX_JSON_BYTES, is_folder, parse_json, write_atomically
from torchnin.training.errors import TrainingError

_KEPT = 2  # the newest, and the one before it in case the newest turns out broken
# How a checkpoint's JSON file begins: with the SHA-256 of all that follows. Those of earlier versions begin with the tensors' alone.
_SEALED, _UNSEALED = b'{"whole": "', b'{"sha256": "'
_HEX = 64


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The state of a training between two steps."""

    tensors: dict[str, Tensor]
    """Weights, running mean, optimiser state, counters."""
    progress: dict[str, Any]
    """Plain values: where the training stands."""
    passed_over: tuple[str, ...] = ()
    """Names of newer ones that are broken: no copies to fall back on, and gone when the next one is written."""

    def to_bytes(self) -> bytes:
        """All of it in one piece, for another process."""
        plain = json.dumps(self.progress).encode()
        return len(plain).to_bytes(8, "big") + plain + _packed(self.tensors)

    @classmethod
    def from_bytes(cls, data: bytes) -> "Checkpoint":
        """The inverse of `to_bytes`."""
        end = 8 + int.from_bytes(data[:8], "big")
        return cls(tensors=load(data[end:]), progress=json.loads(data[8:end]))


def write_checkpoint(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint so that a crash at any moment leaves this one or the one before it, whole.

    Two files a checkpoint: the tensors, then a small JSON file with their SHA-256 and its own, whose presence says that all is written.

    Raises:
        OSError: the disk is full or the folder cannot be written to; earlier checkpoints are untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # After a recovery the same step comes again: under a name of its own, so that the file of before stays until the new one is whole.
    again = checkpoint.progress.get("recoveries", 0)
    name = f"step-{checkpoint.progress['step']:09d}" + (f"-{again}" if again else "")
    data = _packed(checkpoint.tensors)
    document = json.dumps({"sha256": hashlib.sha256(data).hexdigest(), "progress": checkpoint.progress}).encode()
    write_atomically(folder / f"{name}.safetensors", data)
    write_atomically(folder / f"{name}.json", _sealed(document))
    # Files of later steps are broken checkpoints that were passed over when the training was resumed, which has since gone on.
    passed_over = set(checkpoint.passed_over) - {name}
    kept = [path.stem for path in _newest_first(folder) if path.stem <= name and path.stem not in passed_over][:_KEPT]
    for path in sorted(folder.glob("step-*")):  # a .json goes before its .safetensors, so that what is left is never half of one
        if path.name.partition(".")[0] not in kept or path.suffix == ".tmp":
            path.unlink()


def read_checkpoint(folder: Path, check: Callable[[Any], None] | None = None) -> tuple[Checkpoint, list[str]]:
    """The newest whole checkpoint, and a sentence for each newer one that is broken.

    Args:
        folder: where they lie.
        check: raises ValueError for plain values from which nothing can go on; such a checkpoint is broken too.

    Raises:
        TrainingError: there is none.
    """
    broken: list[str] = []
    passed_over: list[str] = []
    for path in _newest_first(folder):
        try:
            found = dataclasses.replace(_read_whole(path, check), passed_over=tuple(passed_over))
            return found, [f"{sentence}; the checkpoint before it is used" for sentence in broken]
        except (OSError, ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
            broken.append(f"{path} is broken ({error})")
        except _BrokenError as error:
            broken.append(str(error))
        passed_over.append(path.stem)
    raise TrainingError("; ".join([*broken, f"{folder} holds no whole checkpoint to resume from; train anew with --overwrite"]))


def has_checkpoint(folder: Path) -> bool:
    """Whether there is anything to resume from."""
    return any(_newest_first(folder))


class _BrokenError(Exception):
    """A file does not have the checksum that was written with it."""


def _read_whole(path: Path, check: Callable[[Any], None] | None) -> Checkpoint:
    """The checkpoint whose JSON file this is, whole as it was written."""
    with path.open("rb") as file:
        data = file.read(MAX_JSON_BYTES + 1)
    if data.startswith(_SEALED):
        end = len(_SEALED) + _HEX
        _check(path, data[end:], data[len(_SEALED) : end].decode("ascii", "replace"))
    elif not data.startswith(_UNSEALED):
        raise _BrokenError(f"{path} is broken (it does not begin as a checkpoint does)")
    document = parse_json(data)
    if check is not None:
        check(document.get("progress"))
    tensors = path.with_suffix(".safetensors")
    data = tensors.read_bytes()
    _check(tensors, data, str(document.get("sha256")))
    return Checkpoint(tensors=load(data), progress=document["progress"])


def _check(path: Path, data: bytes, expected: str) -> None:
    if (found := hashlib.sha256(data).hexdigest()) != expected:
        raise _BrokenError(f"{path} is broken (SHA-256 {found[:12]}, expected {expected[:12]})")


def _sealed(document: bytes) -> bytes:
    """A JSON object with the SHA-256 of all that follows it as its first entry."""
    rest = b'", ' + document[1:]
    return _SEALED + hashlib.sha256(rest).hexdigest().encode() + rest


def _packed(tensors: dict[str, Tensor]) -> bytes:
    return save({key: tensor.detach().cpu().contiguous() for key, tensor in tensors.items()})


def _newest_first(folder: Path) -> Iterator[Path]:
    found = folder.glob("step-*.json") if is_folder(folder) else ()
    return iter(sorted(found, key=lambda path: path.stem, reverse=True))
