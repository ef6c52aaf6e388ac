from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from torchnin import DatasetSplits, ExportedClassifier, ExportError, ImageDataset, Run
from torchnin.export.int8 import ACCEPTED_LOSS, Int8, calibration_pictures
from torchnin.export.write import _require_accuracy


def test_eight_bits_beside_the_float_file(trained: Run, exported: Path, few: DatasetSplits, tmp_path: Path) -> None:
    done = trained.classifier.export_onnx(tmp_path / "small.onnx", int8=few, accept_accuracy_loss=True)
    found = done.int8
    assert found is not None
    small, plain = ExportedClassifier(done.path), ExportedClassifier(exported)
    labels = [file.run(few.test.images).argmax(1) for file in (small, plain)]
    assert found.accuracy == pytest.approx((labels[0] == few.test.labels).mean())
    assert found.float_accuracy == pytest.approx((labels[1] == few.test.labels).mean())
    assert found.agreement == pytest.approx((labels[0] == labels[1]).mean())
    assert found.num_bytes == done.num_bytes == done.path.stat().st_size < found.float_num_bytes
    assert min(found.pictures_per_second, found.float_pictures_per_second) > 0
    assert 0 < found.largest_difference < 0.5
    assert (small.metadata["precision"], float(small.metadata["test_accuracy"])) == ("int8", found.accuracy)
    assert "test_accuracy_interval" not in small.metadata
    kinds = [node.op_type for node in onnx.load(done.path).graph.node]
    assert kinds.count("QuantizeLinear") > kinds.count("Conv") == 6
    for height, width in ((28, 28), (5, 90)):
        pictures = np.resize(few.test.images, (7, 1, height, width))
        assert small.run(pictures[:2]) == pytest.approx(small.run(pictures)[:2], abs=1e-6)
    said = str(done)
    assert "none of them a test picture" in said
    assert f"{found.accuracy:.4f}" in said


def test_half_a_point_is_accepted_and_no_picture_more() -> None:
    found = Int8(
        accuracy=0.895,
        float_accuracy=0.9,
        agreement=0.99,
        largest_difference=0.1,
        test_pictures=1000,
        calibration_pictures=512,
        num_bytes=1,
        float_num_bytes=4,
        pictures_per_second=2.0,
        float_pictures_per_second=1.0,
        batch_size=64,
    )
    assert found.loss > ACCEPTED_LOSS  # in floats
    _require_accuracy(found, accept=False)
    for accuracy in (0.894, float("nan")):
        with pytest.raises(ExportError, match=r"more than 0\.5 points lower"):
            _require_accuracy(replace(found, accuracy=accuracy), accept=False)


def test_it_is_refused_where_accuracy_falls(trained: Run, few: DatasetSplits, tmp_path: Path) -> None:
    # Ranges taken from black pictures alone fit nothing that a picture shows.
    black = ImageDataset(np.zeros_like(few.train.images), few.train.labels, few.class_names)
    data = replace(few, train=black)
    classifier, path = trained.classifier, tmp_path / "small.onnx"
    path.write_bytes(b"before: torchnin onnx 1")
    with pytest.raises(ExportError, match=r"more than 0\.5 points lower, so no file was written; --accept-accuracy-loss"):
        classifier.export_onnx(path, int8=data)
    assert path.read_bytes() == b"before: torchnin onnx 1"
    assert list(tmp_path.iterdir()) == [path]


def test_ranges_come_from_train_or_validation_pictures_in_the_shares_of_the_classes(few: DatasetSplits) -> None:
    assert calibration_pictures(few) is few.train
    many = ImageDataset(np.concatenate([few.train.images] * 4), np.concatenate([few.train.labels] * 4), few.class_names)
    chosen = calibration_pictures(replace(few, train=many))
    assert len(chosen) == pytest.approx(512, abs=10)
    assert chosen.class_counts == pytest.approx(np.array(many.class_counts) * 0.4, abs=1)
    assert calibration_pictures(replace(few, validation=few.train.select(np.arange(50)))).images.shape[0] == 50
