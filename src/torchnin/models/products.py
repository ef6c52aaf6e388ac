"""Convolutions and their gradients on matrix units, in C (products.c, gradients.c and backward.c in `native`), for training in bfloat16.

Where a network has few channels, torch's kernels leave most of the units' time unused. `mixed` takes these ways by itself.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from . import native

# Fewer input channels than _CHANNELS leave most of a tile empty, unless all values under the kernel are gathered into one row: at most
# _GATHERED of them, and of a row of the kernel as many as a vector holds (_VECTOR).
_CHANNELS, _GATHERED, _VECTOR = 16, 128, 32
# Kernels larger than 1x1 meet the same pixel of many pictures at once: of at least _STACK pictures, with at least _STEP channels, and with
# at most _STACKED values each, in or out, because the same pixels of several pictures lie far apart in memory.
_STACK, _STACKED, _STEP = 16, 10_000, 32
# Kernels of more than _TAPS taps and more than _WEIGHTS weights need more sums than the caches hold; there torch's kernels are faster.
_TAPS, _WEIGHTS = 9, 400_000


class _Convolution(ctypes.Structure):
    """`Convolution` of tiles.h."""

    _fields_ = (
        ("threads", ctypes.c_int32),
        *(
            (name, ctypes.c_int64)
            for name in ("pictures", "height", "width", "channels", "outputs", "down", "across", "above", "beside", "stride")
        ),
        *((name, ctypes.c_int32) for name in ("gathered", "half")),
    )


def is_pointwise(kernel: Tensor, stride: Sequence[int], padding: Sequence[int]) -> bool:
    """Whether a convolution is a 1x1 one that keeps every pixel: the same matrix at each of them."""
    return (*kernel.shape[2:], *stride, *padding) == (1, 1, 1, 1, 0, 0)


def gathers(pictures: Tensor, kernel: Tensor, stride: Sequence[int]) -> bool:
    """Whether all that such a kernel, `(out_channels, c, rows, columns)`, meets in such pictures, `(n, c, h, w)`, is gathered here."""
    channels, rows, columns = kernel.shape[1:]
    return (
        native.has_matrices()
        and pictures.dtype in (torch.float32, torch.bfloat16)
        and not pictures.requires_grad
        and stride[0] == stride[1]
        and channels < _CHANNELS
        and channels * columns <= _VECTOR
        and channels * columns * rows <= _GATHERED
        and pictures.is_contiguous(memory_format=torch.channels_last)
    )


def _stacks(values: Tensor, kernel: Tensor, stride: Sequence[int]) -> bool:
    """Whether a kernel larger than 1x1 meets such values, `(n, c, h, w)`, in many pictures at once."""
    number, channels, height, width = values.shape
    return (
        native.has_matrices()
        and values.dtype == torch.bfloat16
        and kernel[0, 0].numel() > 1
        and tuple(stride) == (1, 1)
        and number >= _STACK
        and channels >= _STEP
        and channels % 2 == 0
        and max(kernel.shape[:2]) * height * width <= _STACKED
        and values.is_contiguous(memory_format=torch.channels_last)
    )


def convolves(pictures: Tensor, kernel: Tensor, stride: Sequence[int], padding: Sequence[int]) -> bool:
    """Whether `convolve` takes such pictures, `(n, c, h, w)`, and such a kernel, `(out_channels, c, rows, columns)`."""
    return (
        gathers(pictures, kernel, stride)
        or _stacks(pictures, kernel, stride)
        or (
            native.has_matrices()
            and pictures.dtype == torch.bfloat16
            and is_pointwise(kernel, stride, padding)
            and kernel.shape[1] >= _CHANNELS
            and pictures.is_contiguous(memory_format=torch.channels_last)
        )
    )


def has_weight_gradient(pictures: Tensor, kernel: Tensor, stride: Sequence[int]) -> bool:
    """Whether `weight_gradient` takes such pictures, `(n, c, h, w)`, and such a kernel, `(out_channels, c, rows, columns)`."""
    return gathers(pictures, kernel, stride) or (
        native.has_matrices()
        and pictures.dtype == torch.bfloat16
        and tuple(stride) == (1, 1)
        and kernel.shape[1] >= _CHANNELS
        and (kernel[0, 0].numel() <= _TAPS or kernel.numel() <= _WEIGHTS)
        and pictures.is_contiguous(memory_format=torch.channels_last)
    )


def _described(pictures: Tensor, kernel: Tensor, stride: Sequence[int], padding: Sequence[int]) -> _Convolution:
    number, channels, height, width = pictures.shape
    sizes = number, height, width, channels, len(kernel), *kernel.shape[2:], *padding, stride[0]
    return _Convolution(torch.get_num_threads(), *sizes, gathers(pictures, kernel, stride), pictures.dtype == torch.bfloat16)


def convolve(
    pictures: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    *,
    relu: bool,
    moments: Tensor | None = None,
) -> Tensor:
    """A convolution that `convolves` takes, and a ReLU behind it.

    Args:
        pictures: `(n, c, h, w)`, bfloat16, or float32 where `gathers` takes it, in channels-last memory.
        kernel: `(out_channels, c, rows, columns)`, bfloat16.
        bias: `(out_channels,)`, float32, or none.
        stride: the same both ways.
        padding: zeros above and below, and on either side.
        relu: whether what is below zero becomes zero.
        moments: where given, `(2, out_channels)`, float64, the sums over pictures and pixels of what comes out and of its squares are
            written there; without bias and ReLU.

    Returns:
        `(n, out_channels, h', w')`, bfloat16, in channels-last memory.

    Raises:
        ValueError: the kernel is larger than the pictures with their zeros.
        MemoryError: there is none for what it lays out.
    """
    sides = [
        (side + 2 * zeros - taps) // stride[0] + 1 for side, zeros, taps in zip(pictures.shape[2:], padding, kernel.shape[2:], strict=True)
    ]
    if min(sides) < 1:
        raise ValueError(
            f"a kernel of {kernel.shape[2]}x{kernel.shape[3]} is larger than pictures of {'x'.join(map(str, pictures.shape[2:]))}"
        )
    output = torch.empty(len(pictures), len(kernel), *sides, dtype=torch.bfloat16, device="cpu", memory_format=torch.channels_last)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    address = ctypes.c_void_p
    call = native.function("convolve", ctypes.POINTER(_Convolution), address, address, address, ctypes.c_int, address, address)
    added, sums = (None if value is None else value.data_ptr() for value in (bias, moments))
    shape = _described(pictures, kernel, stride, padding)
    if call(shape, pictures.data_ptr(), kernel.data_ptr(), added, relu, sums, output.data_ptr()):
        raise MemoryError(f"no memory for a convolution with a kernel of {tuple(kernel.shape)}")
    return output


def weight_gradient(pictures: Tensor, grad: Tensor, kernel: Tensor, stride: Sequence[int], padding: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The gradients of a kernel and of the bias behind it, where `has_weight_gradient` holds.

    Args:
        pictures: what came in, `(n, c, h, w)`, bfloat16, or float32 where `gathers` takes it, in channels-last memory.
        grad: of what came out, `(n, out_channels, h', w')`, bfloat16, likewise.
        kernel: `(out_channels, c, rows, columns)`, for its shape.
        stride: the same both ways.
        padding: zeros above and below, and on either side.

    Returns:
        `(out_channels, c, rows, columns)`, float32, in channels-last memory; and `(out_channels,)`, float32.

    Raises:
        MemoryError: there is none for its sums.
    """
    of_weight = torch.empty(kernel.shape, dtype=torch.float32, device="cpu", memory_format=torch.channels_last)
    of_bias = torch.empty(len(kernel), dtype=torch.float32, device="cpu")
    call = native.function("weight_gradient", ctypes.POINTER(_Convolution), *[ctypes.c_void_p] * 4)
    shape = _described(pictures, kernel, stride, padding)
    if call(shape, pictures.data_ptr(), grad.data_ptr(), of_weight.data_ptr(), of_bias.data_ptr()):
        raise MemoryError(f"no memory for the gradient of a kernel of {tuple(kernel.shape)}")
    return of_weight, of_bias


