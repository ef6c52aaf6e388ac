"""Shorter ways through a block, for training on a processor: convolutions in float32 by `rectified`, in bfloat16 by `mixed`, the rest by
`passes`.

Each one gives what torch's own kernels give, up to rounding (tests/models/test_shortcuts.py says how near). `NiNBlock` takes them by
itself; inside `layer_by_layer()` it does without.
"""

import contextlib
import itertools
import threading
from collections.abc import Iterator, Sequence
from typing import TypeGuard, TypeVar

import torch
from torch import Tensor, nn

from . import derivatives, mixed, passes, rectified
from .winograd import products

# Up to this side of the picture, torch's kernel for the gradient of a padded convolution's weights spends much of its time on the
# padding's zeros (of a picture of 3x3 pixels, 32 of the 81 products with a 3x3 kernel).
_SMALL_SIDE = 4
# Where Winograd's way pays: it saves at least so large a factor of the products; its transforms are small beside them, which they are
# with so many channels; and there are pixels enough to transform the kernels for.
_SAVED, _CHANNELS, _PIXELS = 4, 48, 2048
# From so many channels on the way back through a 1x1 convolution is matrix products, whether they pass a ReLU or not.
_WIDE = 128

_Module = TypeVar("_Module", bound=nn.Module)

_unwanted = 0  # how many have asked for torch's own kernels
_asking = threading.Lock()


@contextlib.contextmanager
def layer_by_layer() -> Iterator[None]:
    """While open, every convolution is computed by torch's own kernels, in every thread; of several that are open, until the last ends."""
    global _unwanted
    with _asking:
        _unwanted += 1
    try:
        yield
    finally:
        with _asking:
            _unwanted -= 1


def run(layers: Sequence[nn.Module], pictures: Tensor) -> Tensor:
    """What layers make of pictures `(n, c, h, w)`, one after the other, by a shorter way where there is one."""
    waiting = list(layers)
    before: passes.FusedReLU | None = None  # whose output the pictures are, where the layer before computed it
    moments: passes.Moments | None = None  # of the pictures, where the layer before computed them
    while waiting:
        layer, relu, told = waiting.pop(0), None, None
        if _is_plain(layer, pictures) and (found := _convolved(layer, waiting[:1], pictures, before)) is not None:
            pictures, relu, told = found
            del waiting[: relu is not None]
        elif (taken := _taken_at_once([layer, *waiting[:2]], pictures, moments, maker := passes.FusedReLU(normalised=True))) is not None:
            number, pictures = taken
            relu = maker if type(layer) is nn.BatchNorm2d and number == 2 else None
            del waiting[: number - 1]
        else:
            pictures = layer(pictures)
        before, moments = relu, told
    return pictures


def _convolved(
    layer: nn.Conv2d, following: list[nn.Module], pictures: Tensor, before: passes.FusedReLU | None
) -> tuple[Tensor, passes.FusedReLU | None, passes.Moments | None] | None:
    """The output of a plain convolution by a shorter way, the ReLU that was computed with it, and the moments for normalisation."""
    relu = passes.FusedReLU() if following and type(following[0]) is nn.ReLU and not is_heard(following[0]) else None
    if mixed.takes(layer, pictures):
        told = passes.Moments() if following and type(following[0]) is nn.BatchNorm2d else None
        return mixed.convolve(layer, pictures, relu=relu, before=before, moments=told), relu, told
    if before is not None and before.normalised:
        before = None  # normalisation needs both of its sums, and a convolution in float32 computes one
    if (way := _way(layer, pictures, behind=relu is not None, before=before is not None)) is None:
        return None
    arguments = (pictures, layer.weight, layer.bias, layer.stride, layer.padding, way, relu, before)
    return rectified.Convolution.apply(*arguments), relu, None


def _taken_at_once(
    layers: list[nn.Module], pictures: Tensor, moments: passes.Moments | None, passed: passes.FusedReLU
) -> tuple[int, Tensor] | None:
    """What `passes` makes of the first of these layers, and of how many; None where it has no way for them."""
    if not _is_wanted(pictures) or not pictures.requires_grad:
        return None
    unheard = list(itertools.takewhile(lambda layer: not is_heard(layer), layers))
    return passes.take(unheard, pictures, moments, passed) if unheard else None


def _is_plain(layer: nn.Module, pictures: Tensor) -> TypeGuard[nn.Conv2d]:
    """Whether a layer is a plain convolution that nobody listens to, whose gradient is wanted, on a CPU and not being traced."""
    return (
        type(layer) is nn.Conv2d
        and layer.dilation == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and not is_heard(layer)
        and _is_wanted(pictures)
        and layer.weight.requires_grad
    )


