"""A convolution with fewer multiplications: pictures and kernels are transformed, multiplied pixel by pixel, and transformed back.

A row of `m` outputs of a kernel of `k` taps needs `m * k` products; seen as polynomials, which `m + k - 1` values determine, it needs
`m + k - 1`. In two dimensions that is a quarter to a fifth of the products of a 3x3 or 5x5 kernel here. What it costs is rounding: a result
is off by about 1e-5 of the largest, where the direct sum is off by 2e-6; tests/models/test_shortcuts.py holds it to that.

Source: Winograd, "Arithmetic complexity of computations" (1980); Lavin and Gray, "Fast algorithms for convolutional neural networks"
(arXiv 1509.09308).
"""

import functools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

_OUTPUTS = 4  # of a tile along an axis: more would need points whose powers lose digits
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # and infinity
# What the pictures that are transformed at once may take: enough rows for the products, little beside the layers' own outputs.
_MOST_BYTES = 8 * 2**20


class _Axis(NamedTuple):
    """The three linear maps along one axis of the picture; positions are ordered by point, then by tile."""

    analysis: Tensor
    """`(points * tiles, side)`: from a row of pixels to its values at the points, tile by tile, the zeros beside the picture included."""
    synthesis: Tensor
    """`(side, points * tiles)`: from products of values back to a row of pixels."""
    kernel: Tensor
    """`(points, taps)`: from a row of the kernel to its values at the points."""


def products(height: int, width: int, kernel: int) -> int:
    """Products per pair of channels of one picture, where the direct sum has `height * width * kernel ** 2`."""
    return len(_axis(height, kernel).analysis) * len(_axis(width, kernel).analysis)


