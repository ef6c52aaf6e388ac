import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from torchnin import Classifier, Run, create_model

Rows = Callable[[Any], list[dict[str, Any]]]


def test_sizes_and_work_are_those_of_the_reference(nin: Callable[..., Any], rows_of: Rows) -> None:
    d2l, plain, cifar = rows_of(nin("compare", "nin_d2l", "nin_d2l:mlp_layers=0", "nin_cifar10", "--seconds", "0", "--json"))
    assert (d2l["num_parameters"], d2l["num_macs"], d2l["input"]) == (1_992_166, 762_297_352, [1, 224, 224])
    assert (cifar["num_parameters"], cifar["num_macs"], cifar["input"]) == (966_986, 222_486_528, [3, 32, 32])
    assert plain["name"] == "nin_d2l:mlp_layers=0"
    assert plain["num_parameters"] < d2l["num_parameters"]
    assert d2l["images_per_second"] is None
    assert d2l["predict_bytes"] < d2l["train_bytes"]


def test_memory_grows_with_the_batch_and_work_is_told_for_one_picture(nin: Callable[..., Any], rows_of: Rows) -> None:
    (one,) = rows_of(nin("compare", "nin_small", "--seconds", "0", "--json"))
    answer = nin("compare", "nin_small", "--seconds", "0", "--batch-size", "64", "--json")
    (many,) = rows_of(answer)
    assert many["num_macs"] == one["num_macs"]
    assert many["train_bytes"] > 5 * one["train_bytes"]
    assert json.loads(answer.out)["memory_batch_size"] == 64
    assert "batches of 64" in answer.err


def test_speed_is_measured_and_runs_tell_what_they_reached(nin: Callable[..., Any], rows_of: Rows, trained: Run) -> None:
    answer = nin("compare", trained.path, "nin_small", trained.path / "classifier", "--seconds", "0.6", "--batch-size", "4", "--json")
    run, named, saved = rows_of(answer)
    for row in (run, named, saved):
        for rate in row["images_per_second"].values():
            assert 0 < rate["low"] <= rate["median"] <= rate["high"]
    assert run["test_accuracy"] == saved["test_accuracy"] == trained.result["test_accuracy"]
    assert (run["seconds"], saved["seconds"]) == (trained.result["seconds"], None)
    assert named["test_accuracy"] is None
    assert run["num_parameters"] == trained.result["num_parameters"]
    document = json.loads(answer.out)
    assert document["speed_batch_size"] == 4
    assert document["rounds"] >= 3
    assert document["device"]["device"] == "cpu"


def test_a_table_for_people(nin: Callable[..., Any], trained: Run) -> None:
    answer = nin("compare", "nin_small", trained.path, "--seconds", "0")
    header, small, run = answer.out.splitlines()
    assert header.split("  ")[0] == "network"
    assert "test accuracy" in header
    assert f"{sum(weight.numel() for weight in create_model('nin_small').parameters()):,}" in small
    assert f"{trained.result['test_accuracy']:.4f}" in run
    assert "images/s" not in header


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "no network was named"),
        (("nin_d2k",), "no network is named 'nin_d2k'; did you mean nin_d2l"),
        (("nin_d2l:",), "expected FIELD=VALUE after the colon, found ''"),
        (("nin_d2l:head",), "expected FIELD=VALUE after the colon, found 'head'"),
        (("nin_d2l:mlp_layers=1,",), "expected FIELD=VALUE after the colon, found ''"),
        (("nin_d2l:mlp_layer=1",), "a variant has no field 'mlp_layer'; did you mean mlp_layers?"),
        (("nin_d2l:head=gap,head=fc",), "head is given twice"),
        (("nin_d2l:head=fcc",), "head is 'fcc'; accepted: gap, fc"),
        (("nin_d2l:batch_norm=yes",), "batch_norm is 'yes'; accepted: true, false"),
        (("nin_d2l:mlp_layers=4",), "mlp_layers is '4'; accepted: 0, 1, 2, 3"),
        (("nin_d2l:num_classes=1.5",), "num_classes is '1.5'; accepted: a whole number"),
        (("nin_d2l:dropout=much",), "dropout is 'much'; accepted: a number"),
        (("nin_d2l:dropout=nan",), "dropout is nan"),
        (("nin_d2l:class_hidden=384x192",), "class_hidden is '384x192'; give widths with a dash between them, such as 384-192"),
        (("nin_d2l:mlp_layers=1,class_hidden=384-192",), "class_hidden 384-192 has 2 widths; with mlp_layers 1 the last block has 1"),
        (("nin_d2l:mlp_layers=0,mlp_kernel_size=3",), "mlp_kernel_size is the kernel of the 1x1 convolutions, and with mlp_layers 0"),
        (("nin_small:dropout_kind=channel",), "dropout_kind says what is zeroed, and with dropout 0 nothing is; give dropout too"),
        (("nin_d2l", "--input", "3x64x64"), "nin_d2l takes 1 (write nin_d2l:in_channels=3)"),
        (("nin_d2l", "--input", "1x28x28"), "nin_d2l with pictures of 1x28x28: a picture of 28x28 pixels is too small for this network"),
        (
            ("nin_d2l:head=fc", "--input", "1x224x240"),
            "nin_d2l:head=fc with pictures of 1x224x240: this network's fully connected head takes class maps of",
        ),
        (("nin_d2l", "--seconds", "-1"), "--seconds is -1"),
        (("nin_d2l", "--seconds", "nan"), "--seconds is nan"),
        (("nin_d2l", "--batch-size", "1"), "at least 2 to measure speed"),
        (("nin_d2l", "--batch-size", "0", "--seconds", "0"), "--batch-size is 0"),
        (("nin_d2l", "--device", "cpu", "--seconds", "0"), "--device cpu is where speed is measured, and --seconds 0 leaves that out"),
    ],
)
def test_wrong_calls(nin: Callable[..., Any], arguments: tuple[str, ...], said: str) -> None:
    answer = nin("compare", *arguments)
    assert (answer.code, answer.out) == (2, "")
    assert said in answer.err
    assert answer.err.count("\n") == 1


def test_an_accuracy_that_is_no_number_is_none(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    own = trained.classifier
    saved = Classifier(own.network, own.preprocessing, own.class_names, metadata={"test_accuracy": "0.9"}).save(tmp_path / "own")
    answer = nin("compare", saved, "--seconds", "0")
    assert answer.code == 0, answer.err
    assert "test accuracy" not in answer.out


def test_accuracies_on_other_pictures_are_told(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    own = trained.classifier
    data = own.metadata["data"]
    for name, changed in (("moved", {"name": f"elsewhere/{data['name']}", "checksums": {}}), ("other", {"name": "photos"})):
        metadata = own.metadata | {"data": data | changed}
        Classifier(own.network, own.preprocessing, own.class_names, metadata=metadata).save(tmp_path / name)
    said = "test accuracy: each of its own test pictures, which are not the same"
    assert said not in nin("compare", trained.path, tmp_path / "moved", "nin_small", "--seconds", "0").err
    answer = nin("compare", trained.path, tmp_path / "other", "nin_small", "--seconds", "0")
    assert f"{said} ({trained.path} of {data['name']}, {tmp_path / 'other'} of photos)" in answer.err


def test_trained_networks_have_no_variants(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    for arguments, said in (
        ((f"{trained.path}:head=fc",), "only named networks have variants"),
        ((trained.path, "--head", "fc"), "nothing is changed in them; leave out --head"),
        ((trained.path, "--input", "3x28x28"), "takes 1"),
        ((tmp_path,), "holds no classifier"),
    ):
        answer = nin("compare", *arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert said in answer.err
