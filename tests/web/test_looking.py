"""What the page shows of a classifier agrees with what the classifier says itself."""

import base64
import json
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from torchnin import BlockConfig, ClassBlockConfig, Classifier, NiN, NiNConfig, Preprocessing
from torchnin.saved import without_places
from torchnin.web.looking import explanation_json, network_json
from torchnin.web.samples import samples_json


def unpacked(document: dict[str, Any]) -> np.ndarray:
    array = np.frombuffer(base64.b64decode(document["data"]), np.dtype(document["dtype"]).newbyteorder("<")).reshape(document["shape"])
    if document["dtype"] != "uint16":
        return array
    return document["low"] + array.astype(np.float64) * ((document["high"] - document["low"]) / 65535)


def classifier_of(**choices: Any) -> Classifier:
    torch.manual_seed(0)
    config = NiNConfig(
        **{
            "blocks": (BlockConfig(channels=(6, 5, 4), kernel_size=5, stride=2, padding=2),),
            "class_block": ClassBlockConfig(hidden=(7, 6)),
            "in_channels": 3,
            "num_classes": 3,
            "image_size": 32,
            **choices,
        }
    )
    preprocessing = Preprocessing(channels=3, height=32, width=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    return Classifier(NiN(config), preprocessing, ("cat", "dog", "owl"))


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 40, 60), dtype=np.uint8)


def test_the_answer_is_that_of_predict_and_the_maps_average_to_the_logits(photo: np.ndarray) -> None:
    classifier = classifier_of(class_map_relu=False)
    told = json.loads(json.dumps(explanation_json(classifier, photo)))
    said = classifier.predict(photo)
    assert told["label"] == said.label
    assert dict(zip(told["class_names"], told["probabilities"], strict=True)) == pytest.approx(said.probabilities, abs=1e-6)
    maps = unpacked(told["class_maps"])
    assert maps.mean((1, 2)) == pytest.approx(told["logits"], abs=1e-5)
    assert told["means"] == pytest.approx(told["logits"], abs=1e-5)
    assert np.array_equal(maps, classifier.explain(photo).class_maps.numpy())
    assert unpacked(told["picture"]).shape == (3, 32, 32)


@pytest.mark.parametrize("choices", [{}, {"batch_norm": True}, {"mlp_layers": 0}, {"head": "fc"}])
def test_the_layers_are_those_of_pixel_vectors(photo: np.ndarray, choices: dict[str, Any]) -> None:
    classifier = classifier_of(**choices)
    told, network = explanation_json(classifier, photo), network_json(classifier)
    blocks = [part for part in network["parts"] if part["kind"] == "block"]
    vectors = classifier.pixel_vectors(photo, 33, 21)
    assert [block["name"] for block in blocks] == [block["block"] for block in told["blocks"]] == [each.block for each in vectors]
    for described, block, each in zip(blocks, told["blocks"], vectors, strict=True):
        assert [layer["shape"] for layer in described["layers"]] == [layer["shape"] for layer in block["layers"]]
        for layer, (name, values) in zip(block["layers"], each.layers, strict=True):
            assert layer["layer"] == name
            at_pixel = unpacked(layer)[:, each.row, each.column]
            assert at_pixel == pytest.approx(values.numpy(), abs=(layer["high"] - layer["low"]) / 65535)


@pytest.mark.filterwarnings("ignore:torch predicts, for onnxruntime does not")
@pytest.mark.parametrize("head", [None, nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())])
def test_a_head_that_takes_no_means_has_no_class_maps(photo: np.ndarray, head: nn.Module | None) -> None:
    classifier = classifier_of(head="gap" if head else "fc")
    classifier.network.head = head or classifier.network.head
    told = explanation_json(classifier, photo)
    assert (told["class_maps"], told["means"], told["grid"]) == (None, None, None)
    assert told["label"] == classifier.predict(photo).label


def test_without_layers_it_is_small(photo: np.ndarray) -> None:
    assert "blocks" not in explanation_json(classifier_of(), photo, layers=False)


def test_the_parts_hold_every_parameter() -> None:
    classifier = classifier_of(batch_norm=True)
    network = network_json(classifier)
    assert sum(layer["num_parameters"] for part in network["parts"] for layer in part["layers"]) == network["num_parameters"]
    assert [layer["mlp"] for layer in network["parts"][0]["layers"]] == [False, True, True]
    assert network["parts"][0]["layers"][0]["with"] == ["norm", "relu"]
    assert [part["kind"] for part in network["parts"]] == ["block", "pool", "dropout", "block", "head"]


def test_a_record_of_ones_own_is_no_error() -> None:
    classifier = classifier_of()
    for data in ("my photos", ["a", "b"], {"name": ["a"]}, {}):
        classifier.metadata = {"data": data, "test_accuracy": "0.9"}
        assert network_json(classifier)["test_accuracy"] is None
        assert samples_json(classifier) == {"samples": []}
        assert without_places(classifier.metadata) == classifier.metadata
