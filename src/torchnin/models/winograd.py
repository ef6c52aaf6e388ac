"""A convolution with fewer multiplications: pictures and kernels are transformed, multiplied pixel by pixel, and transformed back.

A row of `m` outputs of a kernel of `k` taps needs `m * k` products; seen as polynomials, which `m + k - 1` values determine, it needs
`m + k - 1`. In two dimensions that is a quarter to a fifth of the products of a 3x3 or 5x5 kernel here. What it costs is rounding: a result
is off by about 1e-5 of the largest, where the direct sum is off by 2e-6; tests/models/test_shortcuts.py holds it to that.

Source: Winograd, "Arithmetic complexity of computations" (1980); Lavin and Gray, "Fast algorithms for convolutional neural networks"
(arXiv 1509.09308).
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

_OUTPUTS = 4  # of a tile along an axis: more would need points whose powers lose digits
_POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)  # and infinity
# What the pictures that are transformed at once may take: enough rows for the products, little beside the layers' own outputs.
_MOST_BYTES = 16 * 2**20


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


def _at_once(weight: Tensor, rows: _Axis, columns: _Axis) -> int:
    """How many pictures are transformed at once."""
    return max(1, _MOST_BYTES // (weight.element_size() * len(rows.analysis) * len(columns.analysis) * max(weight.shape[:2])))


@functools.lru_cache(maxsize=64)
def _axis(side: int, kernel: int) -> _Axis:
    points = _OUTPUTS + kernel - 1
    tiles = -(-side // _OUTPUTS)
    finite = torch.tensor(_POINTS[: points - 1], dtype=torch.float64)

    def values(degrees: int) -> Tensor:
        """Of a polynomial with so many coefficients at the points; at infinity that is its last coefficient."""
        powers = finite[:, None] ** torch.arange(degrees)
        last = torch.zeros(1, degrees, dtype=torch.float64)
        last[0, -1] = 1
        return torch.cat([powers, last])

    # Multiplying polynomials and sliding a kernel are each other's transposes.
    pixels, taps = torch.linalg.inv(values(points)).T, values(kernel)
    size = pixels.abs().amax(1, keepdim=True)  # the larger numbers are moved to the kernel, which is transformed once
    pixels, taps, outputs = pixels / size, taps * size, values(_OUTPUTS).T
    analysis = torch.zeros(points, tiles, side, dtype=torch.float64)
    synthesis = torch.zeros(side, points, tiles, dtype=torch.float64)
    for tile in range(tiles):
        for place in range(points):
            pixel = tile * _OUTPUTS + place - kernel // 2
            if 0 <= pixel < side:
                analysis[:, tile, pixel] = pixels[:, place]
        for place in range(min(_OUTPUTS, side - tile * _OUTPUTS)):
            synthesis[tile * _OUTPUTS + place, :, tile] = outputs[place]
    maps = (analysis.reshape(points * tiles, side), synthesis.reshape(side, points * tiles), taps)
    return _Axis(*(each.float().contiguous() for each in maps))


def convolved(pictures: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """As `F.conv2d` with a padding that keeps the size, for `(n, c, h, w)` in channels-last memory, float32."""
    rows, columns = _axis(pictures.shape[2], weight.shape[-1]), _axis(pictures.shape[3], weight.shape[-1])
    values = torch.einsum("fy,gx,oiyx->fgio", rows.kernel, columns.kernel, weight).contiguous()
    number = _at_once(weight, rows, columns)
    output = torch.empty(len(pictures), len(weight), *pictures.shape[2:], memory_format=torch.channels_last)
    for piece, target in zip(pictures.split(number), output.split(number), strict=True):
        spread = _spread(piece, rows.analysis, columns.analysis)
        target.copy_(_gathered(_multiplied(spread, values), rows.synthesis, columns.synthesis))
    return output if bias is None else output.add_(bias[:, None, None])


def gradients(pictures: Tensor, weight: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Of pictures and weight, from the output's."""
    rows, columns = _axis(pictures.shape[2], weight.shape[-1]), _axis(pictures.shape[3], weight.shape[-1])
    values = torch.einsum("fy,gx,oiyx->fgoi", rows.kernel, columns.kernel, weight).contiguous()
    grad_pictures = torch.empty_like(pictures, memory_format=torch.channels_last)
    grad_values = weight.new_zeros(len(rows.kernel), len(columns.kernel), weight.shape[1], weight.shape[0])
    back = [axis.synthesis.T.contiguous() for axis in (rows, columns)]
    forth = [axis.analysis.T.contiguous() for axis in (rows, columns)]
    number = _at_once(weight, rows, columns)
    for piece, slope, target in zip(*(whole.split(number) for whole in (pictures, grad, grad_pictures)), strict=True):
        spread, slopes = _spread(piece, rows.analysis, columns.analysis), _spread(slope, *back)
        _add_products(grad_values, spread, slopes)
        target.copy_(_gathered(_multiplied(slopes, values), *forth))
    return grad_pictures, torch.einsum("fy,gx,fgio->oiyx", rows.kernel, columns.kernel, grad_values)


