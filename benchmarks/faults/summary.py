"""What kill.py and faults.py write: one JSON document of all that was run, written anew whenever a part of it has ended."""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from conditions import machine


def begun(path: Path, kind: str) -> dict[str, Any]:
    """What was written before, so that single parts can be run again; `kind` is the key that its parts stand under."""
    document: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {kind: {}}
    return document


def write(path: Path, found: dict[str, Any]) -> None:
    """Write what was found, with the machine it was found on."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(found | {"machine": machine("numpy", "pillow", "safetensors")}, indent=2, ensure_ascii=False) + "\n")


def today() -> str:
    """The date of a part, in UTC."""
    return datetime.now(UTC).date().isoformat()


def complain(sentence: str) -> None:
    """Say at once what was not as expected."""
    print(f"WRONG: {sentence}", file=sys.stderr, flush=True)
