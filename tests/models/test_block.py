"""A block is a small fully connected network that slides over the picture."""

import pytest
import torch
from torch import nn

from torchnin.models import NiNBlock, create_model, layer_by_layer


def test_the_1x1_convolutions_are_the_same_fully_connected_layers_at_every_pixel() -> None:
    block = NiNBlock(3, (8, 6, 4), 5, stride=2, padding=2).eval()
    pictures = torch.rand(2, 3, 14, 11)
    with torch.no_grad():
        found, seen = block(pictures), block[1](block[0](pictures))
        for layer in (block[2], block[4]):
            assert isinstance(layer, nn.Conv2d)
            seen = nn.functional.linear(seen.movedim(1, -1), layer.weight.flatten(1), layer.bias).relu().movedim(-1, 1)
    assert found.shape == (2, 4, 7, 6)
    torch.testing.assert_close(found, seen)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("last_activation", [False, True])
def test_a_relu_follows_each_convolution_but_the_last_where_that_is_bare(batch_norm: bool, last_activation: bool) -> None:
    block = NiNBlock(1, (4, 4, 2), 3, batch_norm=batch_norm, last_activation=last_activation)
    active = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU] if batch_norm else [nn.Conv2d, nn.ReLU]
    assert [type(layer) for layer in block] == [*active, *active, *(active if last_activation else [nn.Conv2d])]
    biases = [layer.bias is not None for layer in block if isinstance(layer, nn.Conv2d)]
    assert biases == [not batch_norm, not batch_norm, not (batch_norm and last_activation)]  # normalisation has one of its own


def test_larger_kernels_in_the_place_of_1x1_keep_height_and_width() -> None:
    block = NiNBlock(1, (4, 4, 2), 5, mlp_kernel_size=3)
    assert [layer.kernel_size for layer in block if isinstance(layer, nn.Conv2d)] == [(5, 5), (3, 3), (3, 3)]
    assert block(torch.rand(1, 1, 12, 9)).shape == (1, 2, 8, 5)


@pytest.mark.parametrize("training", [True, False])
def test_pooling_goes_before_the_last_relu_and_the_block_is_what_it_was(training: bool) -> None:
    block, pool = NiNBlock(1, (8, 4), 3, padding=1).train(training), nn.MaxPool2d(3, 2)
    pictures = torch.rand(4, 1, 14, 14)
    with layer_by_layer():
        assert torch.equal(block(pictures, pool), pool(block(pictures)))
    assert block.layers(pool) == [*list(block)[:-1], pool, block[-1]]
    bare = NiNBlock(1, (8, 4), 3, last_activation=False).train(training)
    assert torch.equal(bare(pictures, pool), pool(bare(pictures)))
    assert block.layers() == list(block)


@pytest.mark.parametrize("changes", [{}, {"batch_norm": True}, {"pool": "avg"}, {"dropout_at": "last"}, {"mlp_layers": 0}])
def test_pooling_before_relu_changes_no_bit_of_output_or_gradient(changes: dict[str, object]) -> None:
    network = create_model("nin_mnist", dropout=0.0, **changes).train()
    pictures = torch.rand(4, 1, 28, 28)
    results = []
    for body in (network.body, network._trained_body):
        network.zero_grad()
        with layer_by_layer():  # shorter ways add up in another order where a ReLU follows at once
            logits = network.forward_head(body(pictures))
        logits.square().sum().backward()
        results.append([logits.detach(), *(parameter.grad.clone() for parameter in network.parameters())])
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize("training", [True, False])
def test_a_slice_is_a_block_of_the_same_layers(training: bool) -> None:
    block, pictures = NiNBlock(1, (8, 6, 4), 3).train(training), torch.rand(4, 1, 14, 14)
    first = block[:2]  # the spatial convolution and its ReLU
    assert isinstance(first, NiNBlock)
    assert (list(first), first.training, list(block[4:].state_dict())) == ([block[0], block[1]], training, ["4.weight", "4.bias"])
    torch.testing.assert_close(first(pictures), nn.functional.relu(block[0](pictures)))
