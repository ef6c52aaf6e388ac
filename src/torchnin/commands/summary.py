"""`nin summary`: the layer table."""

from typing import Annotated

import tyro

import torchnin
from torchnin.commands.networks import Json, NetworkChoices, is_trained, make_network, picture_shape
from torchnin.commands.output import result

_NO_CHOICES = NetworkChoices()


def summary(
    network: Annotated[str, tyro.conf.Positional],
    *,
    shape: Annotated[str | None, tyro.conf.arg(name="input", metavar="CxHxW", help_behavior_hint="")] = None,
    batch_size: int = 1,
    choices: NetworkChoices = _NO_CHOICES,
    as_json: Json = False,
) -> None:
    """Show a network layer by layer: shapes, parameters, multiply-adds, receptive field, memory.

    Args:
        network: A named network or weights that ship (see `nin models`), a variant such as nin_d2l:head=fc, a run folder, a saved
            classifier, or hf-hub:OWNER/NAME.
        shape: Shape of one picture; without it the shape the network was made for, or trained on.
        batch_size: Pictures in the batch that is counted.
        choices: What to change in the network.
        as_json: Print one JSON document on standard output.
    """
    built, own = make_network(network, choices)
    picture = picture_shape(shape) if shape else own
    if picture[0] != own[0]:
        hint = "" if is_trained(network) else " (change it with --in-channels)"
        raise ValueError(f"--input {shape} has {picture[0]} channels; {network} takes {own[0]}{hint}")
    if shape:
        try:
            built.check_size(*picture[1:])
        except ValueError as error:
            raise ValueError(f"--input {shape}: {error}") from error
    made = torchnin.summarize(built, (batch_size, *picture))
    result(made.to_dict(), str(made), as_json)
