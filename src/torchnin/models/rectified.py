"""Convolutions in float32 with the ReLU behind them, for training on a processor.

A ReLU does little to a value, and its two passes over the pictures wait for memory. Forward it is part of the convolution's own pass; on
the way back it is passed by the 1x1 convolution behind it, piece by piece while the piece is in the caches. `shortcuts` says which
convolution goes which way; each gives what torch's layers give, up to rounding (tests/models/test_shortcuts.py says how near).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import derivatives, mixed, passes, winograd

# Pixels of all pictures that the way back through a 1x1 convolution takes at once: few enough for the caches, enough for the products.
_PIXELS = 8192


class Way(NamedTuple):
    """How a convolution is computed; by torch's own kernels where nothing is said."""

    winograd: bool = False
    """With fewer products, forward and back."""
    pixels: bool = False
    """A 1x1 convolution, whose way back is matrix products; they pass the ReLU before it."""
    of_weight: Callable[[Tensor, Tensor, Tensor], Tensor] | None = None
    """From pictures, the output's gradient and the weight to the weight's gradient."""


class Convolution(torch.autograd.Function):
    """A convolution of pictures `(n, c, h, w)` in channels-last memory, and a ReLU behind it where one is told of."""

    @staticmethod
    def forward(
        ctx: Any,
        pictures: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Any,
        way: Way,
        relu: passes.FusedReLU | None,
        before: passes.FusedReLU | None,
    ) -> Tensor:
        """`relu` is a new one, for what is below zero to become zero; `before` that which made the pictures, and nobody else has them."""
        if way.winograd:
            output = winograd.Prepared(weight, bias, relu=relu is not None)(pictures)
        else:
            output = mixed.convolved(pictures, weight, bias, stride, padding, relu is not None)
        ctx.save_for_backward(pictures, weight, bias, None if relu is None else output)
        ctx.stride, ctx.padding, ctx.way, ctx.relu, ctx.before = stride, padding, way, relu, before
        return output

    @staticmethod
    @derivatives.in_own_dtype
    def backward(ctx: Any, grad: Tensor) -> Any:
        """Where the gradients are to have gradients themselves, or stand for many, they come from torch's own kernels."""
        pictures, weight, bias, output = ctx.saved_tensors
        wanted = list(ctx.needs_input_grad[:3])
        if derivatives.need_torch(grad):
            if ctx.before is not None:
                ctx.before.share()
            return *mixed.differentiable(ctx, pictures, weight, bias, grad, torch.float32), *[None] * 5
        grad, pictures, output = derivatives.in_its_memory(grad, pictures, output)
        of_bias = None
        if ctx.relu is not None:
            grad, of_bias = mixed.in_front(ctx.relu, output, grad)
        if wanted[2] and of_bias is None:
            of_bias = _sums(grad)
        of_pictures, of_weight = _gradients(ctx, pictures, weight, grad, wanted)
        return (
            of_pictures if wanted[0] else None,
            mixed.laid_out_as(weight, of_weight) if wanted[1] and of_weight is not None else None,
            of_bias if wanted[2] else None,
            *[None] * 5,
        )


def _gradients(ctx: Any, pictures: Tensor, weight: Tensor, grad: Tensor, wanted: list[bool]) -> tuple[Tensor | None, Tensor | None]:
    """Of pictures and weight; that of one which is not wanted may be missing."""
    way: Way = ctx.way
    if way.pixels:
        return _of_pixels(pictures, weight, grad, None if ctx.before is None or ctx.before.shared else ctx.before)
    if way.winograd:
        return winograd.gradients(pictures, weight, grad)
    asked = [wanted[0], wanted[1] and way.of_weight is None, False]
    of_pictures, of_weight, _ = torch.ops.aten.convolution_backward(
        grad, pictures, weight, None, ctx.stride, ctx.padding, [1, 1], False, [0, 0], 1, asked
    )
    return of_pictures, of_weight if way.of_weight is None else way.of_weight(pictures, grad, weight)


def _of_pixels(pictures: Tensor, weight: Tensor, grad: Tensor, before: passes.FusedReLU | None) -> tuple[Tensor, Tensor]:
    """Of a 1x1 convolution, one matrix for every pixel: piece by piece, so that each piece comes from memory once.

    That of the pictures is the one in front of the ReLU `before` them, which is told its sums.
    """
    of_pictures = torch.empty_like(pictures, memory_format=torch.channels_last)
    inputs, slopes, found = (values.permute(0, 2, 3, 1).flatten(0, 2) for values in (pictures, grad, of_pictures))
    matrix = weight.flatten(1)
    of_matrix, sums, ones = torch.zeros_like(matrix), pictures.new_zeros(1, matrix.shape[1]), pictures.new_ones(1, _PIXELS)
    for values, slope, target in zip(inputs.split(_PIXELS), slopes.split(_PIXELS), found.split(_PIXELS), strict=True):
        torch.mm(slope, matrix, out=target)
        of_matrix.addmm_(slope.T, values)
        if before is not None:
            torch.ops.aten.threshold_backward.grad_input(target, values, 0, grad_input=target)
            sums.addmm_(ones[:, : len(target)], target)
    if before is not None:
        before.sums = sums.double()
    return of_pictures, of_matrix.view_as(weight)


def _sums(grad: Tensor) -> Tensor:
    """Over pictures and pixels, `(c,)`; as a product, for torch's own sum over so many rows is slow."""
    slopes = grad.permute(0, 2, 3, 1).flatten(0, 2)
    return (slopes.new_ones(1, 1).expand(1, len(slopes)) @ slopes)[0]
