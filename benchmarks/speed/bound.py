"""The least that a network's arithmetic and memory traffic take on a machine, from rates measured there.

For each layer the larger of its arithmetic at the best rate of a large matrix product or convolution and its traffic at the best rate of a
copy; the sum over the layers. Each tensor is counted as if it were read or written once by each layer that needs it, forward and
backward. Convolutions are counted as written: a way that needs fewer multiplications for the same result can be faster than that.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclasses.dataclass(frozen=True)
class Rates:
    """What the machine reaches at its best."""

    flops: float
    """Floating-point operations per second; a multiply-add is two."""
    bytes: float
    """Bytes read and written per second by a copy."""

    def to_dict(self) -> dict[str, float]:
        """Plain values."""
        return {"gflops": self.flops / 1e9, "copy_gigabytes_per_second": self.bytes / 1e9}


class Probe:
    """Large matrix products, convolutions and a copy, to be timed again and again; the best of each counts."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        large = device.type == "cuda"
        side = 8192 if large else 1536
        left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
        work: list[tuple[float, Callable[[], Any]]] = [(2 * side**3, lambda: left @ right)]
        for channels, out, kernel, pixels in ((96, 256, 5, 26), (256, 384, 3, 12), (96, 96, 3, 28)):
            pictures = torch.randn(512 if large else 8, channels, pixels, pixels, device=device, dtype=dtype)
            weight = torch.randn(out, channels, kernel, kernel, device=device, dtype=dtype)
            pictures, weight = (value.contiguous(memory_format=torch.channels_last) for value in (pictures, weight))
            # Without padding: every product counts.
            flops = 2 * len(pictures) * out * channels * kernel**2 * (pixels - kernel + 1) ** 2
            work.append((flops, lambda pictures=pictures, weight=weight: F.conv2d(pictures, weight)))
        source = torch.randn((1 << 30 if large else 1 << 28) // 4, device=device)
        target = torch.empty_like(source)
        self.work, self.copy = work, (2 * source.numel() * 4, lambda: target.copy_(source))
        self.device = device
        self.found: list[Rates] = []

    def measure(self) -> None:
        """Once through all of them."""
        with torch.no_grad():
            flops = max(amount / self._seconds(call) for amount, call in self.work)
            amount, call = self.copy
            self.found.append(Rates(flops, amount / self._seconds(call)))

    def _seconds(self, call: Callable[[], Any]) -> float:
        call()
        best = float("inf")
        for _ in range(3):
            begun = time.perf_counter()
            call()
            if self.device.type == "cuda":
                torch.cuda.synchronize()
            best = min(best, time.perf_counter() - begun)
        return best

    def best(self) -> Rates:
        """The best that was seen."""
        return Rates(max(rate.flops for rate in self.found), max(rate.bytes for rate in self.found))

    def spread(self) -> dict[str, list[float]]:
        """Each measurement, and the median: how quiet the machine was."""
        return {
            "gflops": [round(rate.flops / 1e9, 1) for rate in self.found],
            "copy_gigabytes_per_second": [round(rate.bytes / 1e9, 1) for rate in self.found],
            "median_gflops": [round(statistics.median(rate.flops for rate in self.found) / 1e9, 1)],
        }


@dataclasses.dataclass(frozen=True)
class Work:
    """What one layer has to do for a batch, one way."""

    layer: str
    flops: float
    values: float
    """Numbers read or written."""

    def seconds(self, rates: Rates, size: int) -> float:
        """At least, with numbers of so many bytes."""
        return max(self.flops / rates.flops, self.values * size / rates.bytes)


def bound(works: list[Work], rates: Rates, dtype: torch.dtype) -> float:
    """Seconds."""
    return sum(work.seconds(rates, dtype.itemsize) for work in works)


def forward_and_backward(network: nn.Module, pictures: Tensor) -> tuple[list[Work], list[Work]]:
    """The work of every layer for a batch as large as `pictures`: of a forward pass, and of the backward pass and the update after it.

    A picture's gradient is not needed, so the first layer computes its weights' alone. ReLU works in place. A normalisation could be read
    twice, for its mean and then for its values; here it is read once.
    """
    forward: list[Work] = []
    backward: list[Work] = []
    first = True
    scale = len(pictures)

    def hook(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal first
        name, enter, leave = type(layer).__name__, inputs[0].numel() * scale, output.numel() * scale
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weights = layer.weight.numel()
            products = 2.0 * leave * weights / layer.weight.shape[0]
            forward.append(Work(name, products, enter + weights + leave))
            backward.append(Work(f"{name}, weights", products, leave + enter + weights))
            if not first:
                backward.append(Work(f"{name}, pictures", products, leave + weights + enter))
            backward.append(Work(f"{name}, update", 0, 3 * weights))
            first = False
        elif isinstance(layer, nn.BatchNorm2d):
            forward.append(Work(name, 0, enter + leave))
            backward.append(Work(name, 0, leave + enter + enter))
        elif isinstance(layer, nn.ReLU):
            forward.append(Work(name, 0, enter + leave))
            backward.append(Work(name, 0, leave + leave + enter))
        elif isinstance(layer, nn.Dropout | nn.Dropout2d | nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
            forward.append(Work(name, 0, enter + leave))
            backward.append(Work(name, 0, leave + enter))

    handles = [layer.register_forward_hook(hook) for layer in network.modules() if not list(layer.children())]
    with torch.no_grad():
        network.eval()(pictures[:1])
    for handle in handles:
        handle.remove()
    return forward, backward
