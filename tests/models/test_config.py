"""What there is to choose in a NiN is checked, written down and read back, and says how small a picture may be."""

import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchnin.models import BlockConfig, ClassBlockConfig, NiNConfig, create_model, model_entry, summarize


@settings(max_examples=40)
@given(
    mlp_layers=st.integers(0, 3),
    mlp_kernel_size=st.sampled_from([1, 3]),
    batch_norm=st.booleans(),
    class_map_relu=st.booleans(),
    head=st.sampled_from(["gap", "fc"]),
    dropout=st.sampled_from([0.0, 0.5]),
    dropout_kind=st.sampled_from(["element", "channel"]),
    dropout_at=st.sampled_from(["last", "every"]),
    pool=st.sampled_from(["max", "avg"]),
    pool_rounding=st.sampled_from(["floor", "ceil"]),
    in_channels=st.integers(1, 4),
    num_classes=st.integers(1, 12),
)
def test_every_choice_of_the_configuration_makes_a_network(num_classes: int, in_channels: int, **choices: object) -> None:
    network = create_model("nin_mnist", num_classes=num_classes, in_channels=in_channels, image_size=8, **choices)
    config = network.config
    assert NiNConfig.from_dict(config.to_dict()) == config
    for part in (*network.body, network.class_block):
        if type(part).__name__ == "NiNBlock":
            assert sum(isinstance(layer, torch.nn.Conv2d) for layer in part) == 1 + config.mlp_layers
    logits = network(torch.rand(2, in_channels, 8, 8))
    assert logits.shape == (2, num_classes)
    logits.sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())
    table = summarize(network, (2, in_channels, 8, 8))
    assert table.num_parameters == sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("rounding", ["floor", "ceil"])
@pytest.mark.parametrize("kernel_size", [1, 3, 6, 11, 4_999_999_999])
def test_the_smallest_picture_is_found_however_large_it_is(kernel_size: int, rounding: Any) -> None:
    blocks = (BlockConfig(channels=(2,), kernel_size=kernel_size, stride=3), BlockConfig(channels=(2,), kernel_size=3, padding=1))
    config = NiNConfig(
        blocks=blocks, class_block=ClassBlockConfig(), in_channels=1, num_classes=2, image_size=28, mlp_layers=0, pool_rounding=rounding
    )
    least = config.min_image_size
    assert config.map_size(least) is not None
    assert config.map_size(least - 1) is None
    if kernel_size < 20:
        assert all(config.map_size(side) is None for side in range(1, least))


def test_numpys_numbers_are_pythons() -> None:
    block = BlockConfig(channels=np.array([8, 4]), kernel_size=np.int64(3), padding=np.int8(1), pool=np.True_)
    plain = BlockConfig(channels=(8, 4), kernel_size=3, padding=1)
    assert block == plain
    changes = {"mlp_layers": np.int64(1), "batch_norm": np.True_, "dropout": np.float32(0.5)}
    config = dataclasses.replace(model_entry("nin_small").config, blocks=(block,), **changes)
    expected = dataclasses.replace(model_entry("nin_small").config, blocks=(plain,), mlp_layers=1, batch_norm=True, dropout=0.5)
    assert json.dumps(config.to_dict()) == json.dumps(expected.to_dict())


def test_a_list_of_blocks_is_a_row_of_them() -> None:
    """It could neither be hashed nor was it equal to what came back from its own description."""
    config = model_entry("nin_small").config
    listed = dataclasses.replace(config, blocks=list(config.blocks))  # type: ignore[arg-type]
    assert listed == config == NiNConfig.from_dict(listed.to_dict())
    assert hash(listed) == hash(config)


@pytest.mark.parametrize("change", [{"blocks": ("a",)}, {"blocks": 3}, {"class_block": {}}, {"class_block": None}])
def test_what_is_no_block_is_told(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"block.* has .*; accepted: (Class)?BlockConfig"):
        dataclasses.replace(model_entry("nin_small").config, **change)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_norm": "false"}, "batch_norm is 'false'; accepted: False, True"),
        ({"class_map_relu": None}, "class_map_relu is None; accepted: False, True"),
        ({"mlp_layers": True}, "mlp_layers is True; accepted: 0, 1, 2, 3"),
        ({"blocks": [{"channels": [8.5], "kernel_size": 3}]}, "a width of channels is 8.5; it must be a whole number"),
        ({"blocks": [{"channels": "88", "kernel_size": 3}]}, "a width of channels is '8'; it must be a whole number"),
        ({"blocks": [{"channels": [8], "kernel_size": 3.0}]}, "kernel_size is 3.0; it must be a whole number"),
        ({"blocks": [{"channels": [8], "kernel_size": 3, "pool": "no"}]}, "pool is 'no'; accepted: False, True"),
    ],
)
def test_what_is_of_another_type_is_told_by_name(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        NiNConfig.from_dict({**model_entry("nin_small").config.to_dict(), **changes})


def test_a_block_of_any_depth_keeps_its_output_width() -> None:
    block, last = BlockConfig(channels=(96, 64, 32), kernel_size=5), ClassBlockConfig(hidden=(384, 192))
    assert [block.widths(layers) for layers in range(4)] == [(32,), (96, 32), (96, 64, 32), (96, 64, 32, 32)]
    assert [last.widths(layers, 10) for layers in range(4)] == [(10,), (384, 10), (384, 192, 10), (384, 192, 10, 10)]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: BlockConfig(channels=(), kernel_size=3), r"channels is \(\); it needs at least 1 widths, each at least 1"),
        (lambda: BlockConfig(channels=(8, 0), kernel_size=3), r"channels is \(8, 0\)"),
        (lambda: BlockConfig(channels=(8,), kernel_size=0), "a convolution of kernel 0, stride 1, padding 0: kernel and stride must be"),
        (lambda: BlockConfig(channels=(8,), kernel_size=3, padding=-1), "padding -1"),
        (lambda: ClassBlockConfig(hidden=(0,)), r"hidden is \(0,\); it needs at least 0 widths"),
        (lambda: ClassBlockConfig(stride=0), "stride 0"),
    ],
)
def test_a_block_that_could_not_be_built_is_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        make()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": True}, "unexpected keyword argument 'colour'; expected the fields of NiNConfig"),
        ({"class_block": {}}, "this is no description of a NiN: 'hidden'"),
        ({"blocks": []}, "blocks is empty; a NiN has at least one block before its last one"),
        ({"in_channels": 1.0}, "in_channels is 1.0; it must be a whole number of at least 1"),
        ({"dropout": "half"}, "dropout is 'half'; it is the share of values zeroed, at least 0 and below 1"),
    ],
)
def test_a_description_of_another_thing_is_refused(change: dict[str, Any], said: str) -> None:
    described = model_entry("nin_small").config.to_dict()
    assert NiNConfig.from_dict(described) == model_entry("nin_small").config
    with pytest.raises(ValueError, match=said):
        NiNConfig.from_dict({**described, **change})
    with pytest.raises(ValueError, match="this is no description of a NiN"):
        NiNConfig.from_dict(None)  # type: ignore[arg-type]
