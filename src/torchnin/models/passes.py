"""Batch normalisation, max pooling, ReLU and dropout in as few passes over the pictures as there can be, for training on a processor.

torch takes these layers one by one; what they do to a value is little, and what a step of a small network waits for is memory. Here they
are one pass, after one for mean and variance, and two on the way back, in C (`native/passes.c`); where that is not compiled, torch's own
layers do the same, up to rounding (tests/models/test_passes.py says how near). `NiNBlock` takes these ways by itself; inside
`layer_by_layer()` it does without.
"""

import ctypes
from collections.abc import Sequence
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import derivatives, native
from .config import POOL_KERNEL, POOL_STRIDE
from .dropout import Dropout, chances, is_byte, level


class _Shape(ctypes.Structure):
    """`Shape` of passes.c."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("half", "threads")),
        *((name, ctypes.c_int64) for name in ("pictures", "height", "width", "channels", "rows", "columns")),
    )


# What the functions of passes.c take behind the shape.
_ARGUMENTS = {
    "normalise": (*[ctypes.c_void_p] * 9, *[ctypes.c_double] * 2, *[ctypes.c_void_p] * 2),
    "normalise_backward": (ctypes.c_void_p,) * 12,
    "pool": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32, ctypes.c_double, ctypes.c_void_p, ctypes.c_void_p),
    "pool_backward": (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_double, ctypes.c_void_p),
    "relu_backward": (ctypes.c_void_p,) * 4,
}


def _call(name: str, pictures: Tensor, pooled: Sequence[int], *arguments: Tensor | float | None) -> None:
    """Call a function of passes.c.

    Args:
        name: which.
        pictures: `(n, c, h, w)`, before any pooling; for their shape and dtype.
        pooled: height and width behind it; nothing without it.
        arguments: addresses of tensors, or numbers.

    Raises:
        MemoryError: there is none for its sums.
    """
    number, channels, height, width = pictures.shape
    shape = _Shape(pictures.dtype == torch.bfloat16, torch.get_num_threads(), number, height, width, channels, *(pooled or (0, 0)))
    values = [argument.data_ptr() if isinstance(argument, Tensor) else argument for argument in arguments]
    if native.function(name, ctypes.POINTER(_Shape), *_ARGUMENTS[name])(shape, *values):
        raise MemoryError(f"no memory for {name} of pictures of {channels} channels")


class FusedReLU:
    """A ReLU that the layer before it computed, and whose gradient the convolution behind it may compute with its own."""

    def __init__(self, *, normalised: bool = False) -> None:
        self.normalised = normalised
        """Whether batch normalisation stands before it, whose backward pass begins with both `sums`."""
        self.sums: Tensor | None = None
        """Set where the convolution behind it has computed its gradient too: of the gradient of its input the sums over pictures and
        pixels, and those of that gradient times its output, `(2, c)`, float64."""
        self.shared = False
        """Whether gradients may also reach it otherwise than through that convolution, which then leaves it to autograd."""

    def share(self) -> None:
        """Leave it to autograd from now on, as where its gradient is to have a gradient itself."""
        self.sums, self.shared = None, True

    def take_sums(self) -> Tensor | None:
        """The sums, which are then forgotten: another backward pass has others."""
        found, self.sums = self.sums, None
        return found


class Moments:
    """Sums of a convolution's output for the batch normalisation behind it, if the convolution computes them."""

    def __init__(self) -> None:
        self.sums: Tensor | None = None
        """Of the values and of their squares, over pictures and pixels, `(2, c)`, float64; None where they are not computed."""


