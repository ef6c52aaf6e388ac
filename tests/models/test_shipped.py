"""Weights that ship, by the name of their network and by their own; with weights made here, so that it does not matter what ships."""

import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import torchnin
from torchnin import Classifier, Preprocessing, create_model, list_weights, load, weights_entry
from torchnin.models import shipped

PICTURES = torch.linspace(-1, 1, 2 * 28 * 28).view(2, 1, 28, 28)


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of shipped weights: two of nin_small for grey pictures, one of nin_base for colours, at a size that is not its own."""
    for name, network, channels, size, accuracy in (
        ("toy-digits", "nin_small", 1, 28, 0.5),
        ("toy-colours", "nin_base", 3, 48, 0.25),
        ("toy-clothes", "nin_small", 1, 28, 0.75),
    ):
        torch.manual_seed(len(name))
        classifier = Classifier(
            create_model(network, in_channels=channels),
            Preprocessing(channels=channels, height=size, width=size, mean=(0.5,) * channels, std=(0.25,) * channels),
            [f"class {number}" for number in range(10)],
            metadata={
                "name": network,
                "data": {"name": name.removeprefix("toy-")},
                "test_accuracy": accuracy,
                "test_accuracy_interval": [accuracy - 0.1, accuracy + 0.1],
            },
        )
        classifier.save(tmp_path / "weights" / name, half=True)
        (tmp_path / "weights" / name / "card.json").write_text("{}")
    (tmp_path / "weights" / "somebody-elses").mkdir()
    (tmp_path / "weights" / "somebody-elses" / "config.json").write_text("[]")
    monkeypatch.setattr(shipped, "WEIGHTS", tmp_path / "weights")
    return tmp_path / "weights"


def test_what_ships_is_listed_with_what_it_reaches(toys: Path) -> None:
    assert list_weights() == ("toy-clothes", "toy-colours", "toy-digits")
    entry = weights_entry("toy-colours")
    assert (entry.network, entry.data, entry.test_accuracy, entry.test_accuracy_interval) == ("nin_base", "colours", 0.25, (0.15, 0.35))
    assert entry.folder == toys / "toy-colours"
    assert entry.config.in_channels == 3


def test_a_pretrained_network_is_that_of_the_classifier(toys: Path) -> None:
    for pretrained, name in ((True, "toy-clothes"), ("toy-digits", "toy-digits")):
        network = create_model("nin_small", pretrained=pretrained)
        assert network.training
        trained = load(name, device="cpu").network
        assert all(torch.equal(a, b) for a, b in zip(network.state_dict().values(), trained.state_dict().values(), strict=True))
        torch.testing.assert_close(network.eval()(PICTURES), trained(PICTURES))
    assert create_model("nin_base", in_channels=3, pretrained=True).config.in_channels == 3


def test_a_pretrained_network_is_for_pictures_of_the_size_that_it_learned_from(toys: Path) -> None:
    assert weights_entry("toy-colours").config.image_size == 48
    assert create_model("nin_base", in_channels=3, pretrained=True).config.image_size == 48
    assert create_model("nin_base", in_channels=3, pretrained=True, image_size=64).config.image_size == 64
    assert create_model("nin_base").config.image_size == 28


@pytest.mark.parametrize("changes", [{"dropout": 0.3}, {"dropout": 0.3, "dropout_at": "every"}, {"image_size": 56}])
def test_what_changes_no_weight_may_be_changed(toys: Path, changes: dict[str, object]) -> None:
    network = create_model("nin_small", pretrained=True, **changes).eval()
    assert torch.equal(network(PICTURES), create_model("nin_small", pretrained=True).eval()(PICTURES))
    assert all(getattr(network.config, field) == value for field, value in changes.items())


def test_other_classes_keep_the_body(toys: Path) -> None:
    network = create_model("nin_small", pretrained=True).eval()
    features = network.forward_features(PICTURES)
    network.reset_classifier(3)
    assert torch.equal(network.forward_features(PICTURES), features)
    assert network(PICTURES).shape == (2, 3)


@pytest.mark.parametrize(
    ("network", "arguments", "message"),
    [
        ("nin_d2l", {}, r"no weights of nin_d2l ship .*; weights that ship: toy-clothes \(nin_small\), .*nin train --model nin_d2l"),
        ("nin_small", {"num_classes": 3}, r"do not fit num_classes=3: toy-clothes \(in_channels=1, num_classes=10.*reset_classifier"),
        ("nin_small", {"pool": "avg"}, r"do not fit pool='avg': toy-clothes \(.*, pool='max'\), toy-digits"),
        ("nin_base", {}, r"do not fit in_channels=1: toy-colours \(in_channels=3"),
        ("nin_small", {"pretrained": "toy-cloths"}, "no weights are named 'toy-cloths'; did you mean toy-clothes"),
        ("nin_small", {"pretrained": "toy-colours"}, "toy-colours are no weights of nin_small; weights that ship"),
    ],
)
def test_weights_that_do_not_ship_or_fit_name_those_that_do(toys: Path, network: str, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        create_model(network, **{"pretrained": True, **arguments})


def test_a_file_that_was_changed_is_refused(toys: Path) -> None:
    path = toys / "toy-clothes" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=r"is not the file that ships: expected SHA-256 .* Install torchnin anew"):
        create_model("nin_small", pretrained=True)


def test_load_takes_the_name(toys: Path) -> None:
    classifier = load("toy-clothes")
    assert classifier.metadata["test_accuracy"] == 0.75
    with pytest.raises(ValueError, match=r"no such folder, and no weights of that name ship; did you mean toy-digits\? weights that ship"):
        load("toy_digit")
    with pytest.raises(ValueError, match="did you mean toy-colours"):
        load("nin_base")


def test_a_classifier_at_that_path_goes_first_and_other_folders_do_not(toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    (here / "toy-digits").mkdir(parents=True)  # as a folder of pictures would be called
    monkeypatch.chdir(here)
    assert load("toy-digits").metadata["test_accuracy"] == 0.5
    with pytest.raises(ValueError, match="holds no classifier"):
        load("./toy-digits")
    load("toy-clothes").save(here / "toy-digits")
    with pytest.warns(UserWarning, match="toy-digits is a folder here and the name of weights that ship; the folder is taken"):
        assert load("toy-digits").metadata["test_accuracy"] == 0.75
    shutil.rmtree(here / "toy-digits")
    (here / "toy-digits" / "checkpoint").mkdir(parents=True)
    with pytest.warns(UserWarning, match="the folder is taken"), pytest.raises(ValueError, match="a run that has not finished"):
        load("toy-digits")


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[ModuleType]:
    """The folder `models`, copied out and imported as a package of its own."""
    shutil.copytree(
        Path(torchnin.models.__file__).parent, tmp_path / "alone" / "copied_models", ignore=shutil.ignore_patterns("__pycache__")
    )
    sys.path.insert(0, str(tmp_path / "alone"))
    try:
        yield importlib.import_module("copied_models")
    finally:
        sys.path.remove(str(tmp_path / "alone"))
        for name in [name for name in sys.modules if name.partition(".")[0] == "copied_models"]:
            del sys.modules[name]


def test_a_copy_of_models_works_alone_and_has_no_weights(alone: ModuleType, toys: Path, tmp_path: Path) -> None:
    assert alone.create_model("nin_small")(PICTURES).shape == (2, 10)
    assert alone.list_weights() == ()
    with pytest.raises(ValueError, match="no weights of nin_small ship with this version; weights that ship: none"):
        alone.create_model("nin_small", pretrained=True)
    shutil.copytree(toys, tmp_path / "alone" / "weights")  # both folders copied, both are found
    assert torch.equal(
        alone.create_model("nin_small", pretrained=True).eval()(PICTURES), create_model("nin_small", pretrained=True).eval()(PICTURES)
    )


def test_the_commands_know_the_name(toys: Path, nin, few, tmp_path: Path) -> None:
    from PIL import Image

    picture = tmp_path / "3.png"
    Image.fromarray(few.test.images[3, 0]).save(picture)
    answer = nin("predict", "toy-clothes", picture, "--json")
    assert json.loads(answer.out)["label"] == load("toy-clothes").predict(picture).label
    rows = {row["name"]: row["weights"] for row in json.loads(nin("models", "--json").out)}
    assert [(one["name"], one["data"], one["test_accuracy"]) for one in rows["nin_small"]] == [
        ("toy-clothes", "clothes", 0.75),
        ("toy-digits", "digits", 0.5),
    ]
    assert rows["nin_d2l"] == []
    text = nin("models").out
    assert "toy-clothes 75.00%, toy-digits 50.00%" in text
    assert "toy-colours 25.00% at 3x48x48" in text
    assert "input 1,3,48,48;" in nin("summary", "toy-colours").out
    compared = json.loads(nin("compare", "toy-clothes", "nin_small", "--seconds", 0, "--json").out)["networks"]
    assert [row["test_accuracy"] for row in compared] == [0.75, None]
    unknown = nin("predict", "toy-cloths", picture)
    assert (unknown.code, unknown.out) == (2, "")
    assert "did you mean toy-clothes" in unknown.err