def _is_wanted(pictures: Tensor) -> bool:
    """Whether shorter ways are wanted at all: on a CPU, where gradients are and nothing else, and not while it is traced."""
    return (
        not derivatives.is_traced(pictures)
        and not _unwanted
        and torch.is_grad_enabled()
        and pictures.device.type == "cpu"
        and not derivatives.are_transformed()
        and not derivatives.go_forward()
    )


def is_heard(layer: nn.Module) -> bool:
    """Whether somebody is told of a layer's values: hooks, its own or those of every layer, or a forward pass that was put in its place."""
    own = layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks
    return bool(own) or "forward" in vars(layer) or torch.nn.modules.module._has_any_global_hook()


def computes_as(module: nn.Module, kind: type[_Module]) -> TypeGuard[_Module]:
    """Whether a module is of a kind, and no other forward pass was written for it, or put in its place."""
    return isinstance(module, kind) and type(module).forward is kind.forward and "forward" not in vars(module)


def _way(layer: nn.Conv2d, pictures: Tensor, *, behind: bool, before: bool) -> rectified.Way | None:
    """How a plain convolution in float32 is computed, with a ReLU behind it, or with one before it to pass; None: as torch does."""
    if (
        not pictures.dtype == layer.weight.dtype == torch.float32
        or not derivatives.have_memory(pictures, layer.weight, layer.bias)
        or not pictures.is_contiguous(memory_format=torch.channels_last)
        or pictures.numel() == 0
        or isinstance(layer.padding, str)
        or torch.is_autocast_enabled("cpu")
    ):
        return None
    if pictures.requires_grad and layer.stride == (1, 1):
        if (layer.kernel_size, layer.padding) == ((1, 1), (0, 0)):
            if before or min(layer.in_channels, layer.out_channels) >= _WIDE:
                return rectified.Way(pixels=True)
        elif _keeps_the_size(layer):
            if _is_small(layer, pictures):
                return rectified.Way(of_weight=_small_weight_gradient)
            if _saves_products(layer, pictures):
                return rectified.Way(winograd=True)
    return rectified.Way() if behind else None


def _keeps_the_size(layer: nn.Conv2d) -> bool:
    return (
        layer.kernel_size[0] == layer.kernel_size[1] and layer.padding == (layer.kernel_size[0] // 2,) * 2 and layer.kernel_size[0] % 2 == 1
    )


def _is_small(layer: nn.Conv2d, pictures: Tensor) -> bool:
    return layer.kernel_size[0] > 1 and max(pictures.shape[2:]) <= _SMALL_SIDE


def _saves_products(layer: nn.Conv2d, pictures: Tensor) -> bool:
    number, _, height, width = pictures.shape
    kernel = layer.kernel_size[0]
    return (
        kernel in (3, 5)
        and min(layer.in_channels, layer.out_channels) >= _CHANNELS
        and number * height * width >= _PIXELS
        and _SAVED * products(height, width, kernel) <= height * width * kernel**2
    )


def _small_weight_gradient(pictures: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """A matrix product for each output pixel and row of the kernel, over the pixels under that row, without the padding's zeros."""
    out_channels, channels, kernel, _ = weight.shape
    height, width = pictures.shape[2:]
    inputs = pictures.permute(0, 2, 3, 1).reshape(len(pictures), -1)
    outputs = grad.permute(0, 2, 3, 1).reshape(len(grad), height * width, out_channels)
    gradient = weight.new_zeros(kernel * kernel * channels, out_channels)
    for place, first, last, tap in _rows_under_kernel(height, width, kernel):
        taps = gradient[tap * channels : (tap + last - first) * channels]
        taps.addmm_(inputs[:, first * channels : last * channels].T, outputs[:, place])
    return gradient.view(kernel, kernel, channels, out_channels).permute(3, 2, 0, 1)


def _rows_under_kernel(height: int, width: int, kernel: int) -> Iterator[tuple[int, int, int, int]]:
    """Output pixel; the input pixels side by side under a row of the kernel, from first to before last; the tap over the first."""
    reach = kernel // 2
    for row in range(height):
        for column in range(width):
            left, right = max(0, column - reach), min(width, column + reach + 1)
            for above in range(max(0, row - reach), min(height, row + reach + 1)):
                tap = (above - row + reach) * kernel + left - column + reach
                yield row * width + column, above * width + left, above * width + right, tap
