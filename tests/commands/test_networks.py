import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from torchnin import Run, create_model
from torchnin.commands.networks import NetworkChoices, is_trained, make_network, named_config, picture_shape

Rows = Callable[[Any], list[dict[str, Any]]]


def test_variants_and_flags_change_the_named_networks(nin: Callable[..., Any], rows_of: Rows) -> None:
    answer = nin(
        *("compare", "nin_cifar10", "nin_cifar10:mlp_layers=1,batch_norm=true,class_map_relu=false,dropout=0.25", "nin_cifar10:head=fc"),
        *("--input", "1x40x40", "--in-channels", "1", "--seconds", "0", "--json"),
    )
    plain, variant, connected = rows_of(answer)
    assert all(row["input"] == [1, 40, 40] for row in (plain, variant, connected))
    assert variant["num_parameters"] < plain["num_parameters"]
    assert connected["num_parameters"] == plain["num_parameters"] + 10 * 10 * 10 * 10 + 10  # 10 maps of 10x10 for 40 pixels, ceil


def test_384_channels_to_10_at_once_or_step_by_step(nin: Callable[..., Any], rows_of: Rows) -> None:
    variants = ("class_hidden=10-10", "class_hidden=384-384", "class_hidden=192-48", "mlp_layers=1,class_hidden=384")
    answer = nin("compare", "nin_d2l", *(f"nin_d2l:{variant}" for variant in variants), "--seconds", "0", "--json")
    d2l, once, wide, steps, one = (row["num_parameters"] for row in rows_of(answer))
    assert once == d2l == 1_992_166  # the chapter's network is the one that goes to ten channels at once

    def counted(*widths: int) -> int:  # a 3x3 convolution, then 1x1s
        return 9 * 384 * widths[0] + widths[0] + sum(a * b + b for a, b in itertools.pairwise(widths))

    body = d2l - counted(10, 10, 10)
    assert (wide, steps) == (body + counted(384, 384, 10), body + counted(192, 48, 10))
    assert one < wide
    summary = json.loads(nin("summary", "nin_d2l:class_hidden=384-384", "--json").out)
    assert (
        summary["num_parameters"]
        == wide
        == json.loads(nin("summary", "nin_d2l", "--class-hidden", "384-384", "--json").out)["num_parameters"]
    )


def test_a_variant_goes_before_the_flags() -> None:
    found = named_config("nin_small:mlp_layers=0,dropout=0.25", NetworkChoices(mlp_layers=2, num_classes=7))
    assert (found.mlp_layers, found.dropout, found.num_classes) == (0, 0.25, 7)
    assert named_config("nin_small", NetworkChoices()) == create_model("nin_small").config


def test_what_is_trained_is_taken_as_it_is(trained: Run, tmp_path: Path) -> None:
    network, shape = make_network(str(trained.path), NetworkChoices())
    assert (network.config, shape) == (trained.classifier.config, (1, 28, 28))
    with pytest.raises(ValueError, match="is a trained network; leave out --num-classes, --batch-norm"):
        make_network(str(trained.path), NetworkChoices(num_classes=3, batch_norm=False))
    made, own = make_network("nin_cifar10", NetworkChoices(in_channels=1))
    assert (made.config.in_channels, own) == (1, (1, 32, 32))


def test_a_networks_name_goes_before_a_folder_of_that_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("nin_small", "mine"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    found = {name: is_trained(name) for name in ("nin_small", "mine", "yours", "fashion-mnist-small", "hf-hub:me/digits")}
    assert found == {"nin_small": False, "mine": True, "yours": False, "fashion-mnist-small": True, "hf-hub:me/digits": True}


def test_a_shape_is_three_positive_numbers() -> None:
    assert picture_shape("1x224x200") == picture_shape("1X224X200") == (1, 224, 200)
    for text in ("", "224", "1x224", "1x0x224", "1x-2x224", "1x2.5x224", "1x²x224", "1x2x3x4"):
        with pytest.raises(ValueError, match="is no picture shape; give channels, height and width in pixels"):
            picture_shape(text)
