"""The ReLU behind a convolution is passed on the way back; how near each way is to torch's is in test_shortcuts.py."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torchnin.models.passes import FusedReLU
from torchnin.models.rectified import Way

By = Callable[[Way], Callable[..., Tensor]]


def test_the_way_back_passes_a_relu_that_one_convolution_follows(by: By) -> None:
    torch.manual_seed(0)
    shown, slope = (torch.randn(40, 6, 15, 16).contiguous(memory_format=torch.channels_last) for _ in range(2))
    weights = [torch.randn(6, 6, side, side) for side in (3, 1, 1)]
    biases = [torch.randn(6) for _ in weights]
    leaves = [value.requires_grad_() for value in (shown, *weights, *biases)]
    exact = [value.detach().double().requires_grad_() for value in leaves]

    def through(shown: Tensor, weights: list[Tensor], biases: list[Tensor], ways: list[Callable[..., Tensor]]) -> Tensor:
        before = None
        for weight, bias, way in zip(weights, biases, ways, strict=True):
            relu = FusedReLU()
            shown, before = way(shown, weight, bias, relu, before), relu
        return shown

    def by_torch(shown: Tensor, weight: Tensor, bias: Tensor, *_: Any) -> Tensor:
        return F.conv2d(shown, weight, bias, padding=weight.shape[-1] // 2).relu()

    expected = torch.autograd.grad(through(exact[0], exact[1:4], exact[4:], [by_torch] * 3), exact, slope.double())
    for first in (by(Way()), by(Way(winograd=True))):
        for again in range(2):  # the sums are of one way back
            found = through(leaves[0], leaves[1:4], leaves[4:], [first, by(Way(pixels=True)), by(Way(pixels=True))])
            for value, right in zip(torch.autograd.grad(found, leaves, slope), expected, strict=True):
                assert float((value - right).norm() / right.norm()) < 1e-3, again


@pytest.mark.parametrize(("way", "kernel"), [(Way(), 3), (Way(winograd=True), 3), (Way(pixels=True), 1)])
@pytest.mark.parametrize("wanted", range(3))
def test_what_is_not_wanted_has_no_gradient(by: By, way: Way, kernel: int, wanted: int) -> None:
    torch.manual_seed(0)
    values = [torch.randn(3, 4, 6, 5), torch.randn(2, 4, kernel, kernel), torch.randn(2)]
    values = [value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value for value in values]
    values[wanted].requires_grad_()
    by(way)(*values, FusedReLU()).sum().backward()
    pictures, weight, bias = values
    (expected,) = torch.autograd.grad(F.conv2d(pictures, weight, bias, padding=kernel // 2).relu().sum(), values[wanted])
    assert [value.grad is None for value in values] == [number != wanted for number in range(3)]
    torch.testing.assert_close(values[wanted].grad, expected, rtol=1e-4, atol=1e-3)
