import contextlib
import copy
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from PIL import Image

import torchnin
from torchnin import DataError, DatasetSplits, ExportedClassifier, Run


def test_it_answers_as_the_classifier_does(exported: Path, trained: Run, few: DatasetSplits, tmp_path: Path) -> None:
    path = tmp_path / "1.png"
    Image.fromarray(few.test.images[1, 0]).save(path)
    large = Image.fromarray(few.test.images[2, 0]).resize((300, 401)).convert("RGB")
    pictures = [path, few.test.images[0], Image.open(path).resize((17, 40)), path.read_bytes(), large, few.test.images[3], large]
    classifier, file = trained.classifier, ExportedClassifier(exported)
    for ours, theirs in zip(classifier.predict(pictures), file.predict(pictures), strict=True):
        assert ours.label == theirs.label
        assert theirs.probabilities == pytest.approx(ours.probabilities, abs=1e-5)
        assert sum(theirs.probabilities.values()) == pytest.approx(1)
    assert file.predict(path).label == classifier.predict(path).label
    assert repr(file) == "ExportedClassifier(10 classes, 1x28x28)"


def test_the_means_of_its_class_maps_are_the_logits(exported: Path, few: DatasetSplits) -> None:
    file = ExportedClassifier(exported, threads=1)
    logits = file.class_maps(few.test.images[:9]).mean((2, 3))
    shares = np.exp(logits - logits.max(1, keepdims=True))
    assert file.run(few.test.images[:9]) == pytest.approx(shares / shares.sum(1, keepdims=True), abs=1e-6)


def test_any_number_of_pictures_of_any_size(exported: Path, few: DatasetSplits) -> None:
    file = ExportedClassifier(exported)
    for count, height, width in ((1, 28, 28), (3, 1, 1), (100, 28, 28), (2, 7, 500)):
        pictures = np.resize(few.test.images, (count, 1, height, width))
        together = file.run(pictures)
        assert together.shape == (count, 10)
        assert file.run(pictures[:1])[0] == pytest.approx(together[0], abs=1e-6)


def test_a_batch_in_any_memory_is_its_pictures_one_by_one(exported: Path, few: DatasetSplits) -> None:
    file, images = ExportedClassifier(exported), np.array(few.test.images[:6])
    one_by_one = [file.predict(image).probabilities for image in images]
    for batch in (images, list(images), images[::-1].copy()[::-1], np.asfortranarray(images), images.transpose(0, 2, 3, 1)):
        for found, expected in zip(file.predict(batch), one_by_one, strict=True):
            assert found.probabilities == pytest.approx(expected, abs=1e-6)
    assert file.predict(images[:0]) == []


@pytest.mark.parametrize(
    "given", [np.zeros((1, 28, 28), np.uint8), np.zeros((1, 3, 28, 28), np.uint8), np.zeros((1, 1, 28, 28)), [[[[0]]]]]
)
def test_run_names_what_is_no_batch_of_pixels(given: Any, exported: Path) -> None:
    file = ExportedClassifier(exported)
    for run in (file.run, file.class_maps):
        with pytest.raises(ValueError, match=r"pictures is .*; expected uint8 \(n, 1, h, w\), 0 to 255"):
            run(given)


def test_it_can_be_copied_and_pickled(exported: Path, few: DatasetSplits, tmp_path: Path) -> None:
    (tmp_path / "gone.onnx").write_bytes(exported.read_bytes())
    file = ExportedClassifier(tmp_path / "gone.onnx", threads=1)
    (tmp_path / "gone.onnx").unlink()
    images = few.test.images[:4]
    for twin in (copy.deepcopy(file), pickle.loads(pickle.dumps(file))):
        assert twin.predict(images) == file.predict(images)
        assert twin.metadata == file.metadata


def test_what_the_metadata_say(exported: Path, trained: Run) -> None:
    metadata = ExportedClassifier(exported).metadata
    assert tuple(json.loads(metadata["class_names"])) == trained.classifier.class_names
    assert json.loads(metadata["preprocessing"]) == trained.classifier.preprocessing.to_dict()
    assert float(metadata["test_accuracy"]) == trained.result["test_accuracy"]
    assert (metadata["torchnin"], metadata["precision"], metadata["name"]) == (torchnin.__version__, "float32", "tiny")


