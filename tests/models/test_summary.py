"""The layer table agrees with PyTorch's own counters."""

import dataclasses
import gc
import json
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

from torchnin.models import create_model, list_models, summarize


@pytest.mark.parametrize("name", list_models())
@pytest.mark.parametrize("head", ["gap", "fc"])
def test_multiply_adds_agree_with_flop_counter(name: str, head: str) -> None:
    network = create_model(name, head=head)
    config = network.config
    shape = (2, config.in_channels, config.image_size, config.image_size)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        create_model(name, head=head)(torch.zeros(shape))
    assert counter.get_total_flops() == 2 * summarize(network, shape).num_macs


def test_receptive_field_is_what_the_gradient_reaches() -> None:
    network = create_model("nin_mnist", pool="avg").eval()  # average pooling lets every pixel of the field through
    for parameter in network.parameters():
        torch.nn.init.constant_(parameter, 0.01)
    rows = summarize(network, (1, 1, 96, 96)).rows
    row = [row for row in rows if row.receptive_field][-1]
    pictures = torch.ones(1, 1, 96, 96, requires_grad=True)
    maps = network.class_maps(pictures)
    middle = maps.shape[2] // 2
    maps[0, 0, middle, middle].backward()
    touched = pictures.grad[0, 0].nonzero()
    assert (touched.max(0).values - touched.min(0).values + 1).tolist() == [row.receptive_field] * 2
    assert row.stride == 4


def test_training_memory_is_what_autograd_keeps() -> None:
    network = create_model("nin_mnist")
    pictures = torch.rand(4, 1, 28, 28)
    kept = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        network(pictures)
    for tensor in (*network.parameters(), pictures):
        kept.pop(tensor.untyped_storage().data_ptr(), None)
    table = summarize(network, (4, 1, 28, 28))
    assert table.activation_bytes == sum(storage.nbytes() for storage in kept.values())
    # Beside them the input; weights, gradients and momentum.
    assert table.train_bytes == table.activation_bytes + 4 * (pictures.numel() + 3 * table.num_parameters)


def test_memory_to_predict_is_weights_and_the_largest_layer() -> None:
    network, sizes = create_model("nin_mnist").eval(), []
    for layer in network.modules():
        # What works in place has one tensor, and so has what leaves its input as it is.
        if not list(layer.children()) and not isinstance(layer, torch.nn.ReLU | torch.nn.Dropout | torch.nn.Flatten):
            layer.register_forward_hook(lambda _layer, given, made: sizes.append(given[0].numel() + made.numel()))
    network(torch.rand(4, 1, 28, 28))
    table = summarize(network, (4, 1, 28, 28))
    assert table.predict_bytes == 4 * (table.num_parameters + max(sizes))


def test_nothing_of_it_stays_in_memory() -> None:
    def on_meta() -> int:
        gc.collect()
        return sum(issubclass(type(each), torch.Tensor) and each.device.type == "meta" for each in gc.get_objects())

    before, network = on_meta(), create_model("nin_small")
    summarize(network, (1, 1, 28, 28))
    assert on_meta() == before


def test_table_prints_totals_and_is_json() -> None:
    network = create_model("nin_d2l")
    table = summarize(network, (1, 1, 224, 224))
    text = str(table)
    assert "1,992,166" in text
    assert "762,297,352" in text
    assert "1,96,54,54" in text
    document = json.loads(table.to_json())
    assert document["num_macs"] == 762_297_352
    assert document["rows"][0]["output_shape"] == [1, 96, 54, 54]
    assert network.training
    assert next(network.parameters()).device.type == "cpu"


def test_impossible_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="four positive numbers"):
        summarize(create_model("nin_d2l"), (0, 1, 224, 224))


def test_a_network_that_was_changed_by_hand_has_a_table_too() -> None:
    network = create_model("nin_d2l")
    network.body[0] = network.body[0][:4]  # one 1x1 convolution less
    network.class_block = nn.Sequential(network.class_block[:4], nn.Conv2d(10, 10, 1))
    network.head = Highest()
    rows = summarize(network, (1, 1, 224, 224)).rows
    assert [row.part for row in rows if row.num_parameters] == ["block 1"] * 2 + ["block 2"] * 3 + ["block 3"] * 3 + ["block 4"] * 3
    assert (rows[-1].part, rows[-1].layer, rows[-1].output_shape) == ("head", "highest", (1, 10))


@pytest.mark.parametrize(
    "make",
    [
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
        nn.utils.spectral_norm,
        nn.utils.parametrizations.spectral_norm,
        nn.utils.parametrizations.weight_norm,
    ],
)
def test_layers_whose_weights_are_made_are_layers(make: Callable[[nn.Module], object]) -> None:
    network = create_model("nin_small")
    expected = summarize(network, (2, 1, 28, 28))
    make(network.body[0][0])
    for _ in range(2):
        found = summarize(network, (2, 1, 28, 28))
        assert found.num_macs == expected.num_macs
        for row, other in zip(found.rows, expected.rows, strict=True):
            assert dataclasses.replace(row, num_parameters=other.num_parameters) == other
        network(torch.rand(2, 1, 28, 28))  # leaves weights that were computed


def test_no_hook_is_called() -> None:
    network, heard = create_model("nin_small"), []
    network.body[0].register_forward_pre_hook(lambda _block, inputs: heard.append(inputs[0].mean().item()))
    network.body[0].register_forward_hook(lambda _block, _inputs, output: heard.append(output.mean().item()))
    summarize(network, (2, 1, 28, 28))
    assert not heard
    network(torch.rand(2, 1, 28, 28))
    assert len(heard) == 2


class Highest(nn.Module):
    """A head that takes the highest value of each map."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps.amax((2, 3))
