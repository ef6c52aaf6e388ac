"""The records: what is trained, by which command, with how many seeds."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """A training whose accuracy is recorded over several seeds. Its recipe was chosen on held-out train pictures."""

    arguments: str
    """Of `nin train`, without seed and places."""
    num_seeds: int
    """Seeds 0, 1, ... of the whole record; the first one ships, however it did."""

    @property
    def command(self) -> str:
        """As a user types it."""
        return f"nin train {self.arguments}"


RECORDS = {
    "fashion-mnist-small": Record(arguments="fashion-mnist --num-epochs 40", num_seeds=5),
    # A digit's mirror image is no digit.
    "mnist": Record(arguments="mnist --model nin_mnist --num-epochs 8 --no-flip --shift 1", num_seeds=5),
}

# They say where and how far a training goes, not what it learns.
_PLACES = {"seed", "seeds", "out", "data-dir", "device"}
_MANNERS = {"json", "watch", "resume", "overwrite", "skip-broken"}


def choices(arguments: Sequence[str]) -> dict[str, str]:
    """What the arguments of `nin train` choose, whatever their order: values by flag, the data as `data`."""
    found = {"data": "fashion-mnist"}
    waiting = None
    for word in arguments:
        if word.startswith("--"):
            waiting, equals, value = word[2:].replace("_", "-").partition("=")
            found[waiting] = value
            if equals:
                waiting = None
        else:
            found[waiting or "data"] = word
            waiting = None
    return {flag: value for flag, value in found.items() if flag not in _PLACES | _MANNERS}


def made_by(config: Mapping[str, Any]) -> dict[str, str]:
    """What the command that a run's `config.json` records chose.

    Raises:
        ValueError: the run was not made by `nin train`.
    """
    _, *words = config["command"]
    if words[:1] != ["train"]:
        raise ValueError(f"the run was made by {' '.join(config['command'])!r}, and a record is made by nin train")
    return choices(words[1:])
