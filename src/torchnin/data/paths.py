"""Which pictures lie below a folder, in which order."""

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from torchnin.data.pictures import SUFFIXES
from torchnin.files import is_file, is_folder

NO_PICTURES = frozenset(("__MACOSX", "@eaDir", "lost+found"))
"""Folders that systems leave behind, which hold nobody's pictures."""
_LEFT_BEHIND = frozenset(("thumbs.db", "desktop.ini"))


def pictures_below(folder: Path) -> list[Path]:
    """Every picture below a folder, by its name's ending, in natural order; hidden files and runs are left out, loops of links end."""
    return sorted(each_picture_below(folder), key=lambda path: natural_key(str(path.relative_to(folder).as_posix())))


def each_picture_below(folder: Path, others: Counter[str] | None = None) -> Iterator[Path]:
    """Like `pictures_below`, one after the other: held in memory are the names of the folders on the way, not of all pictures.

    `others` counts the files on the way that are not read, by the endings of their names (`count_other`).
    """
    # A link up the tree would bring in the pictures of the other classes, so the folders above count as seen.
    seen = {_identity(above) for above in folder.resolve().parents}

    def walk(current: Path) -> Iterator[Path]:
        identity = _identity(current)
        if identity in seen:
            return
        seen.add(identity)
        # A folder's name ends in "/", so that it stands among its neighbours as the paths of what it holds do.
        names = sorted(_entries(current, others), key=natural_key)
        for name in names:
            if name.endswith("/"):
                if not is_run(current / name):
                    yield from walk(current / name)
            else:
                yield current / name

    return walk(folder)


def is_run(folder: Path) -> bool:
    """Whether a training wrote this folder: its curves and explained pictures are nobody's photos."""
    return is_file(folder / "config.json") and is_folder(folder / "checkpoint")


def count_other(name: str, others: Counter[str]) -> None:
    """Count a file that is no picture by its ending, as a camera's whose format nobody here decodes; not what systems leave behind."""
    if not name.startswith(".") and name.lower() not in _LEFT_BEHIND:
        others[os.path.splitext(name)[1].lower() or "without an ending"] += 1


def others_sentence(others: Counter[str]) -> str:
    """Which files beside pictures are not read, said to who may have meant them."""
    kinds = ", ".join(f"{count:,} {ending}" for ending, count in others.most_common(8))
    more = " ..." if len(others) > 8 else ""
    return f"Files beside the pictures were left out, for names of pictures end in {', '.join(sorted(SUFFIXES))}: {kinds}{more}."


def _entries(folder: Path, others: Counter[str] | None) -> Iterator[str]:
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
            elif others is not None:
                count_other(entry.name, others)


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino


def natural_key(name: str) -> tuple[object, ...]:
    """A sort key under which 2 comes before 10, and which is the same on every platform."""
    pieces = re.split(r"([0-9]+)", unicodedata.normalize("NFC", name))
    # Text stands at the even places and numbers at the odd ones, so that like is compared with like.
    return tuple(int(piece) if index % 2 else piece for index, piece in enumerate(pieces)), name
