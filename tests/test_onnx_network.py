"""The folded network by onnxruntime: the same answers, taken where it is installed, and left where it cannot be trusted."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import torchnin
from torchnin.models import FoldedNiN
from torchnin.onnx_network import OnnxNetwork

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
VARIANTS: dict[str, dict[str, Any]] = {
    "as published": {},
    "mean pooling": {"pool": "avg"},
    "rounded down": {"pool_rounding": "floor"},
    "mean pooling, rounded down": {"pool": "avg", "pool_rounding": "floor"},
    "fully connected": {"head": "fc"},
    "3x3 MLP": {"mlp_kernel_size": 3},
    "without normalisation": {"batch_norm": False},
}


def a_network(name: str = "nin_small", **changes: Any) -> torchnin.NiN:
    config = dataclasses.replace(torchnin.model_entry(name).config, **changes)
    torch.manual_seed(0)
    network = torchnin.NiN(config)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            assert module.bias is None or nn.init.uniform_(module.bias, -0.2, 0.2) is not None
    p = its_preprocessing(network)
    with torch.no_grad():  # statistics of something, so that folding them is not nothing
        network(p(torch.randint(0, 256, (8, p.channels, p.height, p.width), dtype=torch.uint8)))
    return network.eval()


def its_preprocessing(network: torchnin.NiN, size: int | None = None) -> torchnin.Preprocessing:
    config = network.config
    side = size or min(config.image_size, 97 if config.head == "gap" else 1000)
    grey = config.in_channels == 1
    means, stds = ((0.3,), (0.25,)) if grey else ((0.3, 0.4, 0.5), (0.25, 0.2, 0.3))
    return torchnin.Preprocessing(channels=config.in_channels, height=side, width=side, mean=means, std=stds)


def pictures(count: int = 5, channels: int = 1, side: int = 28) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, channels, side, side)).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        (name, variant)
        for name in ("nin_d2l", "nin_cifar10", "nin_imagenet", "nin_mnist", "nin_small")
        for variant in VARIANTS
        if variant != "fully connected" or name not in ("nin_d2l", "nin_imagenet")  # which would be made for 224 pixels
    ],
)
def test_it_gives_the_folded_network_s_logits(name: str, variant: str) -> None:
    network = a_network(name, **VARIANTS[variant])
    p, folded = its_preprocessing(network), FoldedNiN(network)
    pixels = torch.rand(3, p.channels, p.height, p.width) * 255
    with torch.inference_mode():
        expected, found = folded(p.normalise(pixels)), OnnxNetwork(folded, p)(pixels)
    scale = expected.abs().max()
    assert scale > 0.01
    assert torch.allclose(found / scale, expected / scale, rtol=0, atol=2e-5)


@pytest.mark.parametrize("side", [15, 16, 17, 29, 40])
def test_sizes_at_which_pooling_windows_overhang(side: int) -> None:
    network = a_network(pool="avg")
    p, folded = its_preprocessing(network, side), FoldedNiN(network)
    pixels = torch.rand(2, 1, side, side) * 255
    with torch.inference_mode():
        assert torch.allclose(OnnxNetwork(folded, p)(pixels), folded(p.normalise(pixels)), rtol=1e-4, atol=1e-5)


def test_large_convolutions_stay_with_torch_for_several_pictures() -> None:
    folded, small = FoldedNiN(a_network("nin_d2l")), FoldedNiN(a_network())
    large = OnnxNetwork(folded, its_preprocessing(a_network("nin_d2l"), 224))
    assert [large.is_faster(count) for count in (1, 2, 64)] == [True, False, False]
    assert all(OnnxNetwork(small, its_preprocessing(a_network())).is_faster(count) for count in (1, 2, 1024))


def test_multiply_adds_are_counted_as_the_layer_table_does() -> None:
    network = a_network("nin_d2l")
    rows = [row for row in torchnin.summarize(network, (1, 1, 224, 224)).rows if row.num_macs > 100_000_000]
    assert FoldedNiN(network).macs(224, 224)[1] == sum(row.num_macs for row in rows)
