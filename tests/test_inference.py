"""What computes predictions: torch, or onnxruntime where it is installed, with the same answers, and left where it cannot be trusted."""

import copy
import dataclasses
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import torchnin
from torchnin import onnx_network
from torchnin.models import FoldedNiN
from torchnin.onnx_network import Backend, OnnxNetwork

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def a_classifier(backend: Backend = "auto") -> torchnin.Classifier:
    torch.manual_seed(0)
    network = torchnin.create_model("nin_small")
    p = torchnin.Preprocessing(channels=1, height=28, width=28, mean=(0.3,), std=(0.25,))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)  # answers that differ
    with torch.no_grad():  # statistics of something, so that folding them is not nothing
        network(p(torch.from_numpy(pictures(8))))
    names = [f"class {number}" for number in range(network.num_classes)]
    return torchnin.Classifier(network, p, names, device="cpu", backend=backend)


def pictures(count: int = 5, channels: int = 1, side: int = 28) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, channels, side, side)).astype(np.uint8)


def test_predictions_are_those_of_torch() -> None:
    ours, torchs = a_classifier(), a_classifier("torch")
    assert (ours.backend, torchs.backend) == ("onnxruntime", "torch")
    for images in (pictures(), pictures(3, side=51), pictures(2, channels=3)):
        for found, expected in zip(ours.predict(images), torchs.predict(images), strict=True):
            assert found.label == expected.label
            assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-5)
    one = pictures()[0]
    assert ours.predict(one).probability == pytest.approx(torchs.predict(one).probability, abs=1e-5)


def test_changed_weights_are_seen() -> None:
    classifier = a_classifier()
    before = classifier.predict(pictures())
    with torch.no_grad():
        next(classifier.network.class_block.parameters()).mul_(-1)
    after, expected = (
        classifier.predict(pictures()),
        torchnin.Classifier(classifier.network, classifier.preprocessing, classifier.class_names, device="cpu", backend="torch").predict(
            pictures()
        ),
    )
    assert [each.probability for each in after] == pytest.approx([each.probability for each in expected], abs=1e-5)
    assert [each.probability for each in after] != pytest.approx([each.probability for each in before], abs=1e-3)


def test_weights_that_onnxruntime_cannot_compute_with_are_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = a_classifier()
    classifier.predict(pictures())
    with torch.no_grad():
        next(classifier.network.class_block.parameters()).mul_(-1)

    def broken(*_: object, **__: object) -> None:
        raise ImportError("no longer there")

    monkeypatch.setattr(onnx_network, "open_session", broken)
    with pytest.warns(UserWarning, match="torch predicts"):
        found = classifier.predict(pictures())
    monkeypatch.undo()
    alike = torchnin.Classifier(classifier.network, classifier.preprocessing, classifier.class_names, device="cpu", backend="torch")
    assert found == alike.predict(pictures())


def test_another_preprocessing_is_seen() -> None:
    classifier, torchs = a_classifier(), a_classifier("torch")
    before = classifier.predict(pictures())
    for each in (classifier, torchs):
        each.preprocessing = dataclasses.replace(each.preprocessing, mean=(0.9,), height=35)
    found = classifier.predict(pictures())
    assert [each.probability for each in found] == pytest.approx([each.probability for each in torchs.predict(pictures())], abs=1e-5)
    assert [each.probability for each in found] != pytest.approx([each.probability for each in before], abs=1e-3)


def test_as_many_threads_compute_as_torch_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_network, "_LITTLE_WORK", 0)
    classifier, threads = a_classifier(), torch.get_num_threads()
    expected = classifier.predict(pictures())
    try:
        for number in (3, 1, 2):
            torch.set_num_threads(number)
            found = classifier.predict(pictures())
            assert [each.probability for each in found] == pytest.approx([each.probability for each in expected], abs=1e-6)
            assert classifier._inference._onnx is not None
            assert classifier._inference._onnx._sessions[number].get_session_options().intra_op_num_threads == number
            assert len(classifier._inference._onnx._sessions) <= 2  # not one for every number that torch ever had
    finally:
        torch.set_num_threads(threads)