def take(
    layers: Sequence[nn.Module], pictures: Tensor, moments: Moments | None = None, passed: FusedReLU | None = None
) -> tuple[int, Tensor] | None:
    """What the first of some layers make of pictures, in fewer passes than one after the other.

    Args:
        layers: in the order in which they follow; nobody listens to what goes in or comes out.
        pictures: `(n, c, h, w)` on a processor.
        moments: of these pictures.
        passed: a new one, for the ReLU behind normalisation without pooling.

    Returns:
        How many layers that were, and what they make, `(n, c, h', w')` in channels-last memory: of batch normalisation and ReLU, with max
        pooling between them or without, or of max pooling and ReLU, with dropout behind them or without. None where they are others, or the
        pictures are of another kind.
    """
    norm = layers[0] if type(layers[0]) is nn.BatchNorm2d else None
    rest = layers[1:] if norm is not None else layers
    pool = rest[0] if rest and type(rest[0]) is nn.MaxPool2d else None
    relu = rest[1:] if pool is not None else rest
    if (norm is None and pool is None) or not relu or type(relu[0]) is not nn.ReLU or not _admits(norm, pool, pictures):
        return None
    sides: tuple[int, ...] = () if pool is None else tuple(_pooled(side, ceil=pool.ceil_mode) for side in pictures.shape[2:])
    taken = (norm is not None) + (pool is not None) + 1
    if norm is None:
        dropout = relu[1] if len(relu) > 1 and _drops(relu[1]) else None
        return taken + (dropout is not None), _Pool.apply(pictures, sides, 0.0 if dropout is None else dropout.p)
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    return taken, _Normalise.apply(pictures, norm.weight, norm.bias, norm, sides, moments and moments.sums, None if sides else passed)


def _drops(layer: nn.Module) -> TypeGuard[Dropout]:
    return type(layer) is Dropout and layer.training and is_byte(layer.p)


def _admits(norm: nn.BatchNorm2d | None, pool: nn.MaxPool2d | None, pictures: Tensor) -> bool:
    if (
        native.compiled() is None
        or not derivatives.have_memory(pictures, *_values_of(norm))
        or pictures.dtype not in (torch.float32, torch.bfloat16)
        or not pictures.is_contiguous(memory_format=torch.channels_last)
        or pictures.numel() <= pictures.shape[1]  # of one pixel there is no variance, which torch says in a sentence
    ):
        return False
    if pool is not None and not (
        pool.kernel_size == POOL_KERNEL
        and pool.stride == POOL_STRIDE
        and pool.padding == 0
        and pool.dilation == 1
        and not pool.return_indices
        and min(pictures.shape[2:]) >= POOL_KERNEL
    ):
        return False
    return norm is None or (
        norm.training
        and norm.affine
        and norm.momentum is not None
        and norm.num_features == pictures.shape[1]
        and all(value is None or (value.dtype == torch.float32 and value.is_contiguous()) for value in _values_of(norm))
    )


def _values_of(norm: nn.BatchNorm2d | None) -> tuple[Tensor | None, ...]:
    return () if norm is None else (norm.weight, norm.bias, norm.running_mean, norm.running_var)


def _pooled(side: int, *, ceil: bool) -> int:
    """What pooling leaves of a side of so many pixels; rounded up, a window that begins beyond it is none."""
    windows = (side - POOL_KERNEL + (POOL_STRIDE - 1 if ceil else 0)) // POOL_STRIDE + 1
    return windows - (ceil and (windows - 1) * POOL_STRIDE >= side)


def _room(pictures: Tensor, sides: Sequence[int], dtype: torch.dtype | None = None) -> Tensor:
    """`(n, c, *sides)` in channels-last memory, with nothing in it yet; without sides as large as the pictures."""
    shape = (*pictures.shape[:2], *(sides or pictures.shape[2:]))
    return torch.empty(shape, dtype=dtype or pictures.dtype, device=pictures.device, memory_format=torch.channels_last)


