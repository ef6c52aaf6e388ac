"""A trained NiN as prediction computes it: normalisation inside the convolutions' weights, and the layouts that the processor likes."""

import copy
import dataclasses
import math
import platform
from collections.abc import Callable, Iterator
from functools import cache, cached_property, partial
from typing import Any, TypeGuard, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.graph import increment_version
from torch.nn.modules.dropout import _DropoutNd
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from .block import NiNBlock
from .nin import NiN
from .shortcuts import computes_as
from .winograd import Prepared

Layer = Callable[[Tensor], Tensor]
_Module = TypeVar("_Module", bound=nn.Module)

# Multiply-adds up to which a convolution, of kernels up to 3, is computed as a plain matrix product: oneDNN takes longer to begin.
_LITTLE_WORK = 16_000_000
# Channels, and multiply-adds of a call, from which a convolution of that kernel takes the way of fewer multiplications (winograd.py).
_WINOGRAD = {3: (128, 250_000_000), 5: (96, 100_000_000)}
# With fewer pictures at once, bringing the weights into the blocked layout costs more than the layout gives.
_MANY_PICTURES = 4
# The number of pictures that the weights are laid out for; other numbers give the same result about as fast. Other sizes of picture do
# not: bringing the weights into another layout at every call can take ten times as long as the convolution, so each size has its own.
_USUAL_PICTURES = 16
# For so many sizes at once; weights laid out take as much memory as the network's own.
_MOST_SIZES = 4
# Which pixels stand in each window is kept for so many combinations of number and size of pictures, and only where it is at most so many
# indices: for more pictures, working it out anew takes little beside the product.
_MOST_KEPT = 64
_MOST_PLACES = 32_768
# From this kernel on oneDNN's blocked layout is the faster one, below it the one with the channels of a pixel together.
_WIDE_KERNEL = 5


