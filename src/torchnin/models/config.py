"""What there is to choose in a NiN, frozen and checked."""

import bisect
import dataclasses
import operator
from collections.abc import Iterable, Mapping
from typing import Any, Literal, SupportsFloat

POOL_KERNEL, POOL_STRIDE = 3, 2
"""Side of pooling's window and its step, in pixels: those of every published network."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class BlockConfig:
    """One NiN block of the body and whether pooling follows it."""

    channels: tuple[int, ...]
    """Width of the spatial convolution, then of each 1 x 1; the last one is the block's output."""
    kernel_size: int
    """Side of the spatial convolution's kernel, in pixels."""
    stride: int = 1
    """Step of the spatial convolution, in pixels."""
    padding: int = 0
    """Zeros added on each side before the spatial convolution, in pixels."""
    pool: bool = True
    """Whether pooling (window 3, stride 2) follows the block."""

    def __post_init__(self) -> None:
        _check_geometry(self)
        _check_widths(self, "channels", at_least=1)
        if self.pool not in (False, True):
            raise ValueError(f"pool is {self.pool!r}; accepted: False, True")
        object.__setattr__(self, "pool", bool(self.pool))

    def widths(self, mlp_layers: int) -> tuple[int, ...]:
        """The widths of the block's `1 + mlp_layers` convolutions.

        Hidden widths are cut, or filled up with the output's, so that a block of any depth keeps its output width.
        """
        *hidden, out = self.channels
        return _widths(tuple(hidden), out, mlp_layers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassBlockConfig:
    """The last NiN block, which ends in one class map per class."""

    hidden: tuple[int, ...] = ()
    """Widths before the class maps; those not given are as wide as there are classes (the notebooks' 10, 10, 10)."""
    kernel_size: int = 3
    """Side of the spatial convolution's kernel, in pixels."""
    stride: int = 1
    """Step of the spatial convolution, in pixels."""
    padding: int = 1
    """Zeros added on each side before the spatial convolution, in pixels."""

    def __post_init__(self) -> None:
        _check_geometry(self)
        _check_widths(self, "hidden", at_least=0)

    def widths(self, mlp_layers: int, num_classes: int) -> tuple[int, ...]:
        """The widths of the block's `1 + mlp_layers` convolutions; the last is `num_classes`."""
        return _widths(self.hidden, num_classes, mlp_layers)


@dataclasses.dataclass(frozen=True, kw_only=True)
class NiNConfig:
    """A whole network; `NiN(config)` builds it."""

    blocks: tuple[BlockConfig, ...]
    """The body: the blocks before the last one."""
    class_block: ClassBlockConfig
    """The last block, whose output is one map per class."""
    in_channels: int
    """Channels of the picture: 1 grey, 3 colour."""
    num_classes: int
    """Number of classes, and so of class maps."""
    image_size: int
    """Side in pixels of the pictures the network was designed for. Any admissible size works; only `head="fc"` is bound to it."""
    mlp_layers: Literal[0, 1, 2, 3] = 2
    """Number of 1 x 1 convolutions in each block; 2 in every published network, 0 leaves plain convolutions."""
    mlp_kernel_size: Literal[1, 3] = 1
    """Kernel of those convolutions; 3 asks what the 1 x 1 buys."""
    batch_norm: bool = False
    """Normalise after every convolution that a ReLU follows: all of them, or all but the class maps' with `class_map_relu=False`."""
    class_map_relu: bool = True
    """ReLU on the class maps, as published.

    A map that it silences for every picture gets no gradient, and lives again only where the layers below, which the other maps
    train, change what it sees (docs/why-nin-fails.md).
    """
    head: Literal["gap", "fc"] = "gap"
    """From class maps to logits: their means, or a fully connected layer on all their pixels (what the paper compares with)."""
    dropout: float = 0.5
    """Share of values zeroed while training, in [0, 1)."""
    dropout_kind: Literal["element", "channel"] = "element"
    """Zero single values (`Dropout`) or whole channels (`Dropout2d`)."""
    dropout_at: Literal["last", "every"] = "last"
    """Dropout only before the last block, or after every pooling too."""
    pool: Literal["max", "avg"] = "max"
    """Pooling kind, window 3 and stride 2."""
    pool_rounding: Literal["floor", "ceil"] = "floor"
    """Output size of pooling: floor as PyTorch and the notebooks, ceil as Caffe and the authors."""

    def __post_init__(self) -> None:
        for name in ("in_channels", "num_classes", "image_size"):
            object.__setattr__(self, name, _whole(getattr(self, name), name, at_least=1))
        if not isinstance(self.dropout, SupportsFloat) or not 0 <= float(self.dropout) < 1:
            raise ValueError(f"dropout is {self.dropout!r}; it is the share of values zeroed, at least 0 and below 1")
        object.__setattr__(self, "dropout", float(self.dropout))
        for name, accepted in _CHOICES.items():
            value = getattr(self, name)
            if (isinstance(value, bool) and not isinstance(accepted[0], bool)) or value not in accepted:
                raise ValueError(f"{name} is {value!r}; accepted: {', '.join(map(repr, accepted))}")
            # numpy's numbers are equal to Python's, and of them no record can be written.
            object.__setattr__(self, name, accepted[accepted.index(value)])
        blocks = tuple(self.blocks) if isinstance(self.blocks, Iterable) else (self.blocks,)
        if not blocks:
            raise ValueError("blocks is empty; a NiN has at least one block before its last one")
        for name, kind, parts in (("blocks", BlockConfig, blocks), ("class_block", ClassBlockConfig, (self.class_block,))):
            for part in parts:
                if not isinstance(part, kind):
                    raise ValueError(f"{name} has {part!r}; accepted: {kind.__name__}")
        object.__setattr__(self, "blocks", blocks)  # of a list there is no hash, and it equals no tuple

    def map_size(self, size: int) -> int | None:
        """Side of the class maps for a picture of side `size`, in pixels; None if the picture is too small for the layers."""
        side = size
        for block in self.blocks:
            side = _convolved(side, block.kernel_size, block.stride, block.padding)
            if block.pool and side > 0:
                side = (side - POOL_KERNEL + (POOL_STRIDE - 1 if self.pool_rounding == "ceil" else 0)) // POOL_STRIDE + 1
            if side < 1:
                return None
        last = self.class_block
        side = _convolved(side, last.kernel_size, last.stride, last.padding)
        return side if side > 0 else None

    @property
    def min_image_size(self) -> int:
        """The smallest side of a picture, in pixels, that leaves at least one pixel of class map."""
        size = 1
        while self.map_size(size) is None:
            size *= 2
        # A larger picture never has smaller maps.
        smaller = range(size // 2 + 1, size + 1)
        return smaller[bisect.bisect_left(smaller, True, key=lambda side: self.map_size(side) is not None)]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to `config.json`."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "NiNConfig":
        """The inverse of `to_dict`.

        Raises:
            ValueError: a field is unknown, missing or out of range.
        """
        try:
            fields = dict(values)
            fields["blocks"] = tuple(BlockConfig(**{**block, "channels": tuple(block["channels"])}) for block in fields["blocks"])
            last = fields["class_block"]
            fields["class_block"] = ClassBlockConfig(**{**last, "hidden": tuple(last["hidden"])})
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise ValueError(f"this is no description of a NiN: {error}; expected the fields of NiNConfig") from error


_CHOICES: dict[str, tuple[Any, ...]] = {
    "mlp_layers": (0, 1, 2, 3),
    "mlp_kernel_size": (1, 3),
    "batch_norm": (False, True),
    "class_map_relu": (False, True),
    "head": ("gap", "fc"),
    "dropout_kind": ("element", "channel"),
    "dropout_at": ("last", "every"),
    "pool": ("max", "avg"),
    "pool_rounding": ("floor", "ceil"),
}


def _widths(hidden: tuple[int, ...], out: int, mlp_layers: int) -> tuple[int, ...]:
    return (*hidden[:mlp_layers], *(out for _ in range(mlp_layers - len(hidden))), out)


def _convolved(side: int, kernel_size: int, stride: int, padding: int) -> int:
    return (side + 2 * padding - kernel_size) // stride + 1


def _integer(value: Any, name: str, what: str = "a whole number") -> int:
    """A whole number as Python's own: of numpy's no record can be written."""
    try:
        return int(operator.index(value))  # of True, index is True
    except TypeError:
        raise ValueError(f"{name} is {value!r}; it must be {what}") from None


def _whole(value: Any, name: str, at_least: int) -> int:
    found = _integer(value, name, f"a whole number of at least {at_least}")
    if found < at_least:
        raise ValueError(f"{name} is {value}; it must be at least {at_least}")
    return found


def _check_geometry(block: BlockConfig | ClassBlockConfig) -> None:
    for name in ("kernel_size", "stride", "padding"):
        object.__setattr__(block, name, _integer(getattr(block, name), name))
    kernel_size, stride, padding = block.kernel_size, block.stride, block.padding
    if kernel_size < 1 or stride < 1 or padding < 0:
        raise ValueError(
            f"a convolution of kernel {kernel_size}, stride {stride}, padding {padding}: "
            "kernel and stride must be at least 1, padding at least 0"
        )


def _check_widths(block: BlockConfig | ClassBlockConfig, name: str, at_least: int) -> None:
    given = getattr(block, name)
    if not isinstance(given, Iterable) or isinstance(given, str):
        raise ValueError(f"{name} is {given!r}; it is a row of widths, such as (96, 96, 96)")
    widths = tuple(_integer(width, f"a width of {name}") for width in given)
    object.__setattr__(block, name, widths)
    if len(widths) < at_least or any(width < 1 for width in widths):
        raise ValueError(f"{name} is {widths}; it needs at least {at_least} widths, each at least 1")