def has_input_gradient(grad: Tensor, kernel: Tensor, stride: Sequence[int], padding: Sequence[int], *, relu: bool) -> bool:
    """Whether `input_gradient` takes gradients of what came out of a convolution, `(n, out_channels, h, w)`, and its kernel.

    Args:
        grad: the gradients.
        kernel: `(out_channels, c, rows, columns)`.
        stride, padding: the convolution's.
        relu: whether what came in was made by a ReLU, whose gradient is to be part of it.
    """
    if _stacks(grad, kernel, stride) and not relu:
        return True
    return (
        native.has_matrices()
        and grad.dtype == torch.bfloat16
        and is_pointwise(kernel, stride, padding)
        and kernel.shape[1] >= _CHANNELS
        and grad.is_contiguous(memory_format=torch.channels_last)
    )


def input_gradient(grad: Tensor, kernel: Tensor, padding: Sequence[int], pictures: Tensor, *, relu: bool) -> tuple[Tensor, Tensor | None]:
    """The gradient of what came into a convolution, where `has_input_gradient` holds; in the same pass that of the ReLU before it.

    Args:
        grad: of what the convolution made, `(n, out_channels, h', w')`, bfloat16, in channels-last memory.
        kernel: `(out_channels, c, rows, columns)`, bfloat16.
        padding: zeros above and below what came in, and on either side.
        pictures: what came in, `(n, c, h, w)`, bfloat16, in channels-last memory.
        relu: whether a ReLU made it; the gradient is then that of the ReLU's input.

    Returns:
        The gradient, `(n, c, h, w)`, bfloat16; and with `relu` its sums over pictures and pixels, and those of its products with what came
        in, `(2, c)`, float64, else None.

    Raises:
        MemoryError: there is none for its sums.
    """
    gradient = torch.empty_like(pictures)
    moments = torch.empty(2, pictures.shape[1], dtype=torch.float64, device="cpu") if relu else None
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    taps = kernel.shape[2:]
    around = [side - 1 - zeros for side, zeros in zip(taps, padding, strict=True)]
    number, channels, height, width = grad.shape
    sizes = number, height, width, channels, pictures.shape[1], *taps, *around, 1
    shape = _Convolution(torch.get_num_threads(), *sizes, False, True)
    call = native.function("input_gradient", ctypes.POINTER(_Convolution), *[ctypes.c_void_p] * 5)
    above, sums = (None if value is None else value.data_ptr() for value in (pictures if relu else None, moments))
    if call(shape, grad.data_ptr(), kernel.data_ptr(), above, sums, gradient.data_ptr()):
        raise MemoryError(f"no memory for the gradient through a kernel of {tuple(kernel.shape)}")
    return gradient, moments


