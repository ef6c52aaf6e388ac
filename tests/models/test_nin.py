"""The network as a module: in training and at rest, with hooks, with other activations."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchnin import NiN, NiNConfig
from torchnin.models import FoldedNiN, NiNBlock


@pytest.fixture
def network(tiny: NiNConfig) -> NiN:
    """One that computes the same in training as at rest, but for the mode's own ways."""
    torch.manual_seed(0)
    return NiN(dataclasses.replace(tiny, batch_norm=False, dropout=0.0))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.SiLU, nn.GELU, nn.LeakyReLU])
def test_training_and_rest_compute_the_same(network: NiN, activation: type[nn.Module]) -> None:
    for block in network.body:
        if isinstance(block, NiNBlock):
            block[-1] = activation()
    pictures = torch.randn(4, 1, 28, 28)
    with torch.no_grad():
        learning, resting = network.train()(pictures), network.eval()(pictures)
    torch.testing.assert_close(learning, resting, rtol=1e-5, atol=1e-6)
    if activation is nn.ReLU:
        assert torch.equal(learning, resting)


def test_hooks_see_what_layers_give_and_change_nothing(network: NiN) -> None:
    pictures = torch.randn(4, 1, 28, 28)

    def gradients(of: NiN) -> list[Tensor]:
        of.zero_grad()
        of(pictures).square().sum().backward()
        return [parameter.grad for parameter in of.parameters() if parameter.grad is not None]

    unheard, seen = gradients(network), {}
    for name in ("body", "body.0", "body.0.3", "body.1", "body.2"):
        heard = copy.deepcopy(network)

        def note(module: nn.Module, inputs: Any, output: Tensor, name: str = name) -> None:
            seen[name] = (tuple(inputs[0].shape[1:]), tuple(output.shape[1:]))

        heard.get_submodule(name).register_forward_hook(note)
        found = gradients(heard)
        assert all(torch.equal(one, other) for one, other in zip(found, unheard, strict=True)), name
    assert seen == {
        "body": ((1, 28, 28), (16, 2, 2)),
        "body.0": ((1, 28, 28), (8, 14, 14)),
        "body.0.3": ((8, 14, 14), (8, 14, 14)),
        "body.1": ((8, 14, 14), (8, 6, 6)),
        "body.2": ((8, 6, 6), (16, 6, 6)),
    }


def test_hooks_that_do_not_mind_leave_pooling_before_relu(network: NiN) -> None:
    shapes = []

    def note(module: nn.Module, inputs: Any, output: Tensor) -> None:
        shapes.append(tuple(output.shape[1:]))

    note.takes_pooled = True  # type: ignore[attr-defined]
    network.body[0].register_forward_hook(note)
    network(torch.randn(4, 1, 28, 28))
    assert shapes == [(8, 6, 6)]


@pytest.mark.parametrize("size", [(28, 40), (56, 56), (14, 14)])
def test_a_fully_connected_head_says_what_it_takes(tiny: NiNConfig, size: tuple[int, int]) -> None:
    network = NiN(dataclasses.replace(tiny, head="fc")).eval()
    pictures, said = torch.zeros(1, 1, *size), r"fully connected head takes class maps of 2x2, which pictures of 28x28 pixels give, and not"
    for call in (network, FoldedNiN(network), lambda of: network.forward_head(network.forward_features(of))):
        with pytest.raises(ValueError, match=said):
            call(pictures)
    with pytest.raises(ValueError, match=said):
        network.check_size(*size)
    assert network.forward_features(pictures).shape[:2] == (1, 16)
    assert network.class_maps(pictures).shape[:2] == (1, 10)
    assert network(torch.zeros(1, 1, 27, 28)).shape == (1, 10)  # whose maps are of the same size


def test_sizes_that_the_layers_do_not_admit(tiny: NiNConfig) -> None:
    network = NiN(tiny)
    network.check_size(network.min_image_size, 500)
    with pytest.raises(ValueError, match="too small for this network"):
        network.check_size(network.min_image_size - 1, 500)