@functools.lru_cache(maxsize=64)
def _axis(side: int, kernel: int) -> _Axis:
    points = _OUTPUTS + kernel - 1
    tiles = -(-side // _OUTPUTS)
    finite = torch.tensor(_POINTS[: points - 1], dtype=torch.float64, device="cpu")

    def values(degrees: int) -> Tensor:
        """Of a polynomial with so many coefficients at the points; at infinity that is its last coefficient."""
        powers = finite[:, None] ** torch.arange(degrees, device="cpu")
        last = torch.zeros(1, degrees, dtype=torch.float64, device="cpu")
        last[0, -1] = 1
        return torch.cat([powers, last])

    # Multiplying polynomials and sliding a kernel are each other's transposes.
    pixels, taps = torch.linalg.inv(values(points)).T, values(kernel)
    size = pixels.abs().amax(1, keepdim=True)  # the larger numbers are moved to the kernel, which is transformed once
    pixels, taps, outputs = pixels / size, taps * size, values(_OUTPUTS).T
    analysis = torch.zeros(points, tiles, side, dtype=torch.float64, device="cpu")
    synthesis = torch.zeros(side, points, tiles, dtype=torch.float64, device="cpu")
    for tile in range(tiles):
        for place in range(points):
            pixel = tile * _OUTPUTS + place - kernel // 2
            if 0 <= pixel < side:
                analysis[:, tile, pixel] = pixels[:, place]
        for place in range(min(_OUTPUTS, side - tile * _OUTPUTS)):
            synthesis[tile * _OUTPUTS + place, :, tile] = outputs[place]
    maps = (analysis.reshape(points * tiles, side), synthesis.reshape(side, points * tiles), taps)
    return _Axis(*(each.float().contiguous() for each in maps))


class Prepared:
    """A convolution that keeps the size of its pictures, its kernel transformed once.

    Args:
        weight: `(out_channels, channels, k, k)`, float32 on the host.
        bias: `(out_channels,)`.
        relu: whether negative results become zero.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, relu: bool = False) -> None:
        self._kernel, self._out_channels = weight.shape[-1], len(weight)
        self._values = _transformed(weight.transpose(0, 1))
        self._bias = None if bias is None else bias[:, None, None]
        self._relu = relu

    def __call__(self, pictures: Tensor) -> Tensor:
        """As `F.conv2d` with a padding that keeps the size, for `(n, c, h, w)` in channels-last memory, and in it."""
        rows, columns = (_axis(side, self._kernel) for side in pictures.shape[2:])
        shape = (len(pictures), self._out_channels, *pictures.shape[2:])
        output = torch.empty(shape, dtype=pictures.dtype, device=pictures.device, memory_format=torch.channels_last)
        at_once = _at_once(pictures, columns, self._values)
        for piece, target in zip(pictures.split(at_once), output.split(at_once), strict=True):
            number, channels, height = piece.shape[:3]
            spread = _spread(piece, columns.analysis)
            gathered = piece.new_empty(height, len(columns.analysis), number * self._out_channels)
            for values, here, there in zip(self._values, *_by_point(len(self._values), spread, gathered), strict=True):
                found = torch.bmm((rows.analysis @ here).view(len(values), -1, channels), values)
                torch.mm(rows.synthesis, found.view(len(rows.analysis), -1), out=there)
            result = _gathered(gathered, columns.synthesis, piece)
            if self._bias is None:
                target.copy_(result)
            else:
                torch.add(result, self._bias, out=target)
        return output.relu_() if self._relu else output


def gradients(pictures: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Of pictures and weight, from the output's; nothing transformed is kept from the way forward, which would be several times them."""
    rows, columns = (_axis(side, weight.shape[-1]) for side in pictures.shape[2:])
    values = _transformed(weight)
    grad_values = weight.new_zeros(*values.shape[:2], weight.shape[1], weight.shape[0])
    grad_pictures = torch.empty_like(pictures, memory_format=torch.channels_last)
    at_once = _at_once(pictures, columns, values)
    for piece, slope, target in zip(*(whole.split(at_once) for whole in (pictures, grad, grad_pictures)), strict=True):
        spread, slopes = _spread(piece, columns.analysis), _spread(slope, columns.synthesis.T)
        gathered = torch.empty_like(spread)
        for point, (here, slopes_here, there) in enumerate(zip(*_by_point(len(values), spread, slopes, gathered), strict=True)):
            points, out_channels, channels = values[point].shape
            seen = (rows.analysis @ here).view(points, -1, channels)
            sloped = (rows.synthesis.T @ slopes_here).view(points, -1, out_channels)
            grad_values[point].baddbmm_(seen.transpose(1, 2), sloped)
            torch.mm(rows.analysis.T, torch.bmm(sloped, values[point]).view(len(rows.analysis), -1), out=there)
        target.copy_(_gathered(gathered, columns.analysis.T, piece))
    taps = torch.kron(columns.kernel, rows.kernel).T @ grad_values.flatten(2).flatten(0, 1)
    return grad_pictures, taps.view(*weight.shape[:1:-1], *grad_values.shape[2:]).permute(3, 2, 1, 0)


def _transformed(weight: Tensor) -> Tensor:
    """`(a, b, k, k)` to `(points across, points down, a, b)`, contiguous: one product, behind which nothing needs to be moved."""
    taps = _axis(1, weight.shape[-1]).kernel
    first, second, kernel, _ = weight.shape
    found = torch.kron(taps, taps) @ weight.permute(3, 2, 0, 1).reshape(kernel * kernel, first * second)
    return found.view(len(taps), len(taps), first, second)


# Transformed across, pictures are (line, point and tile across, picture and channel). What follows goes from point to point across: there
# the lines are transformed down, and for each point down there is one matrix of (tile down and across, picture) by channel.


def _at_once(pictures: Tensor, columns: _Axis, values: Tensor) -> int:
    """How many pictures are transformed at once."""
    return max(1, _MOST_BYTES // (values.element_size() * pictures.shape[2] * len(columns.analysis) * max(values.shape[2:])))


def _spread(pictures: Tensor, across: Tensor) -> Tensor:
    """`(n, c, h, w)` to `(h, len(across), n * c)`."""
    number, channels, height, width = pictures.shape
    lines = pictures.permute(2, 3, 0, 1).reshape(height, width, number * channels)
    return torch.bmm(across.expand(height, -1, -1), lines)


def _gathered(lines: Tensor, across: Tensor, like: Tensor) -> Tensor:
    """`(h, w', n * c)` to `(n, c, h, len(across))`."""
    found = torch.bmm(across.expand(len(lines), -1, -1), lines)
    return found.view(*found.shape[:2], len(like), -1).permute(2, 3, 0, 1)


def _by_point(points: int, *spread: Tensor) -> Iterator[list[Tensor]]:
    """Of each of some pictures that are transformed across, the lines at every point across."""
    for each in spread:
        yield list(each.view(len(each), points, -1).unbind(1))
