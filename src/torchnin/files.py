"""Files written so that a crash leaves the old one or the new one, never a part; what is there; locks; JSON read without trusting it;
streams that nobody may read.
"""

import contextlib
import errno
import json
import os
import shlex
import stat
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TextIO

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = ".lock"
"""On Windows, where a folder cannot be locked, the file in it that is; gone with the lock, unless the process was killed."""
# Seconds to wait between attempts to rename a file over one that somebody on Windows has open.
_PATIENCE = (0.01, 0.05, 0.2, 0.5, 1.0)
# Far above what a training of a hundred thousand epochs records; parsed, a document takes some twenty times its size.
MAX_JSON_BYTES = 64 << 20
# Answers that say that there is nothing, beside those that Python has exceptions for; on Windows: the drive is empty, no such name can be.
_NOTHING = (errno.EBADF, errno.ELOOP)
_NOTHING_ON_WINDOWS = (21, 123, 1921)


def exists(path: Path) -> bool:
    """Whether there is something. From Python 3.14 on `Path.exists` says no as well where it cannot know.

    Raises:
        OSError: it cannot be known, such as where a folder on the way may not be entered, or the name is too long.
    """
    return _mode(path) is not None


def is_file(path: Path) -> bool:
    """Whether there is a file; see `exists`."""
    return stat.S_ISREG(_mode(path) or 0)


def is_folder(path: Path) -> bool:
    """Whether there is a folder; see `exists`."""
    return stat.S_ISDIR(_mode(path) or 0)


def _mode(path: Path) -> int | None:
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno in _NOTHING or getattr(error, "winerror", None) in _NOTHING_ON_WINDOWS:
            return None
        raise
    except ValueError:  # a NUL character in the name
        return None


def path_of(given: Any, name: str) -> Path:
    """A path as a caller gave it, `~` for a user's folder; an empty text, which pathlib takes for the current folder, is none.

    Raises:
        TypeError: it is neither text nor a path.
        ValueError: it is empty, or of a user that there is not.
    """
    if not isinstance(given, str | os.PathLike):
        raise TypeError(f"{name} is of type {type(given).__name__}; accepted: a path")
    if not os.fspath(given):
        raise ValueError(f"{name} is an empty path; the current folder is '.'")
    return expanded(Path(given))


def expanded(path: Path) -> Path:
    """With the folder of a user in place of `~` or `~name`.

    Raises:
        ValueError: there is no user of that name, or the user has no such folder.
    """
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError(
            f"{path}: {path.parts[0]} stands for a user's home, and there is none; write ./{path} for a folder of that name"
        ) from error


def cache_folder() -> Path:
    """Where downloads and matplotlib's list of fonts are kept: $TORCHNIN_HOME, else $XDG_CACHE_HOME/torchnin, else ~/.cache/torchnin.

    Raises:
        ValueError: there is no home folder, or not that of the user who is named.
    """
    if home := os.environ.get("TORCHNIN_HOME"):
        return expanded(Path(home))
    if base := os.environ.get("XDG_CACHE_HOME"):
        return expanded(Path(base)) / "torchnin"
    try:
        return Path.home() / ".cache" / "torchnin"
    except RuntimeError as error:
        raise ValueError("there is no home folder to keep downloads in; set TORCHNIN_HOME to another one") from error


def in_command(path: str | os.PathLike[str]) -> str:
    """A path as it stands in a command that is shown to be copied: quoted where a shell would take it apart."""
    text = os.fspath(path)
    if sys.platform == "win32":  # names there hold no quotes
        return f'"{text}"' if " " in text else text
    return shlex.quote(text)


def require_place(path: Path, example: str) -> None:
    """Raise now what writing a file would raise after the work; its folder may be missing, and is made then.

    Raises:
        ValueError: the path is a folder; the sentence names a file `example` in it.
        OSError: nothing can be written into its folder, or that cannot be made.
    """
    if is_folder(path):
        raise ValueError(f"{path} is a folder; give the name of a file in it, such as {path / example}")
    there = next(parent for parent in path.absolute().parents if exists(parent))
    if not is_folder(there):
        raise NotADirectoryError(errno.ENOTDIR, "is a file, and no folder to write into; choose another one", str(there))
    if not os.access(there, os.W_OK):
        raise PermissionError(errno.EACCES, "nothing can be written into its folder; choose another one", str(path))


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file aside, flush it to the disk, and rename it.

    Raises:
        OSError: the disk is full or the folder cannot be written to; what was there before is untouched.
    """
    aside = path.with_name(path.name + ".tmp")
    try:
        with aside.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        replace(aside, path)
    except BaseException as error:  # Ctrl-C too
        with contextlib.suppress(OSError):
            aside.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)  # the system's error for a write that fails names no file
        raise


def replace(aside: Path, path: Path) -> None:
    """Rename a file over another one. On Windows, where that fails as long as somebody reads the other one, try again for two seconds.

    Raises:
        OSError: it cannot be done.
    """
    for seconds in _PATIENCE if sys.platform == "win32" else ():
        try:
            os.replace(aside, path)
        except PermissionError:
            time.sleep(seconds)
        else:
            return
    os.replace(aside, path)


def lock(file: int) -> bool:
    """Lock an open file until it is closed, which the death of the process does too; False where another process has it locked."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@contextlib.contextmanager
def locked_folder(path: Path) -> Iterator[bool]:
    """A folder that is locked while it is looked at; False where another process has it locked."""
    name = path / LOCK if sys.platform == "win32" else path
    file = os.open(name, os.O_RDWR | os.O_CREAT if sys.platform == "win32" else os.O_RDONLY)
    try:
        yield lock(file)
    finally:
        os.close(file)
        if sys.platform == "win32":
            with contextlib.suppress(OSError):  # whoever waits for it has it open
                name.unlink()


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """`write_atomically` for a JSON document that people read."""
    write_atomically(path, utf8(json.dumps(document, indent=2, ensure_ascii=False) + "\n"))


def utf8(text: str) -> bytes:
    """Text, as JSON with letters as they are, in UTF-8.

    A name that is no UTF-8 on the disk has characters that UTF-8 lacks: they become escapes, which are JSON's own.
    """
    return text.encode("utf-8", "backslashreplace")


def read_json(path: Path) -> dict[str, Any]:
    """A JSON document that `write_json` may have written.

    Raises:
        ValueError: it is longer than `MAX_JSON_BYTES`, no JSON, nested without end, or no object.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return parse_json(file.read(MAX_JSON_BYTES + 1))


def parse_json(data: bytes) -> dict[str, Any]:
    """`read_json` for the bytes of a document."""
    if len(data) > MAX_JSON_BYTES:
        raise ValueError(f"it is longer than {MAX_JSON_BYTES:,} bytes")
    try:
        document = json.loads(data)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(document, dict):
        raise ValueError(f"it holds no JSON object but {_KINDS[type(document)]}")
    return document


_KINDS = {list: "a list", str: "text", int: "a number", float: "a number", bool: "true or false", type(None): "null"}


def unfailing(stream: TextIO | None) -> Any:
    """The stream as one whose text is lost where nobody takes it, as of a terminal that was closed or a pipe that broke; None stays None.

    What rich draws on ends the work otherwise.
    """
    return None if stream is None else _Unfailing(stream)


class _Unfailing:
    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()
