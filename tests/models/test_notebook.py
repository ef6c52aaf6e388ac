"""Weights of the notebooks' nn.Sequential load, run bit-equal, and can be written back."""

import pytest
import torch
from torch import nn

from torchnin.models import create_model, from_notebook, to_notebook


def nin_block(in_channels: int, out_channels: int, kernel_size: int, strides: int, padding: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, strides, padding),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, kernel_size=1),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, kernel_size=1),
        nn.ReLU(),
    )


def notebook_network() -> nn.Sequential:
    """The network as the notebooks build it."""
    return nn.Sequential(
        nin_block(1, 96, 11, 4, 0),
        nn.MaxPool2d(3, stride=2),
        nin_block(96, 256, 5, 1, 2),
        nn.MaxPool2d(3, stride=2),
        nin_block(256, 384, 3, 1, 1),
        nn.MaxPool2d(3, stride=2),
        nn.Dropout(0.5),
        nin_block(384, 10, 3, 1, 1),
        nn.AdaptiveAvgPool2d((1, 1)),
        nn.Flatten(),
    )


@pytest.mark.parametrize("prefix", ["", "net.", "module.", "_orig_mod.net."])
def test_notebook_weights_run_bit_equal(prefix: str) -> None:
    theirs = notebook_network().eval()
    ours = create_model("nin_d2l").eval()
    ours.load_state_dict(from_notebook({prefix + key: value for key, value in theirs.state_dict().items()}))
    pictures = torch.rand(2, 1, 224, 224)
    with torch.no_grad():
        assert torch.equal(ours(pictures), theirs(pictures))


def test_written_back_weights_are_the_same_file() -> None:
    theirs = notebook_network()
    back = to_notebook(from_notebook(theirs.state_dict()))
    assert list(back) == list(theirs.state_dict())
    assert all(torch.equal(back[key], value) for key, value in theirs.state_dict().items())
    notebook_network().load_state_dict(to_notebook(create_model("nin_d2l").state_dict()))


def test_other_weights_are_refused_with_the_keys() -> None:
    keys = notebook_network().state_dict()
    keys["9.weight"] = keys.pop("7.4.bias")
    with pytest.raises(ValueError, match=r"unknown key 9\.weight; missing 7\.4\.bias"):
        from_notebook(keys)
    with pytest.raises(ValueError, match="has no place in the notebooks' NiN"):
        to_notebook(create_model("nin_d2l", batch_norm=True).state_dict())


def test_only_nin_d2l_is_written_back() -> None:
    for other, said in (
        ({}, r"missing body\.0\.0\.bias, .*has no place"),
        (create_model("nin_d2l", mlp_layers=1).state_dict(), r"missing body\.0\.4\.bias, .*has no place"),
        (
            create_model("nin_imagenet").state_dict(),
            r"class_block\.0\.weight is \(1024, 384, 3, 3\), not \(1000, 384, 3, 3\): .*has no place",
        ),
    ):
        with pytest.raises(ValueError, match=said):
            to_notebook(other)
    colour = to_notebook(create_model("nin_d2l", in_channels=3, num_classes=7).state_dict())
    assert (colour["0.0.weight"].shape[1], len(colour["7.4.bias"])) == (3, 7)
