"""From a network and a picture to what it saw where: class maps over the picture, feature maps, the MLP at a pixel.

The logits of a NiN with global average pooling are the means of its class maps, so a map says exactly how much each place
gave to its class; nothing here is estimated.
"""

import dataclasses
import math
import operator
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, SupportsIndex

import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

from torchnin.data import Preprocessing
from torchnin.models import NiN, NiNBlock
from torchnin.models.folded import is_mean
from torchnin.models.shortcuts import computes_as
from torchnin.models.summary import Sight
from torchnin.plots import Language, class_maps_over_picture, drawn_size
from torchnin.values import whole


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """Where the values of a map lie in the picture that the network saw, by the arithmetic of strides and paddings."""

    size: tuple[int, int]
    """Rows and columns of the map."""
    centre: float
    """The pixel, from 0, in the middle of what the first row (and column) sees; a fraction lies between pixels."""
    stride: int
    """Pixels from the middle of what a row sees to that of the next."""
    sees: int
    """Side of the patch of pixels that a value sees, as far as the picture goes: further than a stride, often nearly all of it."""
    picture_size: tuple[int, int]
    """Rows and columns of the picture that the network saw."""

    @property
    def seen(self) -> tuple[int, int]:
        """Rows and columns of pixels that a value sees at most."""
        return min(self.sees, self.picture_size[0]), min(self.sees, self.picture_size[1])

    def positions(self, axis: int, length: int) -> Float32[Tensor, "{length}"]:
        """Place in the map's row (`axis` 0) or column (1) numbers of each of `length` pixels that share the picture equally.

        Not rounded, and clipped to the map: beyond the middle of what its outermost values see, those go on.
        """
        seen = (torch.arange(length, device="cpu") + 0.5) * (self.picture_size[axis] / length) - 0.5
        return ((seen - self.centre) / self.stride).clamp(0, self.size[axis] - 1)

    def nearest(self, axis: int, length: int, pixel: int) -> int:
        """The row (`axis` 0) or column (1) of the map whose middle lies nearest to a pixel of `length`, from 0."""
        return math.floor(float(self.positions(axis, length)[pixel]) + 0.5)

    def upsample(self, maps: Float[Tensor, "k y x"], height: int, width: int) -> Float32[Tensor, "k {height} {width}"]:
        """The maps at another resolution of the same picture: bilinear between the middles of what their values see."""
        down, across = (_interpolation(self.positions(axis, n), self.size[axis]) for axis, n in ((0, height), (1, width)))
        with torch.autocast("cpu", enabled=False):
            return down @ maps.float() @ across.T


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Explanation:
    """What a network saw where in one picture."""

    class_names: tuple[str, ...]
    """The names of the k classes."""
    picture: UInt8[Tensor, "c h w"]
    """The picture at its own size."""
    class_maps: Float32[Tensor, "k y x"]
    """One map per class, as the network computed it; the mean of a map is its logit."""
    logits: Float32[Tensor, "k"]
    """The network's logits."""
    probabilities: Float32[Tensor, "k"]
    """Their softmax, each 0 to 1."""
    grid: Grid
    """Where the maps' values lie in the picture."""

    def top(self, count: int) -> tuple[int, ...]:
        """The most probable classes, at most `count` of them, the most probable first."""
        return tuple(self.logits.argsort(descending=True, stable=True)[: max(count, 0)].tolist())

    def upsampled(self, label: SupportsIndex | str) -> Float32[Tensor, "h w"]:
        """The map of a class, by number (also numpy's or torch's) or name, at the picture's own resolution; for looking at.

        Every value of the map stands at the middle of the patch of pixels that it sees, with bilinear interpolation between
        and the nearest value outside. The logit is the mean of the map in `class_maps`, not of this one.

        Raises:
            ValueError: there is no such class.
        """
        index = _class_index(label, self.class_names)
        return self.grid.upsample(self.class_maps[index : index + 1], *self.picture.shape[1:])[0]

    def to_dict(self, top: int = 3) -> dict[str, Any]:
        """Plain values for JSON: every probability and logit, and the maps of the `top` classes as rows of numbers."""
        best = self.top(top)
        return {
            "label": self.class_names[self.top(1)[0]],
            "probabilities": dict(zip(self.class_names, self.probabilities.tolist(), strict=True)),
            "logits": dict(zip(self.class_names, self.logits.tolist(), strict=True)),
            "class_maps": {self.class_names[index]: self.class_maps[index].tolist() for index in best},
        }

    def save(self, path: str | os.PathLike[str], *, top: int = 3, language: Language = "en") -> None:
        """Draw the picture and the class maps of the `top` most probable classes over it.

        Args:
            path: the file to write; its suffix says the format.
            top: how many classes, at least 1.
            language: of the words, "en" or "zh".

        Raises:
            ValueError: `top` is below 1, or suffix or language is unknown.
            ModuleNotFoundError: matplotlib is not installed.
        """
        if top < 1:
            raise ValueError(f"top is {top}; it must be at least 1, the number of classes whose maps are drawn")
        best = list(self.top(top))
        class_maps_over_picture(
            self.picture.numpy(),
            self.grid.upsample(self.class_maps[best], *drawn_size(*self.picture.shape[1:])).numpy(),
            [self.class_names[index] for index in best],
            self.probabilities[best].tolist(),
            self.logits[best].tolist(),
            path,
            values=self.grid.size,
            seen=self.grid.seen,
            given=self.grid.picture_size,
            language=language,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class BlockMaps:
    """What the layers of one NiN block make of a picture."""

    block: str
    """The block's name, as in the layer table: `block 1` and so on."""
    layers: tuple[tuple[str, Float32[Tensor, "_ y x"]], ...]
    """After each convolution with its normalisation and ReLU: the convolution's name, such as `3x3`, and its maps."""
    grid: Grid
    """Where the maps' values lie in the picture; the same for all layers of a block."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class PixelVectors:
    """The channels of one NiN block at one place: what goes into each 1 x 1 convolution there, and what comes out."""

    block: str
    """The block's name, as in the layer table: `block 1` and so on."""
    row: int
    """The place in the block's maps, from the top."""
    column: int
    """The place in the block's maps, from the left."""
    layers: tuple[tuple[str, Float32[Tensor, "_"]], ...]
    """After each convolution with its normalisation and ReLU: the convolution's name, such as `3x3`, and the channels' values.

    What stands before a `1x1` is the layer before it in this list.
    """


def explain(
    network: NiN, preprocessing: Preprocessing, class_names: Sequence[str], picture: UInt8[Tensor, "c h w"], *, resize: bool = True
) -> Explanation:
    """The class maps of one picture, with the logits that they are averaged to.

    Args:
        network: a trained NiN with `head="gap"`; it is left in the mode it was in.
        preprocessing: what it was trained with.
        class_names: the names of its classes.
        picture: uint8 `(c, h, w)` of the network's number of channels.
        resize: False lets the picture in at its own size, so that a larger picture gives larger maps.

    Raises:
        ValueError: the network's head is fully connected, the names do not fit, or the picture is too small for the layers.
    """
    require_means(network)
    names = tuple(class_names)
    if len(names) != network.num_classes:
        raise ValueError(f"{len(names)} class names for a network of {network.num_classes} classes; give one for each")
    inputs = prepared(network, preprocessing, picture[None], resize)
    with at_rest(network):
        maps = network.class_block(network.forward_features(inputs))
        logits = network.head(maps)[0].float().cpu()
    return Explanation(
        class_names=names,
        picture=picture.cpu(),
        class_maps=maps[0].float().cpu(),
        logits=logits,
        probabilities=logits.softmax(0),
        grid=class_map_grid(network, maps, inputs),
    )


def block_maps(
    network: NiN, preprocessing: Preprocessing, picture: UInt8[Tensor, "c h w"], *, resize: bool = True
) -> tuple[BlockMaps, ...]:
    """What every layer of every block makes of a picture, in the order in which they run; the very last are the class maps.

    Raises:
        ValueError: the picture is too small for the layers, or has another number of channels.
    """
    inputs = prepared(network, preprocessing, picture[None], resize)
    return tuple(
        BlockMaps(block=name, layers=tuple((layer, values[0]) for layer, values in layers), grid=_grid(sight, layers[-1][1], inputs))
        for sight, (name, layers) in zip(_sights(network), _run(network, inputs), strict=True)
    )


def feature_maps(
    network: NiN, preprocessing: Preprocessing, picture: UInt8[Tensor, "c h w"], *, resize: bool = True
) -> tuple[tuple[str, Float32[Tensor, "_ y x"]], ...]:
    """What each block makes of a picture: the block's name and its output `(channels, y, x)`; the last are the class maps.

    Raises:
        ValueError: the picture is too small for the layers, or has another number of channels.
    """
    return tuple((part.block, part.layers[-1][1]) for part in block_maps(network, preprocessing, picture, resize=resize))


def pixel_vectors(
    network: NiN, preprocessing: Preprocessing, picture: UInt8[Tensor, "c h w"], x: int, y: int, *, resize: bool = True
) -> tuple[PixelVectors, ...]:
    """The per-pixel MLP at work: of each NiN block, the channels at one place before and after each 1 x 1 convolution.

    Each step between two of them is one fully connected layer with the convolution's weights, the normalisation where
    there is one, and ReLU; no other place takes part.

    Args:
        network: a NiN.
        preprocessing: what it was trained with.
        picture: uint8 `(c, h, w)`.
        x: the pixel's column in the picture, 0 at the left.
        y: the pixel's row in the picture, 0 at the top.
        resize: False lets the picture in at its own size.

    Returns:
        One entry a block. The place in a block's maps is the one whose patch of pixels has its middle nearest to the pixel.

    Raises:
        ValueError: x or y is no whole number, the pixel lies outside the picture, or the picture does not suit the network.
    """
    height, width = picture.shape[1:]
    x, y = whole("x", x, "the pixel's column, from 0"), whole("y", y, "the pixel's row, from 0")
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f"pixel {x},{y} lies outside the picture: x goes from 0 to {width - 1}, y from 0 to {height - 1}")
    found = []
    for part in block_maps(network, preprocessing, picture, resize=resize):
        row, column = part.grid.nearest(0, height, y), part.grid.nearest(1, width, x)
        vectors = tuple((layer, values[:, row, column]) for layer, values in part.layers)
        found.append(PixelVectors(block=part.block, row=row, column=column, layers=vectors))
    return tuple(found)


