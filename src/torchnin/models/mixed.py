"""Shorter ways to a convolution and its gradient, for training on a processor in bfloat16 (autocast).

There the products are cheap, and what a step waits for is memory: passes over pictures that could be one, kernels that were written for
many channels and meet one. `NiNBlock` takes these ways by itself; inside `layer_by_layer()` it does without. Each gives what the
layers give one after the other, up to rounding in bfloat16, in which autocast gives it too (tests/models/test_mixed.py says how near).
"""

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import derivatives, native, passes, products

# Up to so many channels, a strided convolution of the pictures themselves is computed on larger pixels of more channels.
_FEW_CHANNELS = 4
# Up to this side of the picture, a kernel of several pixels meets so little that copying it is cheaper than torch's kernel for the
# gradient of the weights.
_SMALL_SIDE = 4
# From more pixels in a picture on, torch's kernel for the gradients of weights and bias of a 1x1 convolution is faster than two products.
_MANY_PIXELS = 200
# Pixels whose products are added up at once for the gradient of a 1x1 convolution's weights: few enough for the caches.
_PIXELS = 4096


@functools.cache
def _is_supported() -> bool:
    """Whether torch's kernels for bfloat16 run on this processor."""
    supports = getattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", None)
    return torch.backends.mkldnn.is_available() and supports is not None and bool(supports())


def takes(layer: nn.Conv2d, pictures: Tensor) -> bool:
    """Whether a convolution of such pictures, on a processor, has a shorter way here: autocast is on, in bfloat16."""
    return (
        torch.is_autocast_enabled("cpu")
        and torch.get_autocast_dtype("cpu") == torch.bfloat16
        and layer.weight.dtype == torch.float32
        and derivatives.have_memory(pictures, layer.weight, layer.bias)
        and pictures.dtype in (torch.float32, torch.bfloat16)
        and pictures.numel() > 0
        and pictures.is_contiguous(memory_format=torch.channels_last)
        and not isinstance(layer.padding, str)
        and _is_supported()
    )


def convolve(
    layer: nn.Conv2d,
    pictures: Tensor,
    *,
    relu: passes.FusedReLU | None = None,
    before: passes.FusedReLU | None = None,
    moments: passes.Moments | None = None,
) -> Tensor:
    """What a convolution that `takes` such pictures makes of them, and a ReLU behind it.

    Args:
        layer: its weights in float32; their gradients are in float32 too.
        pictures: `(n, c, h, w)`, float32 or bfloat16, in channels-last memory.
        relu: a new one where what is below zero becomes zero.
        before: that which made the pictures, where they went through it and nowhere else.
        moments: where batch normalisation follows; filled in where that costs nothing.

    Returns:
        `(n, out_channels, h', w')`, bfloat16, in channels-last memory.
    """
    weight, bias = layer.weight, layer.bias
    stride, padding = layer.stride, layer.padding
    if not products.gathers(pictures, weight, stride):
        pictures = pictures.to(torch.bfloat16)
        if max(stride) > 1 and stride[0] == stride[1] and layer.in_channels <= _FEW_CHANNELS and not pictures.requires_grad:
            pictures, weight = _in_larger_pixels(pictures, weight, stride[0], padding)
            stride, padding = (1, 1), (0, 0)
    output: Tensor = _Convolution.apply(pictures, weight, bias, stride, padding, relu, before, moments)
    return output


