"""A network by name or out of a run, with the choices of its configuration as flags."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import tyro

import torchnin

if TYPE_CHECKING:
    from torchnin import NiN


_T = TypeVar("_T")
# A flag that changes nothing unless it is given; its help says what holds then, so no default is printed.
Given = Annotated[_T | None, tyro.conf.arg(help_behavior_hint="")]
Switch = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help_behavior_hint="")]
Json = Annotated[
    bool,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.arg(name="json", help="Print one JSON document on standard output.", help_behavior_hint=""),
]
JsonLines = Annotated[
    bool,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.arg(name="json", help="Print a line of JSON per picture.", help_behavior_hint=""),
]
Csv = Annotated[
    bool,
    tyro.conf.FlagCreatePairsOff,
    tyro.conf.arg(name="csv", help="Print comma-separated values under a header line.", help_behavior_hint=""),
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class NetworkChoices:
    """What to change in the named network; left out, it is as published."""

    in_channels: Given[int] = None
    """Channels of the pictures: 1 grey, 3 colour."""
    num_classes: Given[int] = None
    """Number of classes."""
    mlp_layers: Given[Literal[0, 1, 2, 3]] = None
    """Number of 1x1 convolutions in each block."""
    mlp_kernel_size: Given[Literal[1, 3]] = None
    """Kernel of those convolutions."""
    batch_norm: Given[bool] = None
    """Batch normalisation after every convolution but the class maps'."""
    class_map_relu: Given[bool] = None
    """ReLU on the class maps."""
    head: Given[Literal["gap", "fc"]] = None
    """Global average pooling, or a fully connected layer."""
    dropout: Given[float] = None
    """Share of values zeroed while training."""
    dropout_kind: Given[Literal["element", "channel"]] = None
    """Zero single values or whole channels."""
    pool: Given[Literal["max", "avg"]] = None
    """Pooling kind."""
    pool_rounding: Given[Literal["floor", "ceil"]] = None
    """Rounding of the pooled size."""

    def given(self) -> dict[str, Any]:
        """The fields that were set."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


def make_network(name: str, choices: NetworkChoices) -> "NiN":
    """A named network with the choices made, or the network of a run or saved classifier.

    Raises:
        ValueError: it is neither, or choices were given for a trained network.
    """
    if name not in torchnin.list_models() and Path(name).exists():
        if choices.given():
            raise ValueError(f"{name} is a trained network; leave out {', '.join('--' + key.replace('_', '-') for key in choices.given())}")
        return torchnin.load(name, device="cpu").network
    return torchnin.create_model(name, **choices.given())


def picture_shape(text: str) -> tuple[int, int, int]:
    """`1x224x224` as (channels, height, width).

    Raises:
        ValueError: it is not three positive numbers.
    """
    parts = text.lower().split("x")
    if len(parts) != 3 or not all(part.isascii() and part.isdigit() and int(part) for part in parts):
        raise ValueError(f"{text!r} is no picture shape; give channels, height and width in pixels, such as 1x224x224")
    channels, height, width = map(int, parts)
    return channels, height, width
