"""Which pictures lie below a folder, in which order."""

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from torchnin.data.pictures import SUFFIXES

NO_PICTURES = frozenset(("__MACOSX", "@eaDir", "lost+found"))
"""Folders that systems leave behind, which hold nobody's pictures."""


def pictures_below(folder: Path) -> list[Path]:
    """Every picture below a folder, by its name's ending, in natural order; hidden files are left out, loops of links end."""
    return sorted(each_picture_below(folder), key=lambda path: natural_key(str(path.relative_to(folder).as_posix())))


def each_picture_below(folder: Path) -> Iterator[Path]:
    """Like `pictures_below`, one after the other: held in memory are the names of the folders on the way, not of all pictures."""
    # A link up the tree would bring in the pictures of the other classes, so the folders above count as seen.
    seen = {_identity(above) for above in folder.resolve().parents}

    def walk(current: Path) -> Iterator[Path]:
        identity = _identity(current)
        if identity in seen:
            return
        seen.add(identity)
        # A folder's name ends in "/", so that it stands among its neighbours as the paths of what it holds do.
        names = sorted(_entries(current), key=natural_key)
        for name in names:
            if name.endswith("/"):
                yield from walk(current / name)
            else:
                yield current / name

    return walk(folder)


def _entries(folder: Path) -> Iterator[str]:
    """The names in a folder that count: those of pictures, and of folders with a "/" at their end."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_dir():
                if entry.name not in NO_PICTURES:
                    yield entry.name + "/"
            elif os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                yield entry.name


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def natural_key(name: str) -> tuple[object, ...]:
    """A sort key under which 2 comes before 10, and which is the same on every platform."""
    pieces = re.split(r"([0-9]+)", unicodedata.normalize("NFC", name))
    # Text stands at the even places and numbers at the odd ones, so that like is compared with like.
    return tuple(int(piece) if index % 2 else piece for index, piece in enumerate(pieces)), name
