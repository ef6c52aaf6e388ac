import json

import onnx
import pytest
import torch
from torch import nn

from torchnin import NiN, NiNConfig, Preprocessing
from torchnin.export.graph import build, describe

PREPROCESSING = Preprocessing(channels=1, height=28, width=28, mean=(0.3,), std=(0.4,))


@pytest.fixture(scope="module")
def network(tiny: NiNConfig) -> NiN:
    return NiN(tiny).train()


@pytest.fixture(scope="module")
def model(network: NiN) -> onnx.ModelProto:
    return build(network, PREPROCESSING, [f"class {n}" for n in range(10)], {"name": "tiny", "test_accuracy": 0.5, "nothing": None})


def test_preprocessing_stands_in_front_of_the_network(model: onnx.ModelProto) -> None:
    kinds = [node.op_type for node in model.graph.node]
    assert kinds[:7] == ["Cast", "Shape", "Concat", "Resize", "Mul", "Add", "Conv"]
    assert "BatchNormalization" not in kinds
    assert "Dropout" not in kinds
    assert (kinds.count("Conv"), kinds[-1]) == (6, "Softmax")


def test_height_width_and_number_of_the_pictures_are_open(model: onnx.ModelProto) -> None:
    (pictures,) = model.graph.input
    sides = [side.dim_param or side.dim_value for side in pictures.type.tensor_type.shape.dim]
    assert (pictures.name, pictures.type.tensor_type.elem_type, sides) == (
        "pictures",
        onnx.TensorProto.UINT8,
        ["batch", 1, "height", "width"],
    )
    assert [output.name for output in model.graph.output] == ["probabilities", "class_maps"]
    assert [output.type.tensor_type.shape.dim[0].dim_param for output in model.graph.output] == ["batch", "batch"]


def test_facts_are_text_or_json(model: onnx.ModelProto) -> None:
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    describe(twin, {"test_accuracy": 0.75, "sizes": [1, 2], "said": "so"})
    facts = {entry.key: entry.value for entry in twin.metadata_props}
    assert (facts["name"], facts["test_accuracy"], facts["sizes"], facts["said"]) == ("tiny", "0.75", "[1, 2]", "so")
    assert "nothing" not in facts
    assert json.loads(facts["network"])["num_classes"] == 10


def test_the_network_stays_as_it_was_and_gives_the_same_file_again(network: NiN, model: onnx.ModelProto) -> None:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    again = build(network, PREPROCESSING, [f"class {n}" for n in range(10)], {"name": "tiny", "test_accuracy": 0.5})
    assert network.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert again.SerializeToString(deterministic=True) == model.SerializeToString(deterministic=True)


def test_no_class_maps_are_promised_where_the_logits_are_not_their_means(tiny: NiNConfig) -> None:
    network = NiN(tiny).eval()
    network.head = nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten())
    model = build(network, PREPROCESSING, [f"class {n}" for n in range(10)], {})
    assert [output.name for output in model.graph.output] == ["probabilities"]
    assert "class_maps" not in model.doc_string
