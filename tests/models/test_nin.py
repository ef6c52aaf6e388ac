"""The network as a module: in training and at rest, with hooks, with other activations."""

import copy
import dataclasses
import inspect
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from torchnin import NiN, NiNConfig, create_model
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


def test_who_listens_to_every_module_sees_what_layers_give(network: NiN) -> None:
    shapes = []
    handle = nn.modules.module.register_module_forward_hook(lambda module, _, output: shapes.append(tuple(output.shape[1:])))
    try:
        network.body[:3](torch.randn(4, 1, 28, 28))
        one_by_one, shapes = [shape for shape in shapes if shape != (16, 6, 6)], []
        network(torch.randn(4, 1, 28, 28))
    finally:
        handle.remove()
    assert shapes[: len(one_by_one)] == one_by_one


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ["body", "body.0", "body.0.0", "body.0.1", "body.0.2", "body.1", "body.3", "class_block", "class_block.2"])
def test_a_forward_pass_that_was_put_in_the_place_of_a_modules_own_is_taken(tiny: NiNConfig, name: str, autocast: bool) -> None:
    network = NiN(dataclasses.replace(tiny, batch_norm=True, dropout=0.5, dropout_at="every")).eval()
    pictures, calls = torch.randn(4, 1, 28, 28), []
    folded = FoldedNiN(network)
    folded(pictures)
    module = network.get_submodule(name)
    own = module.forward
    module.forward = lambda values: calls.append(name) or own(values)
    assert not folded.is_current(network)
    FoldedNiN(network)(pictures)
    assert calls == [name]
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        network.train()(pictures).float().square().sum().backward()
    assert calls == [name] * 2


@pytest.mark.parametrize("training", [True, False])
def test_a_body_and_blocks_may_be_modules_of_ones_own(network: NiN, training: bool) -> None:
    class Scaled(NiNBlock):
        def forward(self, pictures: Tensor) -> Tensor:  # type: ignore[override]
            return 2 * super().forward(pictures)

    class Around(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, pictures: Tensor) -> Tensor:
            found: Tensor = self.inner(pictures)
            return found

    network.train(training)
    pictures, plain = torch.randn(4, 1, 28, 28), copy.deepcopy(network)
    with torch.no_grad():
        plain.body[0][-2].weight.mul_(2)
        plain.body[0][-2].bias.mul_(2)
    expected = plain(pictures)
    network.body[0].__class__ = Scaled
    torch.testing.assert_close(network(pictures), expected)
    network.body = Around(network.body)  # type: ignore[assignment]
    for compute in (network, FoldedNiN(network)):
        torch.testing.assert_close(compute(pictures), expected)


def test_weights_that_lie_elsewhere_are_left_to_torch_to_refuse() -> None:
    pictures = torch.randn(4, 1, 28, 28).contiguous(memory_format=torch.channels_last)
    for kind in (nn.Conv2d, nn.BatchNorm2d):
        network = create_model("nin_small")
        for module in network.modules():
            if type(module) is kind:
                module.to("meta")
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError):
            network(pictures)


def test_pictures_without_a_batch_are_told_of(network: NiN) -> None:
    check = inspect.unwrap(NiN.check_pictures)  # tests check the shapes of signatures too, and before
    with pytest.raises(ValueError, match=r"the pictures have shape \(1, 28, 28\); expected \(batch, channels, height, width\)"):
        check(network, torch.zeros(1, 28, 28))


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


def test_reset_classifier_leaves_every_part_in_the_networks_mode(tiny: NiNConfig) -> None:
    for training in (True, False):
        network = NiN(tiny).train(training)
        network.reset_classifier(3)
        assert {module.training for module in network.modules()} == {training}


@pytest.mark.parametrize("training", [True, False])
def test_it_computes_in_bfloat16(network: NiN, training: bool) -> None:
    pictures = torch.randn(4, 1, 28, 28)
    expected = network.train(training)(pictures).detach()
    found = copy.deepcopy(network).bfloat16()(pictures.bfloat16())
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, rtol=0.1, atol=0.05 * float(expected.abs().max()))
    found.square().sum().backward()


def test_compiled_it_learns_the_same() -> None:
    """In a process of its own: the checks of shapes that these tests run with cannot be compiled."""
    code = (
        "import copy, torch, torchnin\n"
        "torch.manual_seed(0)\n"
        "network = torchnin.create_model('nin_small')\n"
        "compiled, pictures = torch.compile(copy.deepcopy(network), backend='eager', fullgraph=True), torch.randn(4, 1, 28, 28)\n"
        "gradients = []\n"
        "for each in (network, compiled):\n"
        "    each(pictures).square().sum().backward()\n"
        "    gradients.append([parameter.grad for parameter in each.parameters()])\n"
        "for one, other in zip(*gradients, strict=True):\n"
        "    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * float(one.abs().max()))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)


def test_traced_by_torch_fx_it_computes_the_same() -> None:
    """In a process of its own, as above."""
    code = (
        "import torch, torchnin\n"
        "for changes in ({}, {'head': 'fc'}, {'batch_norm': False, 'dropout': 0.5}):\n"
        "    network, pictures = torchnin.create_model('nin_small', **changes), torch.randn(4, 1, 28, 28)\n"
        "    torch.fx.symbolic_trace(network)(pictures).sum().backward()\n"
        "    network.eval()\n"
        "    assert torch.equal(torch.fx.symbolic_trace(network)(pictures), network(pictures))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=300)
