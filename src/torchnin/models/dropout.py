"""Dropout as `nn.Dropout` has it, its masks drawn from random bytes where a processor computes."""

import torch
from torch import Tensor, nn

from .derivatives import are_transformed, is_traced

_LEVELS = 256  # of a random byte


class Dropout(nn.Dropout):
    """`nn.Dropout`, to the same probabilities; other values fall than there.

    PyTorch draws a number for each value on a processor, one after the other, which takes longer than the convolutions around a small
    map. Here a byte decides, and eight come at a time.
    """

    def forward(self, input: Tensor) -> Tensor:
        """`(n, c, h, w)`: some values zero while training, the others larger by as much."""
        if not self.training or is_traced(input) or are_transformed() or not draws_bytes(input, self.p):
            return super().forward(input)
        return input * dropout_mask(input, self.p)


def draws_bytes(like: Tensor, p: float) -> bool:
    """Whether `dropout_mask` can draw for such values: on the host, lying together, by a probability that a byte can decide exactly."""
    together = like.is_contiguous() or (like.dim() == 4 and like.is_contiguous(memory_format=torch.channels_last))
    return like.device.type == "cpu" and together and is_byte(p)


def is_byte(p: float) -> bool:
    """Whether a byte can decide exactly with such a probability, which is neither 0 nor 1."""
    return 0 < p < 1 and (p * _LEVELS).is_integer()


def level(p: float) -> int:
    """The number below which a random byte lies with probability `p`, for which `is_byte` holds."""
    return int(p * _LEVELS)


def chances(count: int) -> Tensor:
    """Random bytes, `(count,)`, uint8."""
    # From the lowest number on: by default none is drawn below zero, so that one bit of 64 would always be zero.
    words = torch.empty(-(-count // 8), dtype=torch.int64, device="cpu").random_(-(2**63), None)
    return words.view(torch.uint8)[:count]


def dropout_mask(like: Tensor, p: float) -> Tensor:
    """Zero with probability `p`, else `1 / (1 - p)`; shape, dtype and layout of `like`, for which `draws_bytes` holds."""
    kept = chances(like.numel()) >= level(p)
    return kept.to(like.dtype).mul_(1 / (1 - p)).as_strided(like.shape, like.stride())