def test_little_work_is_one_thread_s() -> None:
    classifier, threads = a_classifier(), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        classifier.predict(pictures()[:1])
        assert classifier._inference._onnx is not None
        macs, _ = FoldedNiN(classifier.network).macs(classifier.preprocessing.height, classifier.preprocessing.width)
        few = onnx_network._LITTLE_WORK // macs
        for number, expected in ((1, {1}), (few, {1}), (few + 1, {1, 2})):
            classifier.predict([pictures()[0]] * number)
            assert set(classifier._inference._onnx._sessions) == expected
    finally:
        torch.set_num_threads(threads)


def test_a_classifier_that_has_predicted_can_be_copied_and_pickled() -> None:
    classifier = a_classifier()
    expected = classifier.predict(pictures())
    for twin in (copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
        assert twin.predict(pictures()) == expected
        assert twin.backend == "onnxruntime"


def test_a_backend_that_is_none() -> None:
    with pytest.raises(ValueError, match="'tensorrt'; accepted: 'auto', 'torch', 'onnxruntime'"):
        a_classifier("tensorrt")  # type: ignore[arg-type]


def test_without_onnxruntime_torch_predicts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_network, "_is_installed", lambda: False)
    assert a_classifier().backend == "torch"
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'torchnin\[onnx\]'"):
        a_classifier("onnxruntime")


def test_an_onnxruntime_that_is_broken_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ImportError("libc.so.6: version `GLIBC_2.99' not found")

    monkeypatch.setattr(onnx_network, "open_session", broken)
    classifier = a_classifier()
    with pytest.warns(UserWarning, match="torch predicts, for onnxruntime does not: libc"):
        found = classifier.predict(pictures())
    assert classifier.backend == "torch"
    assert found == a_classifier("torch").predict(pictures())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier.predict(pictures())  # said once


def test_an_onnxruntime_that_answers_otherwise_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    right = OnnxNetwork.__call__
    monkeypatch.setattr(OnnxNetwork, "__call__", lambda self, pixels: right(self, pixels) * 1.01)
    classifier = a_classifier()
    with pytest.warns(UserWarning, match="onnxruntime's logits differ by"):
        found = classifier.predict(pictures())
    assert found == a_classifier("torch").predict(pictures())


@pytest.mark.parametrize("exchange", ["activation", "pooling", "head"])
def test_layers_that_a_nin_is_not_built_of_are_torch_s(exchange: str) -> None:
    classifier = a_classifier()
    network = classifier.network
    if exchange == "activation":
        network.body[0][-1] = nn.LeakyReLU(0.3)
    elif exchange == "pooling":
        network.body[1] = nn.MaxPool2d(3, 2, padding=1)
    else:
        network.head[0] = nn.AdaptiveMaxPool2d(1)
    with pytest.warns(UserWarning, match="torch predicts, for onnxruntime does not: .* a NiN is"):
        found = classifier.predict(pictures(1)[0])
    with torch.no_grad():
        (expected,) = network.eval()(classifier.preprocessing(torch.from_numpy(pictures(1)))).softmax(1).tolist()
    assert [found.probabilities[name] for name in classifier.class_names] == pytest.approx(expected, abs=1e-6)


def test_another_window_of_the_pooling_is_onnxruntime_s_too() -> None:
    classifier = a_classifier()
    classifier.network.body[1] = nn.AvgPool2d(2)
    found, explained = classifier.predict(pictures(1)[0]), classifier.explain(pictures(1)[0])
    assert classifier.backend == "onnxruntime"
    assert [found.probabilities[name] for name in classifier.class_names] == pytest.approx(explained.probabilities.tolist(), abs=1e-5)


def test_where_its_memory_is_short_fewer_pictures_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Short:
        def __init__(self, session: Any) -> None:
            self.session = session

        def run(self, names: list[str], inputs: dict[str, np.ndarray]) -> Any:
            if len(next(iter(inputs.values()))) > 2:
                raise Exception("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer of size 1")
            return self.session.run(names, inputs)

    classifier = a_classifier()
    expected = classifier.predict(pictures())
    assert classifier._inference._onnx is not None
    session = classifier._inference._onnx._session
    monkeypatch.setattr(classifier._inference._onnx, "_session", lambda threads: Short(session(threads)))
    found = classifier.predict(pictures())
    assert [each.probability for each in found] == pytest.approx([each.probability for each in expected], abs=1e-6)