def prepared(network: NiN, preprocessing: Preprocessing, pictures: Tensor, resize: bool) -> Tensor:
    """What the network is given of uint8 pictures `(n, c, h, w)`, on its device."""
    like = next(network.parameters())
    pictures = pictures.to(like.device)
    return (preprocessing(pictures) if resize else preprocessing.normalise(pictures.float())).to(like.dtype)


def require_means(network: NiN) -> None:
    """Raise ValueError where the logits are not the means of the class maps."""
    if not is_mean(network.head):
        replaced = "not the AdaptiveAvgPool2d and Flatten that it was built with, which take the means of the class maps"
        connected = "'fc': a fully connected layer makes its logits from all pixels of all class maps"
        raise ValueError(
            f"this network's head is {connected if network.config.head == 'fc' else replaced}, so its logits are not the means of the maps "
            "and a map does not say what its class got from where; "
            'explain a network with head="gap", or look at its feature maps and at the channels of a pixel'
        )


@contextmanager
def at_rest(network: NiN) -> Iterator[None]:
    """Evaluation mode without gradients and in the network's own dtype; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        with torch.no_grad(), torch.autocast(next(network.parameters()).device.type, enabled=False):
            yield
    finally:
        for module, training in modes:
            module.training = training


def _run(network: NiN, inputs: Tensor) -> list[tuple[str, list[tuple[str, Tensor]]]]:
    """Each block's name, and the outputs of its layers; a layer is a convolution with its normalisation and ReLU.

    Module by module, not by hooks, so that other threads may use the same network meanwhile.
    """
    network.check_pictures(inputs)
    found: list[tuple[str, list[tuple[str, Tensor]]]] = []
    with at_rest(network):
        for part in network.parts():
            if not isinstance(part, NiNBlock):
                inputs = part(inputs)
                continue
            layers: list[tuple[str, Tensor]] = []
            entering = inputs
            for module in part:
                inputs = module(inputs)
                # Only ends of layers are kept: what stands before a ReLU is overwritten by it.
                if isinstance(module, nn.Conv2d):
                    layers.append(("x".join(map(str, module.kernel_size)), inputs))
                else:
                    layers[-1] = (layers[-1][0], inputs)
            if not computes_as(part, NiNBlock):
                inputs = part(entering)  # a forward pass of its own may make more of it than its layers do
                layers[-1] = (layers[-1][0], inputs)
            found.append((f"block {len(found) + 1}", [(layer, values.float().cpu()) for layer, values in layers]))
    return found


def _sights(network: NiN) -> list[Sight]:
    """What the values behind each block see of the picture."""
    sight, found = Sight(), []
    for part in network.parts():
        for module in part.modules():
            sight = sight.through(module)
        if isinstance(part, NiNBlock):
            found.append(sight)
    return found


def class_map_grid(network: NiN, maps: Tensor, inputs: Tensor) -> Grid:
    """Where the values of class maps `(n, k, y, x)` lie in the inputs `(n, c, h, w)` that they are of."""
    sight = Sight()
    for module in (*network.body.modules(), *network.class_block.modules()):
        sight = sight.through(module)
    return _grid(sight, maps, inputs)


def _grid(sight: Sight, maps: Tensor, inputs: Tensor) -> Grid:
    return Grid(
        size=(maps.shape[2], maps.shape[3]),
        centre=sight.centre,
        stride=sight.stride,
        sees=sight.sees,
        picture_size=(inputs.shape[2], inputs.shape[3]),
    )


def _interpolation(positions: Tensor, size: int) -> Tensor:
    """The matrix `(positions, size)` that interpolates linearly between neighbours."""
    return (1 - (positions[:, None] - torch.arange(size, device="cpu")).abs()).clamp(min=0)


def _class_index(label: SupportsIndex | str, names: tuple[str, ...]) -> int:
    if isinstance(label, str):
        if label in names:
            return names.index(label)
    else:
        with suppress(TypeError):
            if 0 <= (index := operator.index(label)) < len(names):
                return index
    raise ValueError(f"there is no class {label!r}; classes are numbered 0 to {len(names) - 1} or named: {', '.join(names)}")
