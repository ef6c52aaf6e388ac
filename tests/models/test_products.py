"""The gradients of weights and bias on matrix units are the ones that torch computes in double precision."""

import copy

import pytest
import torch
from torch import nn

from torchnin.models import mixed, native, products

pytestmark = pytest.mark.skipif(not native.has_matrices(), reason="no matrix units, or nothing is compiled for them here")


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("pictures", "channels", "outputs", "sides", "kernel", "padding"),
    [
        (9, 32, 32, (14, 14), (1, 1), (0, 0)),
        (1, 32, 48, (32, 16), (1, 1), (0, 0)),  # a whole part of a line, which is read where it lies
        (5, 160, 10, (3, 3), (1, 1), (0, 0)),
        (7, 17, 40, (6, 5), (1, 1), (0, 0)),
        (2, 16, 16, (3, 3), (1, 1), (1, 2)),
        (3, 20, 33, (9, 8), (3, 3), (1, 1)),
        (70, 16, 16, (3, 3), (3, 3), (1, 1)),  # many pictures in a part
        (2, 24, 64, (28, 27), (3, 3), (1, 1)),  # more than a part in a picture
        (4, 64, 24, (6, 7), (2, 3), (0, 2)),
        (3, 16, 96, (15, 15), (3, 3), (0, 0)),
        (2, 18, 20, (4, 9), (1, 3), (0, 1)),
        (2, 18, 20, (9, 4), (5, 1), (2, 0)),
        (3, 48, 64, (14, 14), (5, 5), (2, 2)),
        (3, 16, 32, (67, 41), (3, 3), (1, 1)),  # a picture in strips
        (2, 16, 16, (90, 30), (5, 3), (0, 2)),
        (1, 16, 16, (2, 1500), (2, 3), (1, 1)),  # rows of more than a part
        (2, 16, 16, (6, 6), (3, 3), (4, 3)),  # more zeros than the kernel is large
        (3, 16, 16, (1, 1), (3, 3), (1, 1)),
    ],
)
def test_any_shape(
    pictures: int, channels: int, outputs: int, sides: tuple[int, int], kernel: tuple[int, int], padding: tuple[int, int], threads: int
) -> None:
    torch.manual_seed(0)
    shown = torch.randn(pictures, channels, *sides).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(outputs, channels, *kernel).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    exact = weight.double().requires_grad_()
    output = nn.functional.conv2d(shown.double(), exact, None, 1, padding)
    slope = torch.randn(output.shape).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    output.backward(slope.double())
    assert products.takes(shown, weight, (1, 1))

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found, of_bias = products.gradients(shown, slope, weight, padding)
        again, _ = products.gradients(shown, slope, weight, padding)
    finally:
        torch.set_num_threads(before)

    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert exact.grad is not None
    assert float((found - exact.grad).norm() / exact.grad.norm()) < 2e-6
    torch.testing.assert_close(of_bias.double(), slope.double().sum((0, 2, 3)), rtol=1e-5, atol=1e-4)
    assert torch.equal(found, again)


def test_others_are_left_to_torch() -> None:
    shown = torch.randn(2, 32, 9, 9, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(8, 32, 3, 3, dtype=torch.bfloat16)
    assert products.takes(shown, weight, (1, 1))
    assert not products.takes(shown, weight, (2, 2))
    assert not products.takes(shown.float(), weight, (1, 1))
    assert not products.takes(shown.contiguous(), weight, (1, 1))
    assert not products.takes(shown[:, :8], weight[:, :8], (1, 1))
    assert not products.takes(shown, torch.randn(800, 32, 5, 5), (1, 1))


def test_torch_goes_on_with_its_own_tiles() -> None:
    """torch's kernels lay out the same units in their own way, before and after."""
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 64, 3, padding=1).to(memory_format=torch.channels_last)
    first, second = copy.deepcopy(layer), copy.deepcopy(layer)
    shown = torch.randn(4, 32, 12, 12).to(torch.bfloat16).contiguous(memory_format=torch.channels_last).requires_grad_()
    for each in (first, second, first, second):
        with torch.autocast("cpu", torch.bfloat16):
            assert mixed.takes(each, shown)
            output = mixed.convolve(each, shown, relu=each is first)
        output.sum().backward()
        torch.testing.assert_close(
            output.float(), (layer(shown.float()).relu() if each is first else layer(shown.float())), rtol=2e-2, atol=2e-2
        )