def has_all_gradients(pictures: Tensor, grad: Tensor, kernel: Tensor, stride: Sequence[int], padding: Sequence[int]) -> bool:
    """Whether `all_gradients` takes what came into a convolution, `(n, c, h, w)`, the gradient of what came out, and its kernel."""
    return (
        is_pointwise(kernel, stride, padding)
        and has_weight_gradient(pictures, kernel, stride)
        and grad.dtype == torch.bfloat16
        and grad.is_contiguous(memory_format=torch.channels_last)
    )


def all_gradients(pictures: Tensor, grad: Tensor, kernel: Tensor, *, relu: bool) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
    """What `input_gradient` and `weight_gradient` give, where `has_all_gradients` holds, reading pictures and `grad` once.

    Args:
        pictures: what came in, `(n, c, h, w)`, bfloat16, in channels-last memory.
        grad: of what came out, `(n, out_channels, h, w)`, bfloat16, likewise.
        kernel: `(out_channels, c, 1, 1)`, bfloat16.
        relu: whether a ReLU made the pictures.

    Returns:
        The gradient of what came in and its sums, as `input_gradient` returns them; the kernel's, `(out_channels, c, 1, 1)`, and the
        bias', `(out_channels,)`, float32.

    Raises:
        MemoryError: there is none for its sums.
    """
    gradient = torch.empty_like(pictures)
    moments = torch.empty(2, pictures.shape[1], dtype=torch.float64, device="cpu") if relu else None
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    of_weight, of_bias = torch.empty_like(kernel, dtype=torch.float32), torch.empty(len(kernel), dtype=torch.float32, device="cpu")
    address = ctypes.c_void_p
    call = native.function("all_gradients", ctypes.POINTER(_Convolution), address, address, address, ctypes.c_int, *[address] * 4)
    shape, sums = _described(pictures, kernel, (1, 1), (0, 0)), None if moments is None else moments.data_ptr()
    found = gradient.data_ptr(), of_weight.data_ptr(), of_bias.data_ptr()
    if call(shape, pictures.data_ptr(), grad.data_ptr(), kernel.data_ptr(), relu, sums, *found):
        raise MemoryError(f"no memory for the gradients of a kernel of {tuple(kernel.shape)}")
    return gradient, moments, of_weight, of_bias
