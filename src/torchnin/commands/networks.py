"""A network by name or out of a run, with the choices of its configuration as flags."""

import dataclasses
import difflib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args

import tyro

import torchnin
from torchnin.commands.loading import load_classifier, on_the_hub
from torchnin.files import exists, path_of

if TYPE_CHECKING:
    from torchnin import NiN, NiNConfig


_T = TypeVar("_T")
_WORDS = {"true": True, "false": False}
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
    """Batch normalisation after every convolution that a ReLU follows."""
    class_map_relu: Given[bool] = None
    """ReLU on the class maps."""
    class_hidden: Annotated[Given[str], tyro.conf.arg(metavar="WIDTHS")] = None
    """Widths of the last block before the class maps: 384-192 steps down, 10-10 is ten channels at once."""
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


def make_network(name: str, choices: NetworkChoices) -> tuple["NiN", tuple[int, int, int]]:
    """A named network or a variant of one, with the choices made; or the network of a run or saved classifier. With its pictures' shape.

    Raises:
        ValueError: it is none of these, or choices were given for a trained network.
    """
    if is_trained(name):
        if choices.given():
            raise ValueError(f"{name} is a trained network; leave out {', '.join('--' + key.replace('_', '-') for key in choices.given())}")
        classifier = load_classifier(name, device="cpu", backend="torch")
        p = classifier.preprocessing
        return classifier.network, (p.channels, p.height, p.width)
    config = named_config(name, choices)
    return torchnin.NiN(config), (config.in_channels, config.image_size, config.image_size)


def is_trained(name: str) -> bool:
    """Whether this is a path to a run or saved classifier, the name of weights that ship, or a place on the Hub, and no network's name."""
    return name not in torchnin.list_models() and (on_the_hub(name) or name in torchnin.list_weights() or exists(path_of(name, "name")))


def named_config(text: str, choices: NetworkChoices) -> "NiNConfig":
    """The configuration of `nin_d2l`, or of its variant `nin_d2l:mlp_layers=1,head=fc`; what the variant says goes before the choices.

    Raises:
        ValueError: no network has the name, or a field or value is wrong.
    """
    return _changed(torchnin.model_entry(text.partition(":")[0]).config, chosen_fields(text, choices))


def chosen_fields(text: str, choices: NetworkChoices) -> dict[str, Any]:
    """What is chosen of a network otherwise than its name says, by the variant and else by the choices.

    Raises:
        ValueError: a field of the variant is unknown or given twice, or a value is not of its kind.
    """
    _, colon, changes = text.partition(":")
    return {**choices.given(), **(_variant(text, changes) if colon else {})}


def _changed(config: "NiNConfig", fields: Mapping[str, Any]) -> "NiNConfig":
    given = dict(fields)
    widths = given.pop("class_hidden", None)
    if widths is not None:
        hidden, most = _widths(widths), given.get("mlp_layers", config.mlp_layers)
        if len(hidden) > most:
            raise ValueError(
                f"class_hidden {widths} has {len(hidden)} widths; with mlp_layers {most} the last block has {most} before the class maps"
            )
        given["class_block"] = dataclasses.replace(config.class_block, hidden=hidden)
    changed = dataclasses.replace(config, **given)
    # What would say nothing was meant to say something.
    if "mlp_kernel_size" in given and not changed.mlp_layers:
        raise ValueError("mlp_kernel_size is the kernel of the 1x1 convolutions, and with mlp_layers 0 there are none; leave one out")
    if "dropout_kind" in given and not changed.dropout:
        raise ValueError("dropout_kind says what is zeroed, and with dropout 0 nothing is; give dropout too, or leave it out")
    return changed


def _widths(text: str) -> tuple[int, ...]:
    if not re.fullmatch(r"[1-9][0-9]*(-[1-9][0-9]*)*", text):
        raise ValueError(f"class_hidden is {text!r}; give widths with a dash between them, such as 384-192")
    return tuple(map(int, text.split("-")))


def _variant(text: str, changes: str) -> dict[str, Any]:
    """`mlp_layers=1,head=fc` as fields of a network's configuration.

    Raises:
        ValueError: a field is unknown or given twice, or a value is not of its kind.
    """
    fields = {field.name: field for field in dataclasses.fields(NetworkChoices)}
    found: dict[str, Any] = {}
    for change in changes.split(","):
        name, equals, value = change.partition("=")
        if not equals or not name or not value:
            raise ValueError(f"{text!r}: expected FIELD=VALUE after the colon, found {change!r}; such as nin_d2l:mlp_layers=1,head=fc")
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ValueError(f"{text!r}: a variant has no field {name!r}; {hint}the fields: {', '.join(fields)}")
        if name in found:
            raise ValueError(f"{text!r}: {name} is given twice")
        found[name] = _value(text, name, value, get_args(get_args(fields[name].type)[0])[0])
    return found


def _value(text: str, name: str, value: str, kind: Any) -> Any:
    """A value of a field whose type is int, float, str, bool, or a Literal of numbers or words."""
    accepted = tuple(_WORDS) if kind is bool else tuple(map(str, get_args(kind)))
    if accepted and value in accepted:
        return _WORDS[value] if kind is bool else get_args(kind)[accepted.index(value)]
    if not accepted:
        try:
            return kind(value)
        except ValueError:
            accepted = ("a whole number" if kind is int else "a number",)
    raise ValueError(f"{text!r}: {name} is {value!r}; accepted: {', '.join(accepted)}")


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


def shape_text(shape: Iterable[int]) -> str:
    """The inverse of `picture_shape`."""
    return "x".join(map(str, shape))