def _in_larger_pixels(pictures: Tensor, weight: Tensor, stride: int, padding: Any) -> tuple[Tensor, Tensor]:
    """Pictures and kernel whose convolution with stride 1 is theirs with a stride: squares of pixels become channels of one.

    An 11x11 kernel with stride 4, which meets one channel, becomes a 3x3 kernel that meets sixteen; matrix units are made for that.
    """
    kernel = weight.shape[2:]
    wide = [-(-side // stride) * stride for side in kernel]
    filled = F.pad(weight, (0, wide[1] - kernel[1], 0, wide[0] - kernel[0]))
    edges = []
    for side, taps, here, margin in zip(pictures.shape[2:], kernel, wide, padding, strict=True):
        outputs = (side + 2 * margin - taps) // stride + 1
        edges.append((margin, (outputs - 1) * stride + here - side - margin))  # negative: what no kernel reaches is cut off
    (above, below), (left, right) = edges
    padded = F.pad(pictures, (left, right, above, below))
    larger = F.pixel_unshuffle(padded, stride).contiguous(memory_format=torch.channels_last)
    return larger, F.pixel_unshuffle(filled, stride)


class _Convolution(torch.autograd.Function):
    """A convolution in bfloat16 of weights in float32, with the ReLU behind it where there is one."""

    @staticmethod
    def forward(
        ctx: Any,
        pictures: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        stride: Any,
        padding: Any,
        relu: passes.FusedReLU | None,
        before: passes.FusedReLU | None,
        moments: passes.Moments | None,
    ) -> Tensor:
        kernel = weight.to(torch.bfloat16)
        if products.convolves(pictures, kernel, stride, padding):
            if moments is not None and bias is None:
                moments.sums = torch.empty(2, len(kernel), dtype=torch.float64, device="cpu")
            added, sums = None if bias is None else bias.float(), None if moments is None else moments.sums
            output = products.convolve(pictures, kernel, added, stride, padding, relu=relu is not None, moments=sums)
        else:
            output = convolved(pictures, kernel, None if bias is None else bias.to(torch.bfloat16), stride, padding, relu is not None)
        ctx.save_for_backward(pictures, weight, bias, kernel, None if relu is None else output)
        ctx.stride, ctx.padding, ctx.relu, ctx.before = stride, padding, relu, before
        return output

    @staticmethod
    @derivatives.in_own_dtype
    def backward(ctx: Any, grad: Tensor) -> Any:
        pictures, weight, bias, kernel, output = ctx.saved_tensors
        if derivatives.need_torch(grad):
            if ctx.before is not None:
                ctx.before.share()
            return *differentiable(ctx, pictures, weight, bias, grad, torch.bfloat16), *[None] * 5
        grad, pictures, output = derivatives.in_its_memory(grad, pictures, output)
        wanted = list(ctx.needs_input_grad[:3])
        summed = None
        if ctx.relu is not None:
            grad, summed = in_front(ctx.relu, output, grad)
            wanted[2] = wanted[2] and summed is None
        of_pictures, of_weight, of_bias = _found(pictures, kernel, grad, ctx.stride, ctx.padding, wanted, ctx.before)
        of_bias = summed if ctx.needs_input_grad[2] and summed is not None else of_bias
        return (
            of_pictures,
            None if of_weight is None else laid_out_as(weight, of_weight.to(weight.dtype)),
            None if of_bias is None else of_bias.to(bias.dtype),
            *[None] * 5,
        )


def _found(
    pictures: Tensor, kernel: Tensor, grad: Tensor, stride: Any, padding: Any, wanted: list[bool], before: passes.FusedReLU | None
) -> tuple[Tensor | None, ...]:
    """The gradients of a convolution's pictures, weights and bias, as far as they are wanted: by our own products where they take them.

    That of pictures which went through a ReLU `before` and nowhere else is the one in front of it, where the product passes that too.
    """
    geometry = kernel, stride, padding
    cut = before is not None and not before.shared and products.has_input_gradient(grad, *geometry, relu=True)
    found: tuple[Tensor | None, ...]
    of_pictures = of_weight = of_bias = sums = None
    if wanted[0] and wanted[1] and products.has_all_gradients(pictures, grad, *geometry):
        of_pictures, sums, of_weight, of_bias = products.all_gradients(pictures, grad, kernel, relu=cut)
    else:
        if wanted[0] and (cut or products.has_input_gradient(grad, *geometry, relu=False)):
            of_pictures, sums = products.input_gradient(grad, kernel, padding, pictures, relu=cut)
        if wanted[1] and products.has_weight_gradient(pictures, kernel, stride):
            of_weight, of_bias = products.weight_gradient(pictures, grad, *geometry)
    if before is not None and sums is not None:
        before.sums = sums
    found = of_pictures, of_weight, of_bias
    asked = [want and value is None for want, value in zip(wanted, found, strict=True)]
    if any(asked):
        pointwise = products.is_pointwise(kernel, stride, padding)
        others = (
            _pixel_gradients(pictures, kernel, grad, asked) if pointwise else _gradients(pictures, kernel, grad, stride, padding, asked)
        )
        found = tuple(other if ask else value for ask, other, value in zip(asked, others, found, strict=True))
    return tuple(value if want else None for want, value in zip(wanted, found, strict=True))


def in_front(relu: passes.FusedReLU, output: Tensor, grad: Tensor) -> tuple[Tensor, Tensor | None]:
    """The gradient in front of a ReLU, and its sum over pictures and pixels where it is known, float32."""
    if (sums := relu.take_sums()) is not None:
        return grad, sums[0].float()
    if native.compiled() is not None and output.is_contiguous(memory_format=torch.channels_last):
        return passes.relu_gradient(output, grad)
    in_front: Tensor = torch.ops.aten.threshold_backward(grad, output, 0)
    return in_front, None


def laid_out_as(weight: Tensor, gradient: Tensor) -> Tensor:
    """A gradient of a weight with the weight's strides, also those of sides of a single value, which DistributedDataParallel asks for."""
    return gradient if gradient.stride() == weight.stride() else torch.empty_like(weight).copy_(gradient)


def convolved(pictures: Tensor, kernel: Tensor, bias: Tensor | None, stride: Any, padding: Any, relu: bool) -> Tensor:
    """By torch's own kernels, in one pass with the ReLU where one follows."""
    if relu and hasattr(torch.ops.mkldnn, "_convolution_pointwise") and _are_numbers(pictures, kernel):
        # One pass, which torch's compiler asks for too; it has no other name.
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(pictures, kernel, bias, padding, stride, [1, 1], 1, "relu", [], "")
        return fused
    output = F.conv2d(pictures, kernel, bias, stride, padding)
    return output.relu_() if relu else output


def _are_numbers(pictures: Tensor, kernel: Tensor) -> bool:
    """Whether a kernel is finite, and the channels that come in, of which one pixel is looked at.

    oneDNN's ReLU makes zero of NaN, so that the loss would stay finite although weights of this layer, or of one before it, are NaN.
    """
    pixel = pictures[0, :, pictures.shape[2] // 2, pictures.shape[3] // 2]
    return math.isfinite(float(kernel.sum() + pixel.sum()))


def _pixel_gradients(pictures: Tensor, kernel: Tensor, grad: Tensor, wanted: list[bool]) -> tuple[Tensor | None, ...]:
    """Of a 1x1 convolution, which is one matrix for every pixel: of its pictures, weights and bias, as far as they are wanted."""
    number, channels, height, width = pictures.shape
    inputs, slopes = (values.permute(0, 2, 3, 1).flatten(0, 2) for values in (pictures, grad))
    of_pictures = None
    if wanted[0]:
        of_pictures = (slopes @ kernel.flatten(1)).view(number, height, width, channels).permute(0, 3, 1, 2)
    if wanted[2] and height * width > _MANY_PIXELS:
        # One pass over the slopes for both.
        arguments = (grad, pictures, kernel, [len(kernel)], [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [False, *wanted[1:]])
        return of_pictures, *torch.ops.aten.convolution_backward(*arguments)[1:]
    of_weight = _products(slopes, inputs).view_as(kernel) if wanted[1] else None
    return of_pictures, of_weight, _sums(grad) if wanted[2] else None


def _sums(grad: Tensor) -> Tensor:
    """Over pictures and pixels, `(c,)`; torch's own sum over so many rows takes as long as all the rest of a step."""
    slopes = grad.permute(0, 2, 3, 1).flatten(0, 2)
    return _products(slopes, slopes.new_ones(1, 1).expand(len(slopes), 1)).flatten()


def _gradients(pictures: Tensor, kernel: Tensor, grad: Tensor, stride: Any, padding: Any, wanted: list[bool]) -> tuple[Tensor | None, ...]:
    """Of a convolution: of its pictures, weights and bias, as far as they are wanted."""
    small = max(grad.shape[2:]) <= _SMALL_SIDE and stride == (1, 1) and wanted[1]
    asked = [wanted[0], wanted[1] and not small, wanted[2]]
    sizes = [len(kernel)] if wanted[2] else None
    found = torch.ops.aten.convolution_backward(grad, pictures, kernel, sizes, stride, padding, [1, 1], False, [0, 0], 1, asked)
    return (found[0], _weight_gradient(pictures, kernel, grad, padding), found[2]) if small else found


def _weight_gradient(pictures: Tensor, kernel: Tensor, grad: Tensor, padding: Any) -> Tensor:
    """Of a convolution with stride 1: one matrix product with all that the kernel meets, copied side by side."""
    out_channels, channels, rows, columns = kernel.shape
    down, across = padding
    padded = F.pad(pictures.permute(0, 2, 3, 1), (0, 0, across, across, down, down))
    met = padded.unfold(1, rows, 1).unfold(2, columns, 1).permute(0, 1, 2, 4, 5, 3).reshape(-1, rows * columns * channels)
    found = _products(grad.permute(0, 2, 3, 1).flatten(0, 2), met)
    return found.view(out_channels, rows, columns, channels).permute(0, 3, 1, 2)


def _products(first: Tensor, second: Tensor) -> Tensor:
    """`first.T @ second` of matrices with very many rows, piece by piece; float32."""
    whole = len(first) - len(first) % _PIXELS
    pieces = [values[:whole].unflatten(0, (-1, _PIXELS)) for values in (first, second)]
    found = torch.bmm(pieces[0].transpose(1, 2), pieces[1]).sum(0, dtype=torch.float32)
    if whole < len(first):
        found += first[whole:].T @ second[whole:]
    return found


def differentiable(
    ctx: Any, pictures: Tensor, weight: Tensor, bias: Tensor | None, grad: Tensor, dtype: torch.dtype
) -> tuple[Tensor | None, ...]:
    """The gradients of a convolution in a dtype, where they are to have gradients themselves, or stand for many: by torch's own kernels."""

    def output() -> Tensor:
        added = None if bias is None else bias.to(dtype)
        made = F.conv2d(pictures.to(dtype), weight.to(dtype), added, ctx.stride, ctx.padding)
        return made if ctx.relu is None else made.relu()

    return derivatives.found(output, (pictures, weight, bias), ctx.needs_input_grad[:3], grad)
