"""A convolution with fewer multiplications; how near it is to torch's in training is in test_shortcuts.py."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from torchnin.models import rectified, winograd


def test_what_prediction_prepared_serves_training(by: Callable[[rectified.Way], Callable[..., Tensor]]) -> None:
    winograd._axis.cache_clear()
    weight, shown = torch.randn(4, 3, 5, 5, requires_grad=True), torch.randn(2, 3, 9, 9).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        winograd.Prepared(weight, None)(shown)
    by(rectified.Way(winograd=True))(shown.requires_grad_(), weight, None).sum().backward()
    assert weight.grad is not None
    assert shown.grad is not None


def test_there_are_fewer_products_than_in_the_direct_sum() -> None:
    assert winograd.products(4, 4, 3) == 6 * 6  # a tile of 4x4 outputs is determined by as many values as it has pixels under it
    assert winograd.products(4, 4, 5) == 8 * 8
    assert winograd.products(8, 5, 3) == 12 * 12  # of a tile that is begun, all are computed
    assert 4 * winograd.products(28, 28, 3) == 28 * 28 * 3 * 3
    assert 6.25 * winograd.products(28, 28, 5) == 28 * 28 * 5 * 5


@pytest.mark.parametrize("at_once", [None, 1])
@pytest.mark.parametrize(("kernel", "bias", "relu"), [(3, True, False), (3, False, True), (5, True, True)])
def test_what_is_prepared_is_the_convolution_however_many_pictures_go_at_once(
    kernel: int, bias: bool, relu: bool, at_once: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    if at_once:
        monkeypatch.setattr(winograd, "_MOST_BYTES", at_once)
    pictures = torch.randn(5, 7, 13, 6).contiguous(memory_format=torch.channels_last)
    weight, shift = torch.randn(9, 7, kernel, kernel), torch.randn(9) if bias else None
    found = winograd.Prepared(weight, shift, relu=relu)(pictures)
    exact = F.conv2d(pictures.double(), weight.double(), None if shift is None else shift.double(), padding=kernel // 2)
    exact = exact.relu() if relu else exact
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert float((found - exact).abs().max()) < 3e-5 * float(exact.abs().max())
