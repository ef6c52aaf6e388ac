"""What the plain values of a checkpoint must be for a training to go on from them."""

import json
import sys
from collections.abc import Callable
from typing import Any

_Values = tuple[str, Callable[[Any], bool]]

_MOST = 10**18  # of anything that is counted here, far more than there can be
_LARGEST = sys.float_info.max  # a loss may come to anything that is finite, and neither infinity nor NaN is at most this
_WHOLE: _Values = ("a whole number of at least 0", lambda value: type(value) is int and 0 <= value < _MOST)
_NUMBER: _Values = ("a number of at least 0", lambda value: type(value) in (int, float) and 0 <= value <= _LARGEST)
_TEXT: _Values = ("text", lambda value: type(value) is str)
_SHARES: _Values = (
    "an object of numbers of at least 0",
    lambda value: type(value) is dict and all(_NUMBER[1](share) for share in value.values()),
)
_FINDING = {"kind": _TEXT, "epoch": _WHOLE, "step": _WHOLE, "message": _TEXT}
_ROW = {
    "epoch": _WHOLE,
    "train_loss": _NUMBER,
    "train_accuracy": _NUMBER,
    "images_per_second": _NUMBER,
    "dead_class_maps": _WHOLE,
    "seconds": _NUMBER,
}
_STATE: dict[str, Any] = {
    "step": _WHOLE,
    "epoch_seconds": _NUMBER,
    "total_seconds": _NUMBER,
    "rows": [_ROW],
    "findings": [_FINDING],
    "monitor": {"recent_steps": _WHOLE, "dead_channels": _SHARES, "said": [_TEXT]},
    "lr_scale": ("a number above 0 and at most 1", lambda value: type(value) in (int, float) and 0 < value <= 1),
    "recoveries": _WHOLE,
}
_PIECES: _Values = ("a whole number of at least 1", lambda value: type(value) is int and 1 <= value < _MOST)
# Not in every checkpoint: those of earlier versions lack the first, and only a training that recovers has the second.
_OPTIONAL: dict[str, Any] = {"pieces": _PIECES, "good": _STATE}


def check_progress(progress: Any) -> None:
    """Raise ValueError naming the first value that is missing or none that a training writes, what is expected, and what was found."""
    _check(progress, _STATE, "progress")
    for name, expected in _OPTIONAL.items():
        if name in progress:
            _check(progress[name], expected, f"progress.{name}")
    for state in (progress, progress.get("good", progress)):
        # Earlier versions have none of these.
        _check(state["monitor"].get("begun", 0), _WHOLE, "progress.monitor.begun")
        _check(state["monitor"].get("first_norms", {}), _SHARES, "progress.monitor.first_norms")


def _check(value: Any, expected: Any, name: str) -> None:
    """`expected` is an object with these fields, a list of what it holds, or a value in words and as a condition."""
    if isinstance(expected, tuple):
        words, holds = expected
        if not holds(value):
            raise ValueError(f"{name}: expected {words}, found {_shown(value)}")
    elif isinstance(expected, list):
        if type(value) is not list:
            raise ValueError(f"{name}: expected a list, found {_shown(value)}")
        for number, each in enumerate(value):
            _check(each, expected[0], f"{name}[{number}]")
    else:
        if type(value) is not dict:
            raise ValueError(f"{name}: expected an object, found {_shown(value)}")
        for field, what in expected.items():
            if field not in value:
                raise ValueError(f"{name}: expected the field {field!r}, found {_shown(sorted(value))}")
            _check(value[field], what, f"{name}.{field}")


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
