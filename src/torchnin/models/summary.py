"""The layer table: output shape, parameters, multiply-adds, receptive field, stride and memory, layer by layer."""

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .block import NiNBlock
from .folded import copied, makes_weights
from .nin import NiN

_MIB = 1024 * 1024
_NAMES = {
    "Conv2d": "conv",
    "BatchNorm2d": "norm",
    "MaxPool2d": "max pool",
    "AvgPool2d": "avg pool",
    "AdaptiveAvgPool2d": "GAP",
    "Linear": "linear",
}


class Sight(NamedTuple):
    """What the values of a map see of the picture, in pixels; at the beginning each sees its own."""

    centre: float = 0.0
    """The middle of what the first value sees, from 0."""
    stride: int = 1
    """From the middle of what a value sees to that of the next."""
    sees: int = 1
    """Side of the patch that a value sees."""

    def through(self, module: nn.Module) -> "Sight":
        """That of the map behind a layer."""
        if not isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
            return self
        kernel, stride, padding = map(_side, (module.kernel_size, module.stride, module.padding))
        centre = self.centre + ((kernel - 1) / 2 - padding) * self.stride
        return Sight(centre, self.stride * stride, self.sees + (kernel - 1) * self.stride)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerRow:
    """One layer of the table."""

    part: str
    """The part of the network the layer belongs to, such as `block 1`, `pool 1`, `head`."""
    layer: str
    """What it is, such as `conv 11x11/4`."""
    name: str
    """Its name inside the module, as in the state dict."""
    output_shape: tuple[int, ...]
    """Shape of its output, the batch first."""
    num_parameters: int
    """Weights and biases."""
    num_macs: int
    """Multiply-adds for the whole batch; a bias is no multiply-add, nor is pooling or ReLU."""
    receptive_field: int | None
    """Side of the patch of input pixels that one output value sees; None where it is the whole picture."""
    stride: int | None
    """Distance in input pixels between neighbouring outputs; None where there are no neighbours."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Summary:
    """The layer table of a network at one input shape; `str()` and `rich` print it."""

    input_shape: tuple[int, ...]
    """Shape of the input, the batch first."""
    rows: tuple[LayerRow, ...]
    """The layers in the order in which they run."""
    num_parameters: int
    """Parameters of the whole network."""
    num_macs: int
    """Multiply-adds of one forward pass of the whole batch."""
    activation_bytes: int
    """What autograd keeps of a forward pass until the backward pass, float32, without parameters and input."""
    predict_bytes: int
    """Memory to predict: parameters, buffers, and the largest input and output of a layer, which exist at the same time. float32."""
    train_bytes: int
    """Memory to train with momentum: parameters, their gradients and momentum, buffers, input, kept activations. float32."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values: the fields, with the rows as a list of objects."""
        return dataclasses.asdict(self)

    def to_json(self) -> str:
        """One JSON document of `to_dict`."""
        return json.dumps(self.to_dict(), indent=2)

    def __str__(self) -> str:
        header = ("part", "layer", "output shape", "parameters", "MACs", "sees", "stride")
        lines = [header]
        last = None
        for row in self.rows:
            lines.append(
                (
                    "" if row.part == last else row.part,
                    row.layer,
                    ",".join(map(str, row.output_shape)),
                    f"{row.num_parameters:,}" if row.num_parameters else "",
                    f"{row.num_macs:,}" if row.num_macs else "",
                    "all" if row.receptive_field is None else str(row.receptive_field),
                    "" if row.stride is None else str(row.stride),
                )
            )
            last = row.part
        lines.append(("total", "", "", f"{self.num_parameters:,}", f"{self.num_macs:,}", "", ""))
        widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
        text = [
            "  ".join(cell.ljust(w) if i < 3 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
            for line in lines
        ]
        rule = "-" * max(map(len, text))
        memory = (
            f"input {','.join(map(str, self.input_shape))}; memory at this batch, float32: "
            f"{self.predict_bytes / _MIB:.1f} MiB to predict, {self.train_bytes / _MIB:.1f} MiB to train "
            f"({self.activation_bytes / _MIB:.1f} MiB of it activations)"
        )
        return "\n".join([text[0], rule, *text[1:-1], rule, text[-1], memory])


def summarize(network: NiN, input_shape: tuple[int, int, int, int]) -> Summary:
    """The layer table of a NiN.

    A copy runs on the meta device: shapes and counts are what PyTorch itself makes of the layers, nothing is computed, no hook
    is called and the network is left as it was. Activations are what autograd really saves, each storage counted once.

    Args:
        network: the network to describe.
        input_shape: `(n, channels, height, width)` of a batch of pictures.

    Raises:
        TypeError: the network is no NiN.
        ValueError: the shape has not four positive numbers, or the network does not admit such pictures.
    """
    if not isinstance(network, NiN):
        raise TypeError(f"network is of type {type(network).__name__}; expected a NiN, as create_model makes it")
    sides = list(input_shape) if isinstance(input_shape, Iterable) else []
    if len(sides) != 4 or not all(isinstance(side, Integral) and side > 0 for side in sides):
        raise ValueError(f"input_shape is {input_shape!r}; it must be four positive numbers: batch, channels, height, width")
    twin = _unheard(copied(network).to("meta").float().train())
    inputs = torch.zeros(input_shape, device="meta")
    rows: list[LayerRow] = []
    peak = 0
    sight = Sight()
    parts = _parts(twin)

    def record(name: str, module: nn.Module, given: Tensor, result: Tensor) -> None:
        nonlocal sight, peak
        spatial = result.dim() == 4 and not isinstance(module, nn.AdaptiveAvgPool2d)
        sight = sight.through(module)
        peak = max(peak, _bytes(given) + (0 if _identity(given) == _identity(result) else _bytes(result)))
        rows.append(
            LayerRow(
                part=parts[name],
                layer=_describe(module),
                name=name,
                output_shape=tuple(result.shape),
                num_parameters=sum(parameter.numel() for parameter in module.parameters()),
                num_macs=_macs(module, result),
                receptive_field=sight.sees if spatial else None,
                stride=sight.stride if spatial else None,
            )
        )

    with _recording(twin, record):
        twin.eval()(inputs)  # in training, pooling is done before ReLU; the table shows the network as it is defined
    with _kept_by_autograd() as kept:
        twin.train()(inputs)
    parameters = sum(_bytes(parameter) for parameter in twin.parameters())
    state = parameters + sum(_bytes(buffer) for buffer in twin.buffers())
    own = {_identity(tensor) for tensor in (*twin.parameters(), *twin.buffers(), inputs)}
    activations = sum(storage.nbytes() for identity, storage in kept.items() if identity not in own)
    return Summary(
        input_shape=tuple(input_shape),
        rows=tuple(rows),
        num_parameters=sum(parameter.numel() for parameter in twin.parameters()),
        num_macs=sum(row.num_macs for row in rows),
        activation_bytes=activations,
        predict_bytes=state + peak,
        train_bytes=state + 2 * parameters + _bytes(inputs) + activations,
    )


def _unheard(network: NiN) -> NiN:
    """Without hooks, which are for values that pictures have, and here there are none; but for those that make weights."""
    for module in network.modules():
        for hooks in (module._forward_pre_hooks, module._forward_hooks):
            for number in [number for number, hook in hooks.items() if not makes_weights(hook)]:
                del hooks[number]
    return network


@contextmanager
def _recording(network: NiN, record: Callable[[str, nn.Module, Tensor, Tensor], None]) -> Iterator[None]:
    def hook(name: str) -> Callable[..., None]:
        return lambda module, given, result: record(name, module, given[0], result)

    handles = [module.register_forward_hook(hook(name)) for name, module in _layers(network)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _kept_by_autograd() -> Iterator[dict[int, torch.UntypedStorage]]:
    kept: dict[int, torch.UntypedStorage] = {}  # holds the storages, so that no address is used twice

    # In the tensor's place the graph keeps None: nobody goes back through it, and a graph that holds its own outputs is never freed.
    def keep(tensor: Tensor) -> None:
        kept[_identity(tensor)] = tensor.untyped_storage()

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda kept: kept):
        yield kept


def _identity(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _layers(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The modules that hold no others, by name; one whose weights are parametrised is such a layer, what makes its weights is none."""
    for name, inner in module.named_modules(prefix=prefix):
        held = [child for child, _ in inner.named_children()]
        if held in ([], ["parametrizations"]) and "parametrizations" not in name.split("."):
            yield name, inner


def _parts(network: NiN) -> dict[str, str]:
    """The part of the network that each layer stands in: `block 1`, `pool 1`, ..., `block 4`, `head`; of what was added, its name."""
    parts: dict[str, str] = {}

    def note(part: str, name: str, module: nn.Module) -> None:
        parts.update((leaf, part) for leaf, _ in _layers(module, name))

    blocks = 0
    for name, module in network.body.named_children():
        kind = "dropout" if isinstance(module, nn.Dropout | nn.Dropout2d) else "pool"
        if isinstance(module, NiNBlock):
            kind, blocks = "block", blocks + 1
        note(kind if kind == "dropout" else f"{kind} {blocks}", f"body.{name}", module)
    for name, module in network.named_children():
        if name != "body":
            note(f"block {blocks + 1}" if name == "class_block" else name, name, module)
    return parts


def _describe(module: nn.Module) -> str:
    name = type(module).__name__.removeprefix("Parametrized")
    kind = _NAMES.get(name, name.lower())
    if isinstance(module, nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d):
        kernel, stride = _side(module.kernel_size), _side(module.stride)
        return f"{kind} {kernel}x{kernel}" + (f"/{stride}" if stride > 1 else "")
    return kind


def _macs(module: nn.Module, result: Tensor) -> int:
    if isinstance(module, nn.Conv2d):
        return result.numel() * math.prod(module.kernel_size) * module.in_channels
    return result.numel() * module.in_features if isinstance(module, nn.Linear) else 0


def _side(size: Any) -> int:
    """A kernel, stride or padding, which PyTorch keeps as one number or two; those of a NiN are equal."""
    return size if isinstance(size, int) else size[0]