# Transformed pictures are (point and tile down, point and tile across, picture, channel): for each pair of points and each row of tiles
# there is one matrix of (tile across and picture, channel), as it lies.


def _spread(pictures: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """`(n, c, h, w)` to `(len(down), len(across), n, c)`."""
    number, channels, height, width = pictures.shape
    lines = (down @ pictures.permute(2, 3, 0, 1).reshape(height, -1)).view(len(down), width, -1)
    return torch.bmm(across.expand(len(down), -1, -1), lines).view(len(down), len(across), number, channels)


def _gathered(spread: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """`(h', w', n, c)` to `(n, c, len(down), len(across))`."""
    height, width, number, channels = spread.shape
    lines = torch.bmm(across.expand(height, -1, -1), spread.view(height, width, -1))
    return (down @ lines.view(height, -1)).view(len(down), len(across), number, channels).permute(2, 3, 0, 1)


def _multiplied(spread: Tensor, values: Tensor) -> Tensor:
    """By the kernels' values `(points, points, c, c')` at each pair of points."""
    down, across, channels, out_channels = values.shape
    result = spread.new_empty(*spread.shape[:3], out_channels)
    for row in range(len(spread)):
        factors = values[row * down // len(spread)]
        torch.bmm(spread[row].view(across, -1, channels), factors, out=result[row].view(across, -1, out_channels))
    return result


def _add_products(total: Tensor, spread: Tensor, slopes: Tensor) -> None:
    """Add what each pair of points says of the kernels' values to `(points, points, c, c')`."""
    down, across, channels, out_channels = total.shape
    for row in range(len(spread)):
        here = spread[row].view(across, -1, channels).transpose(1, 2)
        total[row * down // len(spread)].baddbmm_(here, slopes[row].view(across, -1, out_channels))


class Winograd(torch.autograd.Function):
    """A convolution that keeps the size of its pictures, with its gradients."""

    @staticmethod
    def forward(ctx: Any, pictures: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """As `convolved`."""
        ctx.save_for_backward(pictures, weight, bias)
        return convolved(pictures, weight, bias)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        """As `gradients`; nothing transformed is kept from the forward pass, which would be several times the pictures."""
        return gradients_by(gradients, ctx, grad)


def gradients_by(way: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]], ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    """Of pictures, weight and bias, which `ctx` has saved, from the output's: the first two by a shorter way.

    Where they are to have a gradient themselves, all come from torch's own kernels.
    """
    pictures, weight, bias = ctx.saved_tensors
    if torch.is_grad_enabled():
        output = torch.nn.functional.conv2d(pictures, weight, bias, padding=weight.shape[-1] // 2)
        asked = [value for value in (pictures, weight, bias) if value is not None]
        found = torch.autograd.grad(output, asked, grad, create_graph=True)
        return found if bias is not None else (*found, None)
    grad = grad.contiguous(memory_format=torch.channels_last)
    return *way(pictures, weight, grad), None if bias is None else grad.sum((0, 2, 3))