class FoldedNiN:
    """The class maps and logits of a trained network as in evaluation mode, computed faster; for prediction alone.

    Batch normalisation at rest is a multiplication and an addition per channel, and both become part of the convolution before it
    (computed in float64, rounded once): the logits differ from the network's own by rounding. Dropout is nothing at rest. On x86
    processors the convolutions are oneDNN's, their weights laid out in advance and ReLU inside them. A layer that a NiN is not built
    of, as another activation that was put in the place of ReLU, is computed as it is, by its copy.

    The weights are copies; `is_current` says whether the network has others by now.

    Args:
        network: a trained NiN, which stays as it is.
    """

    def __init__(self, network: NiN) -> None:
        _renew_weights(network)
        self._network = network
        # The dictionaries themselves, because walking through the modules takes longer than a small picture; empty ones too, because
        # pruning puts its masks there.
        self._rooms = [module._modules for module in network.modules()]
        self._own = [vars(module) for module in network.modules()]
        self._places = [place for module in network.modules() for place in (module._parameters, module._buffers)]
        self._parts = self._modules()
        self._state = self._versions()
        self.steps = tuple(_steps(network))
        """Convolutions, poolings and layers of other kinds in the order in which they run, up to the class maps."""
        self.linear = _linear(network.head)
        """Weight and bias of a fully connected head; empty where the head is another one."""
        self.other_head = None if self.linear or is_mean(network.head) else copied(network.head).eval()
        """A head that is neither fully connected nor the means of the class maps; None where it is one of these."""
        self._dtype = next(network.parameters()).dtype
        convolutions = [step for step in self.steps if isinstance(step, FoldedConvolution)]
        others = [step for step in self.steps if not (isinstance(step, FoldedConvolution) or _is_pool(step))]
        # Layers of other kinds may leave values in another memory layout than the ways below were measured with. Behind oneDNN's ReLU NaN
        # is zero, so that a network whose weights are NaN would answer as if they were not.
        self._onednn = all(map(_has_onednn, convolutions)) and not others and all(map(_is_finite, convolutions))
        wide = [step for step in convolutions[1:] if step.kernel >= _WIDE_KERNEL and _winograd_from(step) is None]
        # There is no average pooling in oneDNN's own layout (`to_mkldnn`).
        self._blocks = self._onednn and not any(isinstance(step, nn.AvgPool2d) for step in self.steps) and bool(wide)

    def is_current(self, network: NiN) -> bool:
        """Whether this is that network, with the modules and weights that it has now.

        What is written through `.data` (`weight.data.mul_(2)`) is not seen, as torch does not count it; under `torch.no_grad()` the
        weight itself can be written to. Pruning is seen, and so are steps of torch's optimisers, fused ones too.
        """
        return network is self._network and self._modules() == self._parts and self._versions() == self._state

    def __call__(self, pictures: Tensor) -> Tensor:
        """Logits `(n, num_classes)` of preprocessed pictures `(n, in_channels, h, w)`, in the network's own dtype, autocast or not.

        Raises:
            ValueError: the pictures have another number of channels than the network, are too small for its layers, or of another size
                than its fully connected head is for.
        """
        if torch.is_autocast_enabled(pictures.device.type):
            with torch.autocast(pictures.device.type, enabled=False):
                return self(pictures)
        if self.linear:
            self._network.check_size(*pictures.shape[2:])
        maps = self.class_maps(pictures)
        if self.other_head is not None:
            return self.other_head(maps)
        return F.linear(maps.flatten(1), *self.linear) if self.linear else maps.mean((2, 3))

    def class_maps(self, pictures: Tensor) -> Tensor:
        """One map per class, `(n, num_classes, y, x)`; raises as a call does."""
        if torch.is_autocast_enabled(pictures.device.type):
            with torch.autocast(pictures.device.type, enabled=False):
                return self.class_maps(pictures)
        self._network.check_pictures(pictures)
        pictures = pictures.to(self._dtype)
        if self._blocks and len(pictures) >= _MANY_PICTURES:
            return _through(self._blocked, pictures.contiguous().to_mkldnn()).to_dense()
        return _through(self._layers, pictures.contiguous(memory_format=_layout(pictures)))

    def macs(self, height: int, width: int) -> tuple[int, int]:
        """Multiply-adds of one picture of that size: of all convolutions, and of those with Winograd's way, counted as plain ones.

        Raises:
            RuntimeError: there is a layer of another kind, whose work is not known.
        """
        total = by_winograd = 0
        for step in self.steps:
            if isinstance(step, FoldedConvolution):
                sides = zip((height, width), step.weight.shape[2:], step.stride, step.padding, strict=True)
                height, width = ((side + 2 * padding - kernel) // stride + 1 for side, kernel, stride, padding in sides)
                here = height * width * step.weight.numel()
                total += here
                by_winograd += here if _winograd_from(step) is not None else 0
            else:
                kernel, stride, up = pooling(step)
                height, width = (-(-(side - kernel) // stride) + 1 if up else (side - kernel) // stride + 1 for side in (height, width))
        return total, by_winograd

    @cached_property
    def _layers(self) -> tuple[Layer, ...]:
        lay_out = _packed if self._onednn else _plain
        return tuple(lay_out(step) if isinstance(step, FoldedConvolution) else step for step in self.steps)

    @cached_property
    def _blocked(self) -> tuple[Layer, ...]:
        return tuple(_blocked(step) if isinstance(step, FoldedConvolution) else step for step in self.steps)

    def _modules(self) -> list[Any]:
        """The parts, and the forward passes that were put in the place of their own."""
        return [part for room in self._rooms for part in room.values()] + [own.get("forward") for own in self._own]

    def _versions(self) -> list[tuple[int, int, int]]:
        tensors = [tensor for place in self._places for tensor in place.values() if tensor is not None]
        try:
            return [(id(tensor), tensor.data_ptr(), tensor._version) for tensor in tensors]
        except RuntimeError:  # what was made in inference mode keeps no count of its changes
            return [(id(tensor), tensor.data_ptr(), 0) for tensor in tensors]


def _count_fused_step(optimizer: Optimizer, *_: Any) -> None:
    """Count a step of `fused=True` among the tensors' changes, as torch does with all other steps."""
    for group in optimizer.param_groups:
        if group.get("fused"):
            increment_version([parameter for parameter in group["params"] if parameter.grad is not None])


register_optimizer_step_post_hook(_count_fused_step)


@dataclasses.dataclass(frozen=True, eq=False)
class FoldedConvolution:
    """A convolution with the normalisation behind it in its weights."""

    weight: Tensor
    bias: Tensor
    stride: list[int]
    padding: list[int]
    relu: bool

    @property
    def kernel(self) -> int:
        """Its longer side."""
        return max(self.weight.shape[2:])


def _layout(like: Tensor) -> torch.memory_format:
    """Convolutions run faster with the channels of a pixel together; Metal's expect the other."""
    return torch.contiguous_format if like.device.type == "mps" else torch.channels_last


def _through(layers: tuple[Layer, ...], values: Tensor) -> Tensor:
    for layer in layers:
        values = layer(values)
    return values


def _renew_weights(network: NiN) -> None:
    """Have torch's pruning, weight norm and spectral norm make the weights that they would make before the next forward pass."""
    for module in network.modules():
        for hook in module._forward_pre_hooks.values():
            if makes_weights(hook):
                hook(module, ())


def makes_weights(hook: object) -> bool:
    """Whether a hook is torch's own, of pruning, weight norm or spectral norm."""
    return type(hook).__module__.startswith("torch.nn.utils.")


def _steps(network: NiN) -> Iterator[FoldedConvolution | nn.Module]:
    """What is computed, in the order in which it runs; dropout is nothing at rest."""
    for part in network.parts():
        modules = list(part) if computes_as(part, NiNBlock) else [part]
        while modules:
            module = modules.pop(0)
            if _is_plain_convolution(module):
                norm = modules[0] if modules and _is_at_rest(modules[0]) else None
                del modules[: 0 if norm is None else 1]
                relu = bool(modules) and computes_as(modules[0], nn.ReLU)
                del modules[: int(relu)]
                yield _folded(module, norm, relu=relu)
            elif _is_pool(module):
                yield module
            elif not isinstance(module, _DropoutNd | nn.Identity):
                yield copied(module).eval()


def _is_plain_convolution(module: nn.Module) -> TypeGuard[nn.Conv2d]:
    return (
        computes_as(module, nn.Conv2d)
        and module.groups == 1
        and module.dilation == (1, 1)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


def _is_pool(module: nn.Module) -> TypeGuard[nn.MaxPool2d | nn.AvgPool2d]:
    return computes_as(module, nn.MaxPool2d) or computes_as(module, nn.AvgPool2d)


def _is_at_rest(module: nn.Module) -> TypeGuard[nn.BatchNorm2d]:
    """Whether a module is batch normalisation that at rest multiplies and adds what does not depend on the pictures."""
    return computes_as(module, nn.BatchNorm2d) and module.affine and module.running_mean is not None and module.running_var is not None


def _linear(head: nn.Module) -> tuple[Tensor, ...]:
    """Weight and bias of a head that is one fully connected layer on all pixels; empty for every other."""
    layers = list(head.children()) if computes_as(head, nn.Sequential) else []
    if len(layers) == 2 and computes_as(layers[0], nn.Flatten) and computes_as(layers[1], nn.Linear) and layers[1].bias is not None:
        return _detached(layers[1].weight), _detached(layers[1].bias)
    return ()


def is_mean(head: nn.Module) -> bool:
    """Whether a head's logits are the means of the class maps."""
    layers = list(head.children()) if computes_as(head, nn.Sequential) else []
    if len(layers) == 2 and computes_as(layers[0], nn.AdaptiveAvgPool2d) and computes_as(layers[1], nn.Flatten):
        return layers[0].output_size in (1, (1, 1))
    return False


def copied(module: _Module) -> _Module:
    """A module of its own; of tensors that pruning, weight norm or spectral norm computed, which torch does not copy, the values."""
    computed = {id(value): _detached(value) for part in module.modules() for value in vars(part).values() if isinstance(value, Tensor)}
    return copy.deepcopy(module, computed)


def _detached(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


def pooling(step: nn.Module) -> tuple[int, int, bool]:
    """Side and step of a pooling's window, and whether a window that overhangs counts.

    Raises:
        RuntimeError: it is no pooling, or one that a NiN is not built with.
    """
    if _is_pool(step):
        kernel, stride, padding = step.kernel_size, step.stride, step.padding
        usual = step.dilation == 1 if isinstance(step, nn.MaxPool2d) else step.divisor_override is None
        if isinstance(kernel, int) and isinstance(stride, int) and padding == 0 and usual:
            return kernel, stride, bool(step.ceil_mode)
    raise RuntimeError(f"{' '.join(str(step).split())} is no layer that a NiN is built of")


def _folded(convolution: nn.Conv2d, norm: nn.BatchNorm2d | None, *, relu: bool) -> FoldedConvolution:
    like = convolution.weight
    # On the host, for not every device computes in float64.
    weight, bias = _exact(convolution.weight), torch.zeros(convolution.out_channels, dtype=torch.float64, device=convolution.weight.device)
    if convolution.bias is not None:
        bias = _exact(convolution.bias)
    if norm is not None:
        assert norm.running_mean is not None
        assert norm.running_var is not None
        factor = _exact(norm.weight) / (_exact(norm.running_var) + norm.eps).sqrt()
        weight = weight * factor[:, None, None, None]
        bias = (bias - _exact(norm.running_mean)) * factor + _exact(norm.bias)
    stride, padding = convolution.stride, convolution.padding
    assert not isinstance(padding, str)
    return FoldedConvolution(
        # `to` and not `contiguous`, which leaves the strides of a 1 x 1 kernel as they are and so costs a layout at every call.
        weight=weight.to(like.device, like.dtype).to(memory_format=_layout(like)),
        bias=bias.to(like.device, like.dtype),
        stride=list(stride),
        padding=list(padding),
        relu=relu,
    )


def _exact(values: Tensor) -> Tensor:
    return values.detach().cpu().double()


def _has_onednn(step: FoldedConvolution) -> bool:
    """Measured on x86 alone; elsewhere PyTorch's own choice holds. The names are private, so they may be absent in another version."""
    if step.weight.device.type != "cpu" or step.weight.dtype != torch.float32 or platform.machine() not in ("x86_64", "AMD64"):
        return False
    if not (torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled):
        return False
    return hasattr(torch.ops.mkldnn, "_convolution_pointwise") and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")


def _is_finite(step: FoldedConvolution) -> bool:
    return bool(step.weight.isfinite().all()) and bool(step.bias.isfinite().all())


def _plain(step: FoldedConvolution) -> Layer:
    def layer(values: Tensor) -> Tensor:
        values = torch.conv2d(values, step.weight, step.bias, step.stride, step.padding)
        return values.relu_() if step.relu else values

    return layer


def _product(step: FoldedConvolution) -> Layer:
    """One matrix product over all places of all pictures."""
    rows = step.weight.permute(2, 3, 1, 0).flatten(0, 2).contiguous()
    length, bias, relu = len(rows), step.bias, step.relu
    pointwise = step.kernel == 1 and max(step.stride) == 1 and max(step.padding) == 0
    nothing = step.weight.new_zeros(1, step.weight.shape[1])
    places: dict[tuple[int, int, int], tuple[Tensor, int, int]] = {}

    def layer(values: Tensor) -> Tensor:
        count, channels, height, width = values.shape
        pixels = values.permute(0, 2, 3, 1).reshape(-1, channels)
        if not pointwise:
            size = count, height, width
            windows = places.get(size)  # several threads may be here
            if windows is None:
                windows = _windows(step, *size)
                if len(windows[0]) <= _MOST_PLACES:
                    if len(places) >= _MOST_KEPT:
                        places.clear()
                    places[size] = windows
            index, height, width = windows
            # Beside a picture lies the row of zeros that ends them all.
            pixels = torch.cat((pixels, nothing)).index_select(0, index).view(-1, length)
        found = torch.addmm(bias, pixels, rows)
        return (found.relu_() if relu else found).view(count, height, width, len(bias)).permute(0, 3, 1, 2)

    return layer


def _windows(step: FoldedConvolution, count: int, height: int, width: int) -> tuple[Tensor, int, int]:
    """Which pixel stands at each place of each window of `count` pictures, one more than all for beside a picture; windows down, across."""
    above, left = step.padding
    pixels = torch.arange(count * height * width, dtype=torch.int32, device="cpu").view(count, height, width)
    padded = F.pad(pixels, (left, left, above, above), value=pixels.numel())
    high, wide = step.weight.shape[2:]
    windows = padded.unfold(1, high, step.stride[0]).unfold(2, wide, step.stride[1])
    return windows.flatten().to(step.weight.device), windows.shape[1], windows.shape[2]


def _winograd_from(step: FoldedConvolution) -> float | None:
    """Places of a call, down times across times pictures, from which Winograd's way is the faster one; None where it never is."""
    out_channels, channels, high, wide = step.weight.shape
    least_channels, work = _WINOGRAD.get(high, (0, 0))
    keeps_size = high == wide and step.stride == [1, 1] and step.padding == [high // 2, high // 2]
    if work == 0 or not keeps_size or min(channels, out_channels) < least_channels:
        return None
    return work / step.weight.numel()


def _packed(step: FoldedConvolution) -> Layer:
    """The channels of a pixel together, ReLU in the convolution."""
    convolve = torch.ops.mkldnn._convolution_pointwise.default
    product = _product(step)
    few_values = _LITTLE_WORK * math.prod(step.stride) / len(step.weight) / math.prod(step.weight.shape[2:]) if step.kernel <= 3 else 0
    many_places = _winograd_from(step)
    prepared = cache(lambda: Prepared(step.weight, step.bias, relu=step.relu))  # much work may never come
    laid_out: dict[torch.Size, tuple[Any, ...]] = {}

    def settings(size: torch.Size) -> tuple[Any, ...]:
        weight = torch.ops.mkldnn._reorder_convolution_weight(step.weight, step.padding, step.stride, [1, 1], 1, [_USUAL_PICTURES, *size])
        if len(laid_out) >= _MOST_SIZES:
            laid_out.pop(next(iter(laid_out)), None)
        found = laid_out[size] = (weight, step.bias, step.padding, step.stride, [1, 1], 1, "relu" if step.relu else "none", [], "")
        return found

    def layer(values: Tensor) -> Tensor:
        if values.numel() <= few_values:
            return product(values)
        if many_places is not None and values.numel() >= many_places * values.shape[1]:
            return prepared()(values)
        size = values.shape[1:]
        packed: Tensor = convolve(values, *(laid_out.get(size) or settings(size)))
        return packed

    return layer


def _blocked(step: FoldedConvolution) -> Layer:
    """Eight channels of a pixel together; takes and gives values in oneDNN's own layout (`to_mkldnn`)."""
    weight, bias = step.weight.contiguous().to_mkldnn(), step.bias.to_mkldnn()
    convolve = partial(
        torch.mkldnn_convolution, weight=weight, bias=bias, padding=step.padding, stride=step.stride, dilation=[1, 1], groups=1
    )

    def layer(values: Tensor) -> Tensor:
        values = convolve(values)
        return values.relu_() if step.relu else values

    return layer