def relu_gradient(output: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The way back through a ReLU.

    Args:
        output: `(n, c, h, w)`, what it made, in channels-last memory.
        grad: of that, of the same shape, dtype and memory.

    Returns:
        Gradient of what went in, `(n, c, h, w)`; its sum over pictures and pixels `(c,)`, float32, which is a bias' that was added before.
    """
    gradient, of_bias = torch.empty_like(output), torch.empty(output.shape[1], dtype=torch.float32, device="cpu")
    _call("relu_backward", output, (), output, grad, gradient, of_bias)
    return gradient, of_bias


class _Normalise(torch.autograd.Function):
    """Batch normalisation, pooling where there are sides of what it leaves, and ReLU."""

    @staticmethod
    def forward(
        ctx: Any,
        pictures: Tensor,
        weight: Tensor,
        bias: Tensor,
        norm: nn.BatchNorm2d,
        sides: tuple[int, ...],
        moments: Tensor | None,
        relu: FusedReLU | None,
    ) -> Tensor:
        output, places, picked = _room(pictures, sides), None, None
        if sides:
            places, picked = _room(pictures, sides, torch.uint8), _room(pictures, sides)
        mean, inverse = torch.empty_like(weight), torch.empty_like(weight)
        assert norm.momentum is not None
        running = norm.running_mean, norm.running_var, norm.momentum, norm.eps
        _call("normalise", pictures, sides, pictures, output, places, picked, moments, weight, bias, *running, mean, inverse)
        ctx.save_for_backward(pictures, weight, bias, mean, inverse, places, picked)
        ctx.sides, ctx.eps, ctx.relu = sides, norm.eps, relu
        return output

    @staticmethod
    @derivatives.in_own_dtype
    def backward(ctx: Any, grad: Tensor) -> Any:
        pictures, weight, bias, mean, inverse, places, picked = ctx.saved_tensors
        if derivatives.need_torch(grad):
            return *_differentiable(ctx, (pictures, weight, bias), places, grad), *[None] * 4
        grad, pictures, places, picked = derivatives.in_its_memory(grad, pictures, places, picked)
        found = torch.empty_like(pictures), torch.empty_like(weight), torch.empty_like(bias)
        cut = None if ctx.relu is None else ctx.relu.take_sums()
        arguments = pictures, grad, places, picked, cut, found[0], weight, bias, mean, inverse, found[1], found[2]
        _call("normalise_backward", pictures, ctx.sides, *arguments)
        return *found, *[None] * 4


class _Pool(torch.autograd.Function):
    """Pooling and ReLU, and dropout with probability `p`."""

    @staticmethod
    def forward(ctx: Any, pictures: Tensor, sides: tuple[int, ...], p: float) -> Tensor:
        output, places = _room(pictures, sides), _room(pictures, sides, torch.uint8)
        drawn = chances(output.numel()) if p else None
        factor = torch.tensor(1 / (1 - p), dtype=pictures.dtype, device="cpu").item()  # as a mask would have it
        _call("pool", pictures, sides, pictures, drawn, level(p), factor, output, places)
        ctx.save_for_backward(places)
        ctx.shape, ctx.sides, ctx.factor = pictures.shape, sides, factor
        return output

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        (places,) = ctx.saved_tensors
        if derivatives.need_torch(grad):
            return _unpooled(places, grad * ctx.factor, ctx.shape), None, None
        grad, places = derivatives.in_its_memory(grad, places)
        gradient = torch.empty(ctx.shape, dtype=grad.dtype, device=grad.device, memory_format=torch.channels_last)
        _call("pool_backward", gradient, ctx.sides, grad, places, ctx.factor, gradient)
        return gradient, None, None


def _differentiable(ctx: Any, values: tuple[Tensor, ...], places: Tensor | None, grad: Tensor) -> tuple[Tensor | None, ...]:
    """The gradients through normalisation, where they are to have gradients themselves, or stand for many: by torch's own layers."""
    pictures, weight, bias = values
    if places is not None:
        grad = _unpooled(places, grad, pictures.shape)

    def output() -> Tensor:
        normalised = F.batch_norm(pictures, None, None, weight, bias, training=True, eps=ctx.eps)
        return normalised.relu() if places is None else normalised

    return derivatives.found(output, values, ctx.needs_input_grad[:3], grad)


def _unpooled(places: Tensor, grad: Tensor, shape: Sequence[int]) -> Tensor:
    """`pool_backward` by torch's own functions, so that it has a gradient.

    Args:
        places: `(n, c, rows, columns)`, which of the nine pixels of each window was the largest; another number where ReLU or
            dropout made zero of it.
        grad: of the same shape.
        shape: `(n, c, h, w)` of what was pooled.
    """
    number, channels, height, width = shape
    rows, columns = (torch.arange(side, device=places.device) * POOL_STRIDE for side in places.shape[2:])
    taken = places < POOL_KERNEL**2
    pixels = (places // POOL_KERNEL + rows[:, None]) * width + places % POOL_KERNEL + columns
    where = torch.where(taken, pixels, 0).flatten(2)
    # Not flattened, which a gradient that stands for many cannot be.
    gradient = grad.new_zeros(number, channels, height * width).scatter_add(2, where, (grad * taken).reshape(where.shape))
    return gradient.view(number, channels, height, width)
