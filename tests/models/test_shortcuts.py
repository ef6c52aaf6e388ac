"""Shorter ways give what the layers give one after the other: values, gradients, running statistics."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from torchnin import create_model
from torchnin.models import NiN, rectified, shortcuts, winograd
from torchnin.models.passes import FusedReLU

# Of the norm, through a whole network: where two values under a pooling or a zero before a ReLU are nearly equal, rounding decides
# which of them gets the gradient, with either way; so of some draws the nearest counts. A single convolution is held to 3e-5 below.
TOLERANCE = 1e-3
DRAWS = 8


def learned(network: NiN, pictures: Tensor) -> dict[str, Tensor]:
    """Logits, gradients and buffers after one look at some pictures."""
    torch.manual_seed(1)  # dropout
    logits = network(pictures)
    (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).mean().backward()
    found = {"logits": logits.detach()} | dict(network.named_buffers())
    return found | {f"gradient of {name}": value.grad for name, value in network.named_parameters() if value.grad is not None}


@pytest.mark.parametrize(
    ("name", "size", "pictures", "changes"),
    [
        ("nin_small", 28, 6, {}),
        ("nin_small", 32, 6, {"in_channels": 3}),
        ("nin_small", 29, 6, {"mlp_layers": 2, "pool": "avg"}),
        ("nin_mnist", 28, 12, {}),
        ("nin_cifar10", 24, 16, {"in_channels": 1, "batch_norm": True}),
        ("nin_d2l", 80, 32, {}),
    ],
)
def test_as_layer_by_layer(name: str, size: int, pictures: int, changes: dict) -> None:
    away: dict[str, list[float]] = {}
    for seed in range(DRAWS):
        torch.manual_seed(seed)
        plain = create_model(name, **changes).to(memory_format=torch.channels_last)
        short = copy.deepcopy(plain)
        shown = torch.randn(pictures, plain.config.in_channels, size, size).contiguous(memory_format=torch.channels_last)
        with shortcuts.layer_by_layer():
            expected = learned(plain, shown)
        found = learned(short, shown)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key].stride() == value.stride(), key
            away.setdefault(key, []).append(float((found[key] - value).double().norm() / value.double().norm()))
        if all(min(distances) <= TOLERANCE for distances in away.values()):
            return
    raise AssertionError({key: distances for key, distances in away.items() if min(distances) > TOLERANCE})


@pytest.mark.parametrize("default", [torch.float64, torch.bfloat16, torch.device("meta")])
@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ["nin_mnist", "nin_small"])
def test_torchs_default_dtype_and_device_change_nothing(name: str, autocast: bool, default: torch.dtype | torch.device) -> None:
    network = create_model(name).to(memory_format=torch.channels_last)
    shown = torch.randn(16, 1, 28, 28).contiguous(memory_format=torch.channels_last)
    weights = torch.linspace(-1, 1, 160).view(16, 10)

    def gradients() -> dict[str, Tensor]:
        torch.manual_seed(1)  # dropout
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits = network(shown)
        (logits.float() * weights).mean().backward()
        return {name: value.grad.clone() for name, value in network.named_parameters() if value.grad is not None}

    expected = gradients()
    winograd._axis.cache_clear()
    torch.set_default_dtype(default) if isinstance(default, torch.dtype) else torch.set_default_device(default)
    try:
        found = gradients()
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_default_device(None)
    for key, value in expected.items():
        assert torch.equal(found[key], value), key


By = Callable[[rectified.Way], Callable[..., Tensor]]
SMALL, PIXELS = rectified.Way(of_weight=shortcuts._small_weight_gradient), rectified.Way(pixels=True)
SHAPES = [(3, 3, 3, False), (3, 4, 2, True), (5, 4, 3, True), (3, 12, 7, True), (5, 9, 14, False), (5, 1, 30, True)]


@pytest.mark.parametrize(
    ("way", "kernel", "height", "width", "bias"),
    [(way, *shape) for way in (SMALL, rectified.Way(winograd=True), rectified.Way()) for shape in SHAPES]
    + [(PIXELS, 1, 5, 7, True), (PIXELS, 1, 1, 1, False), (PIXELS, 1, 24, 20, True)],
)
@pytest.mark.parametrize("relu", [False, True])
def test_a_convolution_of_any_shape(by: By, way: rectified.Way, kernel: int, height: int, width: int, bias: bool, relu: bool) -> None:
    torch.manual_seed(0)
    values = [torch.randn(35, 5, height, width), torch.randn(6, 5, kernel, kernel), *([torch.randn(6)] if bias else [])]
    exact = [value.double().requires_grad_() for value in values]
    values = [value.contiguous(memory_format=torch.channels_last) if value.ndim == 4 else value for value in values]
    taken = [value.requires_grad_() for value in values]
    expected = F.conv2d(*exact, padding=kernel // 2)
    found = by(way)(*taken, *([] if bias else [None]), FusedReLU() if relu else None)
    expected = expected * (found > 0) if relu else expected  # where rounding would decide
    slope = torch.randn_like(found)
    pairs = [
        (found, expected),
        *zip(torch.autograd.grad(found, taken, slope), torch.autograd.grad(expected, exact, slope.double()), strict=True),
    ]
    for value, right in pairs:
        assert float((value - right).detach().abs().max()) < 3e-5 * float(right.detach().abs().max())


def test_no_way_is_taken_that_does_not_pay() -> None:
    layer = nn.Conv2d(96, 96, 5, padding=2)
    shown = torch.randn(16, 96, 12, 12).contiguous(memory_format=torch.channels_last).requires_grad_()
    assert shortcuts._way(layer, shown, behind=False, before=True) == rectified.Way(winograd=True)
    for narrow, before in ((nn.Conv2d(96, 96, 1), True), (nn.Conv2d(96, 160, 1), True), (nn.Conv2d(96, 96, 1), False)):
        assert shortcuts._way(narrow, shown, behind=False, before=before) == (rectified.Way(pixels=True) if before else None)
    wide = shown.repeat(1, 2, 1, 1).contiguous(memory_format=torch.channels_last)
    assert shortcuts._way(nn.Conv2d(192, 160, 1), wide, behind=False, before=False) == rectified.Way(pixels=True)
    for other, pictures in (
        (layer, shown.detach()),
        (layer, shown[:4]),
        (nn.Conv2d(96, 96, 5, padding=2, stride=2), shown),
        (nn.Conv2d(96, 96, 5), shown),
        (nn.Conv2d(96, 96, 1), shown.detach()),
    ):
        assert shortcuts._way(other, pictures, behind=False, before=False) is None
        assert shortcuts._way(other, pictures, behind=True, before=False) == rectified.Way()
    for other, pictures in ((layer.double(), shown.double()), (layer, shown.contiguous(memory_format=torch.contiguous_format))):
        assert shortcuts._way(other, pictures, behind=True, before=False) is None
    with torch.autocast("cpu", torch.bfloat16):
        assert shortcuts._way(layer.float(), shown, behind=True, before=False) is None
    with torch.no_grad():
        assert not shortcuts._is_plain(layer, shown)


def test_of_two_threads_that_want_every_layer_neither_ends_it_for_the_other() -> None:
    first, second = shortcuts.layer_by_layer(), shortcuts.layer_by_layer()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert shortcuts._unwanted == 1
    second.__exit__(None, None, None)
    assert shortcuts._unwanted == 0


def test_hooks_are_called() -> None:
    network = create_model("nin_small")
    called = []
    for name, layer in network.named_modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda *_, name=name: called.append(name))
    network(torch.randn(2, 1, 28, 28))
    assert set(called) == {name for name, layer in network.named_modules() if not list(layer.children())}


def test_a_gradient_of_the_gradient() -> None:
    torch.manual_seed(0)
    short = create_model("nin_small").to(torch.float32)
    plain = copy.deepcopy(short)
    pictures = torch.randn(4, 1, 28, 28)

    def penalty(network: NiN) -> dict[str, Tensor]:
        gradients = torch.autograd.grad(network(pictures).square().sum(), list(network.parameters()), create_graph=True)
        torch.stack([gradient.square().sum() for gradient in gradients]).sum().backward()
        return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}

    with shortcuts.layer_by_layer():
        expected = penalty(plain)
    for name, value in penalty(short).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-3 * float(expected[name].abs().max()))
