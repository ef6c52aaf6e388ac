"""Shorter ways in bfloat16 give what the layers give one after the other, as near as bfloat16 does; and gradients of gradients."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from torchnin import create_model
from torchnin.models import NiN, NiNBlock, mixed, passes, shortcuts

pytestmark = pytest.mark.skipif(not mixed._is_supported(), reason="this processor's kernels have no bfloat16")

BFLOAT16 = torch.autocast("cpu", torch.bfloat16)


def loss(logits: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, torch.arange(len(logits)) % logits.shape[1])


def learned(network: NiN, pictures: Tensor) -> dict[str, Tensor]:
    """Logits and gradients after one look at some pictures."""
    torch.manual_seed(1)  # dropout
    with torch.autocast("cpu", torch.bfloat16):
        logits = network(pictures).float()
    loss(logits).backward()
    gradients = {name: value.grad for name, value in network.named_parameters() if value.grad is not None}
    return {"logits": logits.detach()} | gradients


def distance(found: Tensor, exact: Tensor) -> float:
    """Of the norm."""
    return float((found - exact).detach().double().norm() / exact.detach().double().norm())


@pytest.mark.parametrize(
    ("name", "size", "pictures"),
    [("nin_d2l", 80, 16), ("nin_small", 28, 16), ("nin_compact", 28, 20), ("nin_mnist", 28, 16), ("nin_base", 30, 40)],
)
def test_as_near_to_float32_as_layer_by_layer(name: str, size: int, pictures: int) -> None:
    """On average of three networks: where two values under a pooling, or a zero before a ReLU, are nearly equal, rounding decides which has
    the gradient."""
    apart: dict[str, list[tuple[float, float]]] = {}
    for seed in range(3):
        torch.manual_seed(seed)
        # Without dropout and in double precision there is one answer to be near to.
        exact = create_model(name, dropout=0.0).to(memory_format=torch.channels_last)
        plain, short = copy.deepcopy(exact), copy.deepcopy(exact)
        shown = torch.randn(pictures, 1, size, size).contiguous(memory_format=torch.channels_last)
        logits = exact.double()(shown.double())
        loss(logits).backward()
        expected = {"logits": logits.detach()} | {key: value.grad for key, value in exact.named_parameters() if value.grad is not None}
        with shortcuts.layer_by_layer():
            usual = learned(plain, shown)
        found = learned(short, shown)
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key].dtype == usual[key].dtype == torch.float32
            assert found[key].stride() == usual[key].stride(), key
            apart.setdefault(key, []).append((distance(found[key], value), distance(usual[key], value)))
    for key, distances in apart.items():
        ours, usual_ones = (sum(values) / len(values) for values in zip(*distances, strict=True))
        assert ours <= 1.25 * usual_ones + 2e-3, key


@pytest.mark.parametrize(
    ("layer", "shape", "relu"),
    [
        (nn.Conv2d(1, 96, 11, 4), (3, 1, 67, 70), True),
        (nn.Conv2d(1, 8, 11, 4), (2, 1, 224, 225), False),
        (nn.Conv2d(3, 8, 3, 2, 1), (4, 3, 29, 28), True),
        (nn.Conv2d(2, 8, (5, 4), 3, (2, 0), bias=False), (4, 2, 19, 23), True),
        (nn.Conv2d(4, 6, 1, 2), (4, 4, 9, 10), False),
        (nn.Conv2d(24, 40, 1), (2, 24, 50, 51), True),
        (nn.Conv2d(24, 40, 1, bias=False), (2, 24, 3, 5), False),
        (nn.Conv2d(24, 40, 3, padding=1), (5, 24, 4, 3), True),
        (nn.Conv2d(24, 40, 3, padding=1), (5, 24, 1, 1), False),
        (nn.Conv2d(24, 40, (3, 1), bias=False), (5, 24, 4, 6), True),
        (nn.Conv2d(24, 40, 5, 2, 2), (5, 24, 9, 12), True),
    ],
)
def test_a_convolution_of_any_shape(layer: nn.Conv2d, shape: tuple[int, ...], relu: bool) -> None:
    torch.manual_seed(0)
    layer = copy.deepcopy(layer)
    shown = torch.randn(shape).to(torch.bfloat16).contiguous(memory_format=torch.channels_last)
    shown.requires_grad_(layer.in_channels > 4)
    exact = copy.deepcopy(layer).double()
    # What autocast makes of the weights is where both begin.
    for parameter in exact.parameters():
        parameter.data = parameter.data.to(torch.bfloat16).double()
    other = shown.detach().double().requires_grad_()
    expected = exact(other)
    with BFLOAT16:
        assert mixed.takes(layer, shown)
        found = mixed.convolve(layer, shown, relu=passes.FusedReLU() if relu else None)
    slope = torch.randn_like(found).contiguous(memory_format=torch.channels_last)
    expected = expected * (found > 0) if relu else expected
    found.backward(slope)
    expected.backward(slope.double())
    assert found.dtype == torch.bfloat16
    assert distance(found, expected) < 5e-3
    for value, right in zip(layer.parameters(), exact.parameters(), strict=True):
        assert value.grad is not None
        assert right.grad is not None
        assert value.grad.dtype == torch.float32
        assert distance(value.grad, right.grad) < 5e-3
    if shown.requires_grad:
        assert shown.grad is not None
        assert other.grad is not None
        assert distance(shown.grad, other.grad) < 5e-3


@pytest.mark.parametrize("name", ["nin_small", "nin_mnist"])
def test_a_gradient_of_the_gradient(name: str) -> None:
    torch.manual_seed(0)
    exact = create_model(name, dropout=0.0).to(memory_format=torch.channels_last)
    plain, short = copy.deepcopy(exact), copy.deepcopy(exact)
    pictures = torch.randn(4, 1, 28, 28).contiguous(memory_format=torch.channels_last)

    def penalty(network: NiN, *, mixed: bool = True) -> dict[str, Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
            logits = network(pictures.to(next(network.parameters()).dtype))
        gradients = torch.autograd.grad(
            logits.to(torch.promote_types(logits.dtype, torch.float32)).square().sum(), list(network.parameters()), create_graph=True
        )
        torch.stack([gradient.square().sum() for gradient in gradients]).sum().backward()
        return {name: value.grad for name, value in network.named_parameters() if value.grad is not None}

    with shortcuts.layer_by_layer():
        usual = penalty(plain)
        expected = penalty(exact.double(), mixed=False)
    found = penalty(short)
    assert found.keys() == expected.keys()
    for layer, value in found.items():
        assert distance(value, expected[layer]) <= 1.25 * distance(usual[layer], expected[layer]) + 1e-2, layer


@pytest.mark.parametrize("batch_norm", [False, True])
def test_way_back_through_several_convolutions(batch_norm: bool) -> None:
    """It may pass a ReLU together with the convolution behind it: once, again, only so far, or where somebody listens."""
    torch.manual_seed(0)
    block = NiNBlock(48, (128, 96, 48), 5, padding=2, batch_norm=batch_norm).to(memory_format=torch.channels_last)
    for value in block.parameters():
        if batch_norm and value.dim() == 1:
            nn.init.normal_(value, 1.0, 0.2)  # normalised values are told from what is behind ReLU
    pictures = torch.randn(8, 48, 14, 14).contiguous(memory_format=torch.channels_last).requires_grad_()
    parameters = list(block.parameters())

    def output() -> Tensor:
        with BFLOAT16:
            return block(pictures).float().square().sum()

    with shortcuts.layer_by_layer():
        usual = torch.autograd.grad(output(), [pictures, *parameters])
    found = output()
    # The last layers alone, whose gradients come first; then all of them, twice.
    last = torch.autograd.grad(found, parameters[-2:], retain_graph=True)
    for gradients in [torch.autograd.grad(found, [pictures, *parameters], retain_graph=keep) for keep in (True, False)]:
        for value, expected in zip(gradients, usual, strict=True):
            assert distance(value, expected) < 2e-2
        assert all(torch.equal(value, again) for value, again in zip(last, gradients[-2:], strict=True))

    # A gradient that is to have one itself comes to the ReLUs by another way too, whatever was told before.
    found = output()
    torch.autograd.grad(found, parameters[-2:], retain_graph=True)
    torch.autograd.grad(found, parameters[0], create_graph=True)
    for value, expected in zip(torch.autograd.grad(found, [pictures, *parameters]), usual, strict=True):
        assert distance(value, expected) < 2e-2

    heard: list[Tensor] = []
    handle = block[3 if batch_norm else 2].register_forward_hook(lambda layer, given, made: heard.append(made))
    gradients = torch.autograd.grad(output(), [pictures, *parameters])
    handle.remove()
    assert len(heard) == 1
    for value, expected in zip(gradients, usual, strict=True):
        assert distance(value, expected) < 2e-2


def test_a_kernel_larger_than_the_pictures() -> None:
    with BFLOAT16, pytest.raises((ValueError, RuntimeError), match=r"(?i)kernel"):
        mixed.convolve(nn.Conv2d(1, 8, 5, stride=2), torch.randn(2, 1, 4, 9))


@pytest.mark.parametrize("kernel", [1, 3])
def test_what_is_no_number_stays_none_behind_a_relu(kernel: int) -> None:
    layer = nn.Conv2d(24, 40, kernel, padding=kernel // 2)
    with torch.no_grad():
        layer.weight[3, 2] = math.nan
    shown = torch.randn(2, 24, 9, 9).contiguous(memory_format=torch.channels_last)
    with BFLOAT16:
        found = mixed.convolve(layer, shown, relu=passes.FusedReLU())
    assert found[:, 3].isnan().all()
    assert found[:, :3].isfinite().all()


def test_weights_that_are_no_numbers_reach_the_logits() -> None:
    network = create_model("nin_mnist").to(memory_format=torch.channels_last)
    with torch.no_grad():
        next(network.parameters())[0] = math.nan
    with BFLOAT16:
        assert network(torch.randn(2, 1, 28, 28)).isnan().all()


def test_no_pictures_and_other_numbers_go_the_usual_way() -> None:
    layer = nn.Conv2d(24, 40, 3, padding=1)
    shown = torch.randn(2, 24, 9, 9).contiguous(memory_format=torch.channels_last)
    with BFLOAT16:
        assert mixed.takes(layer, shown)
        assert not mixed.takes(layer, shown[:0])
        assert not mixed.takes(layer, shown.double())


def test_who_listens_hears_every_layer() -> None:
    network = create_model("nin_mnist").to(memory_format=torch.channels_last)
    called = []
    for name, layer in network.named_modules():
        if not list(layer.children()):
            layer.register_forward_hook(lambda *_, name=name: called.append(name))
    with BFLOAT16:
        network(torch.randn(2, 1, 28, 28))
    assert set(called) == {name for name, layer in network.named_modules() if not list(layer.children())}


def test_who_listens_to_every_module_hears_every_layer() -> None:
    network = create_model("nin_mnist").to(memory_format=torch.channels_last)
    called: list[nn.Module] = []
    handle = torch.nn.modules.module.register_module_forward_hook(lambda layer, *_: called.append(layer))
    try:
        with BFLOAT16:
            network(torch.randn(2, 1, 28, 28))
    finally:
        handle.remove()
    assert {layer for layer in network.modules() if not list(layer.children())} <= set(called)


def test_weights_that_do_not_learn_have_no_gradient() -> None:
    torch.manual_seed(0)
    network = create_model("nin_d2l").to(memory_format=torch.channels_last)
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    for layer in layers[:4]:
        layer.requires_grad_(False)
    layers[5].weight.requires_grad_(False)
    with BFLOAT16:
        network(torch.randn(2, 1, 80, 80).contiguous(memory_format=torch.channels_last)).float().sum().backward()
    assert all((parameter.grad is None) is not parameter.requires_grad for parameter in network.parameters())
