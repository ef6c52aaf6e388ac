"""Convolutions by the ways that training takes."""

from collections.abc import Callable

import pytest
from torch import Tensor

from torchnin.models import rectified
from torchnin.models.passes import FusedReLU


def _by(way: rectified.Way) -> Callable[..., Tensor]:
    def convolve(
        pictures: Tensor, weight: Tensor, bias: Tensor | None, relu: FusedReLU | None = None, before: FusedReLU | None = None
    ) -> Tensor:
        padding = (weight.shape[-1] // 2,) * 2
        found: Tensor = rectified.Convolution.apply(pictures, weight, bias, (1, 1), padding, way, relu, before)
        return found

    return convolve


@pytest.fixture(scope="session")
def by() -> Callable[[rectified.Way], Callable[..., Tensor]]:
    """From a way to a convolution that goes it and keeps the pictures' size."""
    return _by
