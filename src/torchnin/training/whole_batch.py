"""Layers that see a whole batch although its pictures are spread over several processes."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchnin.models.dropout import draws_bytes, dropout_mask
from torchnin.training.processes import Processes


@dataclasses.dataclass
class Spread:
    """How the batch that the network is looking at lies over the processes."""

    processes: Processes
    part: slice = dataclasses.field(default_factory=lambda: slice(0))
    """Which of its pictures are here."""
    whole: int = 0
    """How many it has."""


@contextlib.contextmanager
def seeing_whole_batches(network: nn.Module, spread: Spread) -> Iterator[None]:
    """While open, batch normalisation and dropout of a network do what they would do in one process that has the whole batch.

    The layers that take their place hold the same weights and buffers, so nothing needs to be carried back.
    """
    replaced = []
    for parent in list(network.modules()):
        for name, layer in parent.named_children():
            stand_in = _stand_in(layer, spread)
            if stand_in is not None:
                replaced.append((parent, name, layer))
                setattr(parent, name, stand_in.train(layer.training))
    try:
        yield
    finally:
        for parent, name, layer in replaced:
            setattr(parent, name, layer.train(network.training))


def _stand_in(layer: nn.Module, spread: Spread) -> nn.Module | None:
    if isinstance(layer, nn.BatchNorm2d):
        return _BatchNorm(layer, spread)
    if isinstance(layer, nn.Dropout | nn.Dropout2d):
        return _Dropout(layer, spread)
    return None


class _BatchNorm(nn.BatchNorm2d):
    """Batch normalisation by mean and variance of the whole batch, on any device; torch's SyncBatchNorm is for GPUs alone."""

    def __init__(self, layer: nn.BatchNorm2d, spread: Spread) -> None:
        super().__init__(layer.num_features, layer.eps, layer.momentum, device="meta")
        self._parameters, self._buffers, self.spread = layer._parameters, layer._buffers, spread

    def forward(self, input: Tensor) -> Tensor:
        """As `nn.BatchNorm2d`."""
        if not self.training:
            return super().forward(input)
        output, mean, variance, count = _Normalise.apply(input, self.weight, self.bias, self.eps, self.spread.processes)
        with torch.no_grad():
            assert self.running_mean is not None
            assert self.running_var is not None
            assert self.num_batches_tracked is not None
            assert self.momentum is not None
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        return output


class _Normalise(torch.autograd.Function):
    """Forward and backward of batch normalisation whose statistics are those of all processes together."""

    @staticmethod
    def forward(ctx: Any, pictures: Tensor, weight: Tensor, bias: Tensor, eps: float, processes: Processes) -> Any:
        """`(n, c, h, w)`, `(c,)`, `(c,)`: the output, and mean, variance and number of values a channel, of the whole batch."""
        channels, values = pictures.shape[1], pictures.numel() // pictures.shape[1]
        # A row a process: how many values, their mean, their variance. Merging these loses no digits, as sums of squares would.
        rows = torch.zeros(processes.count, 1 + 2 * channels, device=pictures.device, dtype=weight.dtype)
        if values:
            variance, mean = torch.var_mean(pictures.to(weight.dtype), (0, 2, 3), correction=0)
            rows[processes.rank] = torch.cat([mean.new_full((1,), values), mean, variance])
        counts, means, variances = processes.summed(rows).split([1, channels, channels], dim=1)
        count = counts.sum()
        mean = (counts * means).sum(0) / count
        variance = (counts * (variances + (means - mean) ** 2)).sum(0) / count
        ctx.save_for_backward(pictures, weight, mean, variance, count)
        ctx.eps, ctx.processes = eps, processes
        output = F.batch_norm(pictures, mean, variance, weight, bias, training=False, eps=eps)
        ctx.mark_non_differentiable(mean, variance, count)
        return output, mean, variance, count

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        """The gradients of this process's pictures, and its share of those of weight and bias."""
        pictures, weight, mean, variance, count = ctx.saved_tensors
        grad_weight, grad_bias = torch.zeros_like(weight), torch.zeros_like(weight)
        if len(pictures):  # a last batch may have fewer pictures than there are processes, and torch's kernel fails on none
            grad = grad.contiguous(memory_format=torch.channels_last)
            # As in evaluation mode, in which it computes no more than two sums: the gradients of weight and bias.
            _, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
                grad, pictures, weight, mean, variance, None, None, False, ctx.eps, [False, True, True]
            )
        along, total = ctx.processes.summed(torch.stack([grad_weight, grad_bias])) / count
        scale = weight * torch.rsqrt(variance + ctx.eps)
        slope = -scale * along * torch.rsqrt(variance + ctx.eps)
        offset = -scale * total - slope * mean
        grad_pictures = grad * _per_channel(scale) + pictures * _per_channel(slope) + _per_channel(offset)
        return grad_pictures.to(pictures.dtype), grad_weight, grad_bias, None, None


class _Dropout(nn.Module):
    """Dropout whose mask is drawn for the whole batch, as one process would draw it; each process takes its part."""

    def __init__(self, layer: nn.Dropout | nn.Dropout2d, spread: Spread) -> None:
        super().__init__()
        self.probability, self.by_channel, self.spread = layer.p, isinstance(layer, nn.Dropout2d), spread

    def forward(self, features: Tensor) -> Tensor:
        """The features, some of them zero while training."""
        if not self.training:
            return features
        if self.by_channel:
            mask = F.dropout2d(features.new_ones(self.spread.whole, features.shape[1], 1, 1), self.probability)
        else:
            ones = features.new_ones(self.spread.whole, *features.shape[1:]).contiguous(memory_format=torch.channels_last)
            mask = dropout_mask(ones, self.probability) if draws_bytes(ones, self.probability) else F.dropout(ones, self.probability)
        return features * mask[self.spread.part]


def _per_channel(values: Tensor) -> Tensor:
    return values[:, None, None]
