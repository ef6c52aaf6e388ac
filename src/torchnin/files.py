"""Files written so that a crash leaves the old one or the new one, never a part."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


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
        os.replace(aside, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            aside.unlink()
        error.filename = str(path)  # the system's error for a write that fails names no file
        raise


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """`write_atomically` for a JSON document that people read."""
    write_atomically(path, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