def test_text_that_is_no_text_is_refused_and_nothing_printed(exported: Path, capfd: pytest.CaptureFixture[str]) -> None:
    whole = exported.read_bytes()
    refused = 0
    for place in [*range(0, 400, 40), *(whole.rindex(word) for word in (b"class_names", b"torchnin onnx 1", b"probabilities"))]:
        with contextlib.suppress(DataError):
            ExportedClassifier(whole[:place] + b"\xff" + whole[place + 1 :])
            continue
        refused += 1
    assert refused > 3
    assert capfd.readouterr() == ("", "")


def test_what_is_no_exported_classifier_is_named(exported: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="there is no such file"):
        ExportedClassifier(tmp_path / "missing.onnx")
    with pytest.raises(ValueError, match="is a folder"):
        ExportedClassifier(tmp_path)
    (tmp_path / "text.onnx").write_text("hello")
    (tmp_path / "cut.onnx").write_bytes(exported.read_bytes()[:9000])
    (tmp_path / "empty.onnx").touch()
    for name in ("text", "cut", "empty"):
        with pytest.raises(DataError, match=rf"{name}\.onnx: expected an exported classifier"):
            ExportedClassifier(tmp_path / f"{name}.onnx")
    model = onnx.load(exported)
    for entry in model.metadata_props:
        if entry.key == "class_names":
            entry.value = "shirts"
    onnx.save(model, tmp_path / "names.onnx")
    with pytest.raises(DataError, match="metadata are not those"):
        ExportedClassifier(tmp_path / "names.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(ValueError, match="not one that nin export wrote"):
        ExportedClassifier(tmp_path / "foreign.onnx")


def test_other_verbs_say_that_they_need_the_classifier(exported: Path) -> None:
    with pytest.raises(ValueError, match="is an exported file, which nin predict"):
        torchnin.load(exported)


def test_without_onnxruntime_one_sentence_says_what_to_install(exported: Path) -> None:
    code = f"import sys; sys.modules['onnxruntime'] = None; import torchnin; torchnin.ExportedClassifier({str(exported)!r})"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert "pip install 'torchnin[onnx]'" in ran.stderr.splitlines()[-1]


def test_no_folder_of_this_machine_stands_in_the_file(exported: Path) -> None:
    content = exported.read_bytes()
    for folder in (Path(torchnin.__file__).parents[1], Path(onnxruntime.__file__).parents[1], Path.cwd(), exported.parent):
        assert os.fsencode(folder) not in content


def changed(exported: Path, change: Callable[[onnx.ModelProto], object]) -> bytes:
    model = onnx.load(exported)
    change(model)
    return model.SerializeToString()


def test_a_file_reads_no_other_file(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX lets a tensor name a file that its numbers lie in; here they are in the file itself, or nowhere."""
    monkeypatch.chdir(tmp_path)

    def elsewhere(model: onnx.ModelProto) -> None:
        tensor = model.graph.initializer[0]
        (tmp_path / "numbers.bin").write_bytes(tensor.raw_data)
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
        entry = tensor.external_data.add()
        entry.key, entry.value = "location", "numbers.bin"

    with pytest.raises(DataError, match=r"expected an exported classifier, found what onnxruntime does not read: .*numbers"):
        ExportedClassifier(changed(exported, elsewhere))


def test_a_graph_that_does_not_compute_ends_in_the_named_error(
    exported: Path, few: DatasetSplits, capfd: pytest.CaptureFixture[str]
) -> None:
    """Found by fuzzing: onnxruntime's own exception came through, and its log beside it."""

    def broken(model: onnx.ModelProto) -> None:
        size = next(tensor for tensor in model.graph.initializer if tensor.name == "size")
        size.raw_data = np.array([-3, 28], dtype=np.int64).tobytes()

    with pytest.raises(DataError, match="onnxruntime could not run it on pictures of shape"):
        ExportedClassifier(changed(exported, broken)).predict(few.test.images[0])
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    ("key", "value"), [("class_names", "[]"), ("class_names", '"abc"'), ("preprocessing", '{"channels": 1, "height": 0, "width": 28}')]
)
def test_metadata_that_describe_nothing(exported: Path, key: str, value: str) -> None:
    def told(model: onnx.ModelProto) -> None:
        next(entry for entry in model.metadata_props if entry.key == key).value = value

    with pytest.raises(DataError, match="its metadata are not those of an exported classifier"):
        ExportedClassifier(changed(exported, told))
