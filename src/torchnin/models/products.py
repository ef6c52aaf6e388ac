"""A convolution of pictures with few channels, and the gradients of any one's weights and bias, on a processor's matrix units, in C
(`native/products.c`), for training in bfloat16.

Where a network has few channels, torch's kernels leave most of the units' time unused. `mixed` takes these ways by itself.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from . import native

# Fewer channels that come in leave most of a tile empty, unless all that the kernel meets is gathered: so many values at most, and of a row
# of the kernel as many as a vector holds.
_CHANNELS, _GATHERED, _VECTOR = 16, 128, 32
# With more taps than these, more weights than these are more sums than the caches hold, of which torch's kernels take better care.
_TAPS, _WEIGHTS = 9, 400_000


class _Convolution(ctypes.Structure):
    """`Convolution` of products.c."""

    _fields_ = (
        ("threads", ctypes.c_int32),
        *(
            (name, ctypes.c_int64)
            for name in ("pictures", "height", "width", "channels", "outputs", "down", "across", "above", "beside", "stride")
        ),
        *((name, ctypes.c_int32) for name in ("gathered", "half")),
    )


def gathers(pictures: Tensor, kernel: Tensor, stride: Sequence[int]) -> bool:
    """Whether `convolve` takes such pictures, `(n, c, h, w)`, and such a kernel, `(out_channels, c, rows, columns)`."""
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


def takes(pictures: Tensor, kernel: Tensor, stride: Sequence[int]) -> bool:
    """Whether `gradients` takes such pictures, `(n, c, h, w)`, and such a kernel, `(out_channels, c, rows, columns)`."""
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


def convolve(pictures: Tensor, kernel: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], *, relu: bool) -> Tensor:
    """A convolution of pictures with few channels, which `gathers` takes, and a ReLU behind it.

    Args:
        pictures: `(n, c, h, w)`, float32 or bfloat16, in channels-last memory.
        kernel: `(out_channels, c, rows, columns)`, bfloat16.
        bias: `(out_channels,)`, float32, or none.
        stride: the same both ways.
        padding: zeros above and below, and on either side.
        relu: whether what is below zero becomes zero.

    Returns:
        `(n, out_channels, h', w')`, bfloat16, in channels-last memory.

    Raises:
        MemoryError: there is none for what it lays out.
    """
    sides = [
        (side + 2 * zeros - taps) // stride[0] + 1 for side, zeros, taps in zip(pictures.shape[2:], padding, kernel.shape[2:], strict=True)
    ]
    output = torch.empty(len(pictures), len(kernel), *sides, dtype=torch.bfloat16, memory_format=torch.channels_last)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    address = ctypes.c_void_p
    call = native.function("convolve", ctypes.POINTER(_Convolution), address, address, address, ctypes.c_int, address)
    added = None if bias is None else bias.data_ptr()
    shape = _described(pictures, kernel, stride, padding)
    if call(shape, pictures.data_ptr(), kernel.data_ptr(), added, relu, output.data_ptr()):
        raise MemoryError(f"no memory for a convolution with a kernel of {tuple(kernel.shape)}")
    return output


def gradients(
    pictures: Tensor, grad: Tensor, kernel: Tensor, stride: Sequence[int], padding: Sequence[int]
) -> tuple[Tensor, Tensor]:
    """The gradients of a kernel and of the bias behind it, which `takes` takes.

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
    of_weight, of_bias = torch.empty(kernel.shape, memory_format=torch.channels_last), torch.empty(len(kernel))
    call = native.function("weight_gradient", ctypes.POINTER(_Convolution), *[ctypes.c_void_p] * 4)
    shape = _described(pictures, kernel, stride, padding)
    if call(shape, pictures.data_ptr(), grad.data_ptr(), of_weight.data_ptr(), of_bias.data_ptr()):
        raise MemoryError(f"no memory for the gradient of a kernel of {tuple(kernel.shape)}")
    return of_weight, of_bias
