"""The gradients of a convolution's weights and bias on a processor's matrix units, in C (`native/products.c`), for training in bfloat16.

Where a network has few channels, torch's kernels for it leave most of the units' time unused. `mixed` takes this way by itself.
"""

import ctypes
from collections.abc import Sequence

import torch
from torch import Tensor

from . import native

# Fewer channels that come in leave most of a tile empty.
_CHANNELS = 16
# With more taps than these, more weights than these are more sums than the caches hold, of which torch's kernels take better care.
_TAPS, _WEIGHTS = 9, 400_000


class _Convolution(ctypes.Structure):
    """`Convolution` of products.c."""

    _fields_ = (
        ("threads", ctypes.c_int32),
        *((name, ctypes.c_int64) for name in ("pictures", "height", "width", "channels", "outputs", "down", "across", "above", "beside")),
    )


def takes(pictures: Tensor, kernel: Tensor, stride: Sequence[int]) -> bool:
    """Whether this is a way to the gradient of such a kernel, `(out_channels, c, rows, columns)`, from such pictures, `(n, c, h, w)`."""
    return (
        native.has_matrices()
        and pictures.dtype == torch.bfloat16
        and tuple(stride) == (1, 1)
        and kernel.shape[1] >= _CHANNELS
        and (kernel[0, 0].numel() <= _TAPS or kernel.numel() <= _WEIGHTS)
        and pictures.is_contiguous(memory_format=torch.channels_last)
    )


def gradients(pictures: Tensor, grad: Tensor, kernel: Tensor, padding: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The gradients of a kernel of stride 1 and of the bias behind it.

    Args:
        pictures: what came in, `(n, c, h, w)`, bfloat16, in channels-last memory.
        grad: of what came out, `(n, out_channels, h', w')`, likewise.
        kernel: `(out_channels, c, rows, columns)`, for its shape.
        padding: zeros above and below, and on either side.

    Returns:
        `(out_channels, c, rows, columns)`, float32, in channels-last memory; and `(out_channels,)`, float32.

    Raises:
        MemoryError: there is none for its sums.
    """
    of_weight, of_bias = torch.empty(kernel.shape, memory_format=torch.channels_last), torch.empty(len(kernel))
    number, channels, height, width = pictures.shape
    shape = _Convolution(torch.get_num_threads(), number, height, width, channels, len(kernel), *kernel.shape[2:], *padding)
    call = native.function("weight_gradient", ctypes.POINTER(_Convolution), *[ctypes.c_void_p] * 4)
    if call(shape, pictures.data_ptr(), grad.data_ptr(), of_weight.data_ptr(), of_bias.data_ptr()):
        raise MemoryError(f"no memory for the gradient of a kernel of {tuple(kernel.shape)}")
    return of_weight, of_bias
