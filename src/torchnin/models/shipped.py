"""Trained weights that come with the package: saved classifiers in the folder `weights` beside this one.

A copy of `models` alone has none, and asking for some says so.
"""

import dataclasses
import difflib
import hashlib
import json
from pathlib import Path

from torch import Tensor

from .config import NiNConfig
from .nin import NiN

WEIGHTS = Path(__file__).parents[1] / "weights"
# What a network may have otherwise than the weights were trained with: it changes neither their shapes nor what they compute.
_FREE = ("dropout", "dropout_kind", "dropout_at")


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightsEntry:
    """Weights that ship: what they are for, and what they reach."""

    name: str
    """As `load`, `create_model(pretrained=...)` and `nin` take it."""
    network: str
    """The named network that was trained."""
    config: NiNConfig
    """Its configuration, with the channels and classes of the data, and the size of the pictures that it learned from."""
    data: str
    """The dataset it was trained on."""
    test_accuracy: float
    """On that dataset's test pictures, a fraction of one."""
    test_accuracy_interval: tuple[float, float]
    """Its 95 % interval."""
    folder: Path
    """Where it lies: a saved classifier's folder, with the model card as README.md."""

    def fits_with(self, field: str) -> str:
        """What a network must have for these weights, in words, that field of its configuration among it."""
        fields = dict.fromkeys(("in_channels", "num_classes", field))
        return ", ".join(f"{each}={getattr(self.config, each)!r}" for each in fields)


def list_weights() -> tuple[str, ...]:
    """Names of the weights that ship."""
    # A folder of that name beside a copy of this one may hold anything: what ships has the record that its model card is made from.
    return tuple(path.parent.name for path in sorted(WEIGHTS.glob("*/card.json")))


def weights_entry(name: str) -> WeightsEntry:
    """The entry of weights that ship.

    Raises:
        TypeError: the name is no text.
        ValueError: no weights have that name; the message lists the nearest ones and those that ship.
    """
    if not isinstance(name, str):
        raise TypeError(f"the name of weights is text, and not of type {type(name).__name__}; {what_ships()}")
    if name not in list_weights():
        raise ValueError(f"no weights are named {name!r}; {what_ships(name)}")
    folder = WEIGHTS / name
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    metadata = described["metadata"]
    low, high = metadata["test_accuracy_interval"]
    return WeightsEntry(
        name=name,
        network=metadata["name"],
        config=dataclasses.replace(NiNConfig.from_dict(described["network"]), image_size=described["preprocessing"]["height"]),
        data=metadata["data"]["name"],
        test_accuracy=metadata["test_accuracy"],
        test_accuracy_interval=(low, high),
        folder=folder,
    )


def what_ships(asked: str = "") -> str:
    """The names of the weights that ship, as the second half of an error message; first those near to what was asked for."""
    entries = _entries()
    near = [entry.name for entry in entries if entry.network == asked]
    near = near or difflib.get_close_matches(asked.lower().replace("_", "-"), [entry.name for entry in entries], n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"{hint}weights that ship: {', '.join(f'{entry.name} ({entry.network})' for entry in entries) or 'none'}"


def fill(network: NiN, name: str, which: str | None) -> WeightsEntry:
    """Fill in the weights that ship for a named network.

    Args:
        network: the network, whose weights are replaced.
        name: its name.
        which: the weights' name; None takes those that fit, where several do the first by name.

    Returns:
        The weights that were taken.

    Raises:
        ValueError: none ship for this network, none fit it, or their file is broken.
    """
    given = [weights_entry(which)] if which else _entries()
    entries = [entry for entry in given if entry.network == name]
    if not entries:
        named = f"{which} are no weights of {name}" if which else f"no weights of {name} ship with this version"
        raise ValueError(f"{named}; {what_ships()}. Train your own with nin train --model {name}, and load the run")
    fitting = [entry for entry in entries if not _differing(entry.config, network.config)]
    if not fitting:
        field = _differing(entries[0].config, network.config)[0]
        asked = f"{field}={getattr(network.config, field)!r}"
        raise ValueError(
            f"the weights of {name} that ship do not fit {asked}: "
            + ", ".join(f"{entry.name} ({entry.fits_with(field)})" for entry in entries)
            + ". Ask for the network as it was trained; for other classes, reset_classifier on it keeps the body"
        )
    trained = NiN(fitting[0].config)
    trained.load_state_dict(_read(fitting[0].folder))
    # By order and not by name: layers without weights, such as dropout, count in the names.
    network.load_state_dict(dict(zip(network.state_dict(), trained.state_dict().values(), strict=True)))
    return fitting[0]


def _differing(trained: NiNConfig, asked: NiNConfig) -> list[str]:
    """The fields that keep weights from fitting."""
    free = _FREE if trained.head == "fc" else (*_FREE, "image_size")
    fields = (field.name for field in dataclasses.fields(NiNConfig) if field.name not in free)
    return [field for field in fields if getattr(trained, field) != getattr(asked, field)]


def _entries() -> list[WeightsEntry]:
    return [weights_entry(name) for name in list_weights()]


def _read(folder: Path) -> dict[str, Tensor]:
    """The tensors, whose file is checked against the checksum that stands beside it."""
    from safetensors.torch import load

    data = (folder / "model.safetensors").read_bytes()
    expected = json.loads((folder / "config.json").read_text(encoding="utf-8"))["weights_sha256"]
    if (found := hashlib.sha256(data).hexdigest()) != expected:
        raise ValueError(
            f"{folder / 'model.safetensors'} is not the file that ships: expected SHA-256 {expected[:12]}..., found {found[:12]}. "
            "Install torchnin anew."
        )
    return load(data)
