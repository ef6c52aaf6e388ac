"""Convolutions and their gradients on matrix units are the ones that torch computes in double precision."""

import contextlib
import copy
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from torchnin.models import mixed, native, passes, products

pytestmark = pytest.mark.skipif(not native.has_matrices(), reason="no matrix units, or nothing is compiled for them here")


@contextlib.contextmanager
def with_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def drawn(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(shape).to(dtype).contiguous(memory_format=torch.channels_last)


def check_moments(shown: torch.Tensor, weight: torch.Tensor, strides: tuple[int, int], padding: tuple[int, int]) -> None:
    moments = torch.empty(2, len(weight), dtype=torch.float64)
    found = products.convolve(shown, weight, None, strides, padding, relu=False, moments=moments)
    assert torch.equal(found, products.convolve(shown, weight, None, strides, padding, relu=False))
    values = found.double()
    torch.testing.assert_close(moments, torch.stack([values.sum((0, 2, 3)), values.square().sum((0, 2, 3))]), rtol=1e-6, atol=1e-4)


def apart(found: torch.Tensor, exact: torch.Tensor) -> float:
    return float((found - exact).norm() / exact.norm())


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
        (70, 16, 16, (3, 3), (3, 3), (1, 1)),  # many pictures in a part, the same pixel of 32 at once
        (40, 32, 48, (7, 7), (3, 3), (1, 1)),
        (33, 48, 16, (9, 4), (5, 1), (2, 0)),
        (16, 16, 32, (6, 6), (3, 3), (4, 3)),
        (150, 16, 16, (3, 3), (2, 2), (0, 1)),
        (70, 17, 16, (3, 3), (3, 3), (1, 1)),
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
    shown, weight = drawn(pictures, channels, *sides), drawn(outputs, channels, *kernel)
    exact = weight.double().requires_grad_()
    output = nn.functional.conv2d(shown.double(), exact, None, 1, padding)
    slope = drawn(*output.shape)
    output.backward(slope.double())
    assert products.has_weight_gradient(shown, weight, (1, 1))

    with with_threads(threads):
        found, of_bias = products.weight_gradient(shown, slope, weight, (1, 1), padding)
        again, _ = products.weight_gradient(shown, slope, weight, (1, 1), padding)

    assert found.dtype == torch.float32
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert exact.grad is not None
    assert apart(found, exact.grad) < 2e-6
    torch.testing.assert_close(of_bias.double(), slope.double().sum((0, 2, 3)), rtol=1e-5, atol=1e-4)
    assert torch.equal(found, again)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("pictures", "channels", "outputs", "sides", "kernel", "stride", "padding"),
    [
        (5, 1, 96, (28, 28), (5, 5), 1, (2, 2)),
        (9, 1, 32, (28, 28), (3, 3), 2, (1, 1)),
        (3, 3, 64, (32, 32), (3, 3), 1, (1, 1)),
        (2, 1, 40, (67, 67), (11, 11), 4, (0, 0)),  # 121 values under the kernel
        (3, 3, 17, (17, 23), (3, 5), 3, (0, 4)),
        (2, 2, 10, (9, 700), (2, 3), 1, (1, 0)),  # rows of more than a part
        (4, 15, 16, (5, 4), (2, 2), 2, (0, 1)),
        (33, 4, 20, (3, 3), (1, 1), 1, (0, 0)),
        (1, 1, 8, (1, 1), (3, 3), 1, (1, 1)),
        (3, 8, 16, (6, 6), (3, 4), 1, (3, 5)),  # more zeros than the kernel is large
    ],
)
def test_few_channels(
    pictures: int,
    channels: int,
    outputs: int,
    sides: tuple[int, int],
    kernel: tuple[int, int],
    stride: int,
    padding: tuple[int, int],
    dtype: torch.dtype,
    threads: int,
) -> None:
    torch.manual_seed(0)
    shown, weight, bias = drawn(pictures, channels, *sides, dtype=dtype), drawn(outputs, channels, *kernel), torch.randn(outputs)
    strides = (stride, stride)
    assert products.gathers(shown, weight, strides)
    exact = weight.double().requires_grad_()
    output = nn.functional.conv2d(shown.to(torch.bfloat16).double(), exact, bias.double(), stride, padding)
    slope = drawn(*output.shape)
    output.backward(slope.double())

    with with_threads(threads):
        found = products.convolve(shown, weight, bias, strides, padding, relu=False)
        cut = products.convolve(shown, weight, None, strides, padding, relu=True)
        of_weight, of_bias = products.weight_gradient(shown, slope, weight, strides, padding)
        check_moments(shown, weight, strides, padding)

    assert found.dtype == torch.bfloat16
    assert found.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(found.double(), output.detach(), rtol=2**-8, atol=1e-5)
    torch.testing.assert_close(cut.double(), (output - bias.double().view(-1, 1, 1)).relu().detach(), rtol=2**-8, atol=1e-5)
    assert exact.grad is not None
    assert apart(of_weight, exact.grad) < 2e-6
    torch.testing.assert_close(of_bias.double(), slope.double().sum((0, 2, 3)), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("pictures", "channels", "outputs", "sides"),
    [
        (3, 33, 40, (5, 4)),
        (1, 16, 17, (1, 1)),
        (2, 96, 64, (28, 28)),
        (1, 64, 48, (32, 16)),
        (70, 128, 16, (3, 3)),
        (2, 48, 130, (9, 13)),
        (50, 160, 10, (3, 3)),
        (3, 288, 128, (11, 13)),
    ],
)
def test_pixels(pictures: int, channels: int, outputs: int, sides: tuple[int, int], threads: int) -> None:
    """A 1x1 convolution, and the way back through it and the ReLU before it."""
    torch.manual_seed(0)
    before = drawn(pictures, channels, *sides).double().requires_grad_()
    shown = drawn(*before.shape).copy_(before.detach().relu())
    weight, bias, slope = drawn(outputs, channels, 1, 1), torch.randn(outputs), drawn(pictures, outputs, *sides)
    output = nn.functional.conv2d(before.relu(), weight.double(), bias.double())
    output.backward(slope.double())
    assert products.has_input_gradient(slope, weight, (1, 1), (0, 0), relu=True)

    with with_threads(threads):
        gradient, sums_in_front = products.input_gradient(slope, weight, (0, 0), shown, relu=True)
        if products.has_input_gradient(slope, weight, (1, 1), (0, 0), relu=False):
            plain, sums = products.input_gradient(slope, weight, (0, 0), shown, relu=False)
            exact = torch.einsum("nohw,oc->nchw", slope.double(), weight[:, :, 0, 0].double())
            torch.testing.assert_close(plain.double(), exact, rtol=2**-8, atol=1e-5)
            assert sums is None
        assert products.has_all_gradients(shown, slope, weight, (1, 1), (0, 0))
        learned = products.weight_gradient(shown, slope, weight, (1, 1), (0, 0))
        at_once = products.all_gradients(shown, slope, weight, relu=True)
        assert all(map(torch.equal, at_once, (gradient, sums_in_front, *learned)))
        unmoved, nothing, *others = products.all_gradients(shown, slope, weight, relu=False)
        assert nothing is None
        assert torch.equal(torch.where(shown > 0, unmoved, 0), gradient)
        assert all(map(torch.equal, others, learned))
        if products.convolves(shown, weight, (1, 1), (0, 0)):
            found = products.convolve(shown, weight, bias, (1, 1), (0, 0), relu=False)
            torch.testing.assert_close(found.double(), output.detach(), rtol=2**-8, atol=1e-5)
            check_moments(shown, weight, (1, 1), (0, 0))

    assert before.grad is not None
    assert sums_in_front is not None
    torch.testing.assert_close(gradient.double(), before.grad, rtol=2**-8, atol=1e-5)
    wanted = torch.stack([before.grad.sum((0, 2, 3)), (before.grad * shown.double()).sum((0, 2, 3))])
    torch.testing.assert_close(sums_in_front, wanted, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(
    ("pictures", "channels", "outputs", "sides", "kernel", "padding"),
    [
        (16, 32, 96, (7, 7), (3, 3), (1, 1)),
        (37, 96, 160, (3, 3), (3, 3), (1, 1)),
        (65, 48, 40, (5, 6), (3, 5), (1, 2)),  # the last channels are met together with some of those before
        (33, 34, 32, (4, 3), (2, 3), (0, 2)),
        (49, 32, 34, (9, 4), (5, 1), (2, 0)),
        (20, 64, 64, (14, 14), (3, 3), (1, 1)),
        (16, 32, 32, (6, 6), (3, 3), (4, 3)),  # more zeros than the kernel is large
        (17, 112, 36, (1, 1), (3, 3), (1, 1)),
        (30, 36, 50, (3, 3), (1, 1), (1, 2)),
    ],
)
def test_many_pictures_at_once(
    pictures: int, channels: int, outputs: int, sides: tuple[int, int], kernel: tuple[int, int], padding: tuple[int, int], threads: int
) -> None:
    torch.manual_seed(0)
    shown, weight, bias = drawn(pictures, channels, *sides), drawn(outputs, channels, *kernel), torch.randn(outputs)
    exact = shown.double().requires_grad_()
    output = nn.functional.conv2d(exact, weight.double(), bias.double(), 1, padding)
    slope = drawn(*output.shape)
    output.backward(slope.double())

    with with_threads(threads):
        found = products.convolve(shown, weight, bias, (1, 1), padding, relu=False)
        cut = products.convolve(shown, weight, None, (1, 1), padding, relu=True)
        gradient, sums = products.input_gradient(slope, weight, padding, shown, relu=False)
        check_moments(shown, weight, (1, 1), padding)

    torch.testing.assert_close(found.double(), output.detach(), rtol=2**-8, atol=1e-4)
    torch.testing.assert_close(cut.double(), (output - bias.double().view(-1, 1, 1)).relu().detach(), rtol=2**-8, atol=1e-4)
    assert exact.grad is not None
    assert sums is None
    torch.testing.assert_close(gradient.double(), exact.grad, rtol=2**-8, atol=1e-4)


def test_what_is_no_number_stays_none() -> None:
    shown, weight = drawn(2, 1, 8, 8), drawn(16, 1, 3, 3)
    shown[0, 0, 4, 4] = torch.nan
    found = products.convolve(shown, weight, None, (1, 1), (1, 1), relu=True)
    assert torch.equal(found.isnan().any(1).nonzero(), torch.tensor([[0, y, x] for y in (3, 4, 5) for x in (3, 4, 5)]))

    shown, slope = drawn(2, 16, 4, 4).relu(), drawn(2, 16, 4, 4)
    shown[0, 3, 2, 2] = torch.nan
    slope[1, 5, 1, 1] = torch.nan
    weight = drawn(16, 16, 1, 1)
    for gradient, of_bias, *_ in (
        products.input_gradient(slope, weight, (0, 0), shown, relu=True),
        products.all_gradients(shown, slope, weight, relu=True),
    ):
        assert of_bias is not None
        assert gradient[1, :, 1, 1].isnan().any()
        assert of_bias.isnan().any()
        assert not gradient[0].isnan().any()


def test_others_are_left_to_torch() -> None:
    shown = torch.randn(2, 32, 9, 9, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(8, 32, 3, 3, dtype=torch.bfloat16)
    assert products.has_weight_gradient(shown, weight, (1, 1))
    assert not products.has_weight_gradient(shown, weight, (2, 2))
    assert not products.has_weight_gradient(shown.float(), weight, (1, 1))
    assert not products.has_weight_gradient(shown.contiguous(), weight, (1, 1))
    assert not products.has_weight_gradient(shown[:, :8], weight[:, :8], (1, 1))
    assert not products.gathers(shown[:, :8], weight[:, :8], (1, 1))  # other memory
    assert not products.gathers(drawn(2, 15, 9, 9), drawn(8, 15, 3, 3), (1, 1))
    assert not products.gathers(drawn(2, 3, 9, 9), drawn(8, 3, 3, 3), (1, 2))
    assert not products.gathers(drawn(2, 3, 9, 9).requires_grad_(), drawn(8, 3, 3, 3), (1, 1))
    assert not products.convolves(shown, drawn(8, 32, 1, 1), (1, 1), (1, 1))
    assert not products.convolves(drawn(16, 32, 9, 9), drawn(160, 32, 3, 3), (1, 1), (1, 1))
    assert not products.has_all_gradients(shown, drawn(2, 8, 9, 9), weight, (1, 1), (1, 1))
    assert not products.has_all_gradients(shown, torch.randn(2, 8, 9, 9), drawn(8, 32, 1, 1), (1, 1), (0, 0))
    assert not products.has_input_gradient(drawn(2, 10, 3, 3), drawn(10, 15, 1, 1), (1, 1), (0, 0), relu=True)
    assert products.convolves(drawn(16, 32, 9, 9), weight, (1, 1), (1, 1))
    assert not products.convolves(drawn(15, 32, 9, 9), weight, (1, 1), (1, 1))
    assert not products.convolves(drawn(16, 32, 29, 29), weight, (1, 1), (1, 1))
    assert not products.convolves(drawn(16, 33, 9, 9), drawn(8, 33, 3, 3), (1, 1), (1, 1))
    assert not products.has_input_gradient(drawn(16, 8, 9, 9), weight, (1, 1), (1, 1), relu=False)
    assert not products.has_weight_gradient(shown, torch.randn(800, 32, 5, 5), (1, 1))


def test_torch_goes_on_with_its_own_tiles() -> None:
    """torch's kernels lay out the same units in their own way, before and after."""
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 64, 3, padding=1).to(memory_format=torch.channels_last)
    first, second = copy.deepcopy(layer), copy.deepcopy(layer)
    shown = torch.randn(4, 32, 12, 12).to(torch.bfloat16).contiguous(memory_format=torch.channels_last).requires_grad_()
    for each in (first, second, first, second):
        with torch.autocast("cpu", torch.bfloat16):
            assert mixed.takes(each, shown)
            output = mixed.convolve(each, shown, relu=passes.FusedReLU() if each is first else None)
        output.sum().backward()
        torch.testing.assert_close(
            output.float(), (layer(shown.float()).relu() if each is first else layer(shown.float())), rtol=2e-2, atol=2e-2
        )
