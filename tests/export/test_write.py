import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from torchnin import (
    BlockConfig,
    ClassBlockConfig,
    Classifier,
    DatasetSplits,
    ExportedClassifier,
    ExportError,
    NiN,
    NiNConfig,
    Preprocessing,
    Run,
)
from torchnin.export import export_onnx

PLAIN = NiNConfig(
    blocks=(BlockConfig(channels=(6, 4), kernel_size=3, padding=1), BlockConfig(channels=(8, 6), kernel_size=3, padding=1)),
    class_block=ClassBlockConfig(hidden=(5,)),
    in_channels=3,
    num_classes=4,
    image_size=20,
    mlp_layers=1,
)
BEFORE = b"what stood there before: torchnin onnx 1"
NAMES = ("a", "b", "c", "ein Umlaut: ä")


def classifier_of(config: NiNConfig, height: int = 20, width: int = 20, channels: int = 3) -> Classifier:
    torch.manual_seed(0)
    mean, std = (0.5, 0.3, 0.2)[:channels], (0.3, 0.2, 0.4)[:channels]
    return Classifier(NiN(config), Preprocessing(channels=channels, height=height, width=width, mean=mean, std=std), NAMES, device="cpu")


@pytest.mark.parametrize(
    "changes",
    [
        {"pool_rounding": "ceil", "mlp_layers": 0, "dropout_at": "every", "dropout_kind": "channel"},
        {"pool": "avg", "pool_rounding": "ceil", "class_map_relu": False, "mlp_layers": 2, "mlp_kernel_size": 3, "batch_norm": True},
    ],
    ids=["max", "avg"],
)
def test_every_kind_of_network_in_colour_and_not_square(changes: dict[str, object], tmp_path: Path) -> None:
    config = NiNConfig(**{**PLAIN.to_dict(), "blocks": PLAIN.blocks, "class_block": PLAIN.class_block, **changes})
    done = classifier_of(config, 21, 26).export_onnx(tmp_path / "deep" / "model.onnx")
    assert done.path == tmp_path / "deep" / "model.onnx"
    assert done.check.largest_difference < 1e-5
    assert done.num_bytes == done.path.stat().st_size
    assert ExportedClassifier(done.path).class_names == NAMES
    assert json.loads(json.dumps(done.to_dict()))["tensors"]["pictures"] == "uint8 (batch, 3, height, width)"


def test_names_that_are_no_utf8_travel_too(tmp_path: Path) -> None:
    classifier = classifier_of(PLAIN)
    names = (os.fsdecode(b"caf\xe9"), *NAMES[1:])
    facts = {"name": names[0], "data": {"name": names[0]}}
    done = Classifier(classifier.network, classifier.preprocessing, names, metadata=facts).export_onnx(tmp_path / "model.onnx")
    assert ExportedClassifier(done.path).class_names == names


def test_a_fully_connected_head_gives_probabilities_alone(tmp_path: Path) -> None:
    config = NiNConfig(**{**PLAIN.to_dict(), "blocks": PLAIN.blocks, "class_block": PLAIN.class_block, "head": "fc"})
    done = classifier_of(config).export_onnx(tmp_path / "model.onnx")
    assert list(done.tensors) == ["pictures", "probabilities"]
    assert done.check.largest_map_difference is None
    assert done.check.largest_difference < 1e-5
    with pytest.raises(ValueError, match="fully connected head"):
        ExportedClassifier(done.path).class_maps(np.zeros((1, 3, 20, 20), dtype=np.uint8))


def test_a_file_that_answers_otherwise_is_not_written(trained: Run, tmp_path: Path) -> None:
    classifier, path = trained.classifier, tmp_path / "model.onnx"
    other = Classifier(NiN(classifier.network.config), classifier.preprocessing, classifier.class_names, device="cpu")
    arguments = (classifier.network, classifier.preprocessing, classifier.class_names, path, other.predict)
    path.write_bytes(BEFORE)
    with pytest.raises(ExportError, match="answers otherwise than predict: a probability differs"):
        export_onnx(*arguments, facts={})
    assert path.read_bytes() == BEFORE
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_said_before_the_work(trained: Run, few: DatasetSplits, tmp_path: Path) -> None:
    classifier = trained.classifier
    with pytest.raises(ValueError, match=r"ends in '\.pt'; an exported classifier's name ends in \.onnx"):
        classifier.export_onnx(tmp_path / "model.pt")
    (tmp_path / "theirs.onnx").write_bytes(b"another model")
    with pytest.raises(ValueError, match="holds something else than an exported classifier; nothing there is touched"):
        classifier.export_onnx(tmp_path / "theirs.onnx")
    assert (tmp_path / "theirs.onnx").read_bytes() == b"another model"
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        classifier.export_onnx(tmp_path / "folder.onnx")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        classifier.export_onnx(tmp_path / "file" / "model.onnx")
    with pytest.raises(ValueError, match="accept_accuracy_loss is about 8 bits"):
        classifier.export_onnx(tmp_path / "model.onnx", accept_accuracy_loss=True)


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere, and Windows has no such modes")
def test_a_folder_that_cannot_be_written_to(trained: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match="choose another one"):
        trained.classifier.export_onnx(tmp_path / "model.onnx")
