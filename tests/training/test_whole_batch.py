"""Layers that see a whole batch do what they would do in one process that has it; several processes are in test_processes.py."""

import copy

import pytest
import torch
from torch import Tensor, nn

from torchnin import NiN, NiNConfig
from torchnin.models.dropout import Dropout
from torchnin.training.processes import Processes
from torchnin.training.whole_batch import Spread, seeing_whole_batches

ALONE = Processes()


def laid_out(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64).contiguous(memory_format=torch.channels_last)


def test_one_process_learns_what_it_learns_without_them(tiny: NiNConfig) -> None:
    torch.manual_seed(0)
    network = NiN(tiny).double().to(memory_format=torch.channels_last).train()
    plain, pictures = copy.deepcopy(network), laid_out(6, 1, 28, 28)
    found = []
    for each in (plain, network):
        with seeing_whole_batches(network, Spread(ALONE, slice(0, 6), 6)):
            torch.manual_seed(1)
            logits = each(pictures)
            logits.square().sum().backward()
        values = {"logits": logits.detach(), **dict(each.named_buffers())}
        found.append(values | {f"gradient of {name}": value.grad for name, value in each.named_parameters() if value.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert torch.allclose(found[1][name], value, rtol=1e-9, atol=1e-12), name


@pytest.mark.parametrize("layer", [Dropout(0.5), Dropout(0.3), nn.Dropout2d(0.5)], ids=str)
def test_each_process_drops_its_part_of_what_one_would_drop(layer: nn.Module) -> None:
    network, features = nn.Sequential(layer), laid_out(8, 6, 5, 3)
    torch.manual_seed(0)
    expected = network(features)
    spread = Spread(ALONE, whole=8)
    with seeing_whole_batches(network, spread):
        for part in (slice(0, 3), slice(3, 8), slice(8, 8)):
            spread.part = part
            torch.manual_seed(0)
            torch.testing.assert_close(network(features[part]), expected[part])
        network.eval()
        assert torch.equal(network(features), features)


def test_the_layers_are_back_afterwards_in_the_mode_that_the_network_has_then(tiny: NiNConfig) -> None:
    network = NiN(tiny).train()
    layers = list(network.modules())

    def fail_in_between() -> None:
        with seeing_whole_batches(network, Spread(ALONE)):
            assert list(network.modules()) != layers
            assert network.state_dict().keys() == NiN(tiny).state_dict().keys()
            network.eval()
            raise RuntimeError("out of luck")

    with pytest.raises(RuntimeError, match="out of luck"):
        fail_in_between()
    assert list(network.modules()) == layers
    assert not any(layer.training for layer in layers)
