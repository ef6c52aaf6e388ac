"""The folded network by onnxruntime: the same answers, taken where it is installed, and left where it cannot be trusted."""

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
VARIANTS: dict[str, dict[str, Any]] = {
    "as published": {},
    "mean pooling": {"pool": "avg"},
    "rounded down": {"pool_rounding": "floor"},
    "mean pooling, rounded down": {"pool": "avg", "pool_rounding": "floor"},
    "fully connected": {"head": "fc"},
    "3x3 MLP": {"mlp_kernel_size": 3},
    "without normalisation": {"batch_norm": False},
}


def a_network(name: str = "nin_small", **changes: Any) -> torchnin.NiN:
    config = dataclasses.replace(torchnin.model_entry(name).config, **changes)
    torch.manual_seed(0)
    network = torchnin.NiN(config)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
            assert module.bias is None or nn.init.uniform_(module.bias, -0.2, 0.2) is not None
    p = its_preprocessing(network)
    with torch.no_grad():  # statistics of something, so that folding them is not nothing
        network(p(torch.randint(0, 256, (8, p.channels, p.height, p.width), dtype=torch.uint8)))
    return network.eval()


def its_preprocessing(network: torchnin.NiN, size: int | None = None) -> torchnin.Preprocessing:
    config = network.config
    side = size or min(config.image_size, 97 if config.head == "gap" else 1000)
    grey = config.in_channels == 1
    means, stds = ((0.3,), (0.25,)) if grey else ((0.3, 0.4, 0.5), (0.25, 0.2, 0.3))
    return torchnin.Preprocessing(channels=config.in_channels, height=side, width=side, mean=means, std=stds)


def a_classifier(backend: Backend = "auto") -> torchnin.Classifier:
    network = a_network()
    names = [f"class {number}" for number in range(network.num_classes)]
    return torchnin.Classifier(network, its_preprocessing(network), names, device="cpu", backend=backend)


def pictures(count: int = 5, channels: int = 1, side: int = 28) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, channels, side, side)).astype(np.uint8)


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        (name, variant)
        for name in ("nin_d2l", "nin_cifar10", "nin_imagenet", "nin_mnist", "nin_small")
        for variant in VARIANTS
        if variant != "fully connected" or name not in ("nin_d2l", "nin_imagenet")  # which would be made for 224 pixels
    ],
)
def test_it_gives_the_folded_network_s_logits(name: str, variant: str) -> None:
    network = a_network(name, **VARIANTS[variant])
    p, folded = its_preprocessing(network), FoldedNiN(network)
    pixels = torch.rand(3, p.channels, p.height, p.width) * 255
    with torch.inference_mode():
        expected, found = folded(p.normalise(pixels)), OnnxNetwork(folded, p)(pixels)
    scale = expected.abs().max()
    assert scale > 0.01
    assert torch.allclose(found / scale, expected / scale, rtol=0, atol=2e-5)


@pytest.mark.parametrize("side", [15, 16, 17, 29, 40])
def test_sizes_at_which_pooling_windows_overhang(side: int) -> None:
    network = a_network(pool="avg")
    p, folded = its_preprocessing(network, side), FoldedNiN(network)
    pixels = torch.rand(2, 1, side, side) * 255
    with torch.inference_mode():
        assert torch.allclose(OnnxNetwork(folded, p)(pixels), folded(p.normalise(pixels)), rtol=1e-4, atol=1e-5)


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
            assert classifier._onnx is not None
            assert classifier._onnx._sessions[number].get_session_options().intra_op_num_threads == number
            assert len(classifier._onnx._sessions) <= 2  # not one for every number that torch ever had
    finally:
        torch.set_num_threads(threads)


def test_little_work_is_one_thread_s() -> None:
    classifier, threads = a_classifier(), torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        classifier.predict(pictures()[:1])
        assert classifier._onnx is not None
        macs, _ = FoldedNiN(classifier.network).macs(classifier.preprocessing.height, classifier.preprocessing.width)
        few = onnx_network._LITTLE_WORK // macs
        for number, expected in ((1, {1}), (few, {1}), (few + 1, {1, 2})):
            classifier.predict([pictures()[0]] * number)
            assert set(classifier._onnx._sessions) == expected
    finally:
        torch.set_num_threads(threads)


def test_a_classifier_that_has_predicted_can_be_copied_and_pickled() -> None:
    classifier = a_classifier()
    expected = classifier.predict(pictures())
    for twin in (copy.deepcopy(classifier), pickle.loads(pickle.dumps(classifier))):
        assert twin.predict(pictures()) == expected
        assert twin.backend == "onnxruntime"


def test_large_convolutions_stay_with_torch_for_several_pictures() -> None:
    folded, small = FoldedNiN(a_network("nin_d2l")), FoldedNiN(a_network())
    large = OnnxNetwork(folded, its_preprocessing(a_network("nin_d2l"), 224))
    assert [large.is_faster(count) for count in (1, 2, 64)] == [True, False, False]
    assert all(OnnxNetwork(small, its_preprocessing(a_network())).is_faster(count) for count in (1, 2, 1024))


def test_multiply_adds_are_counted_as_the_layer_table_does() -> None:
    network = a_network("nin_d2l")
    rows = [row for row in torchnin.summarize(network, (1, 1, 224, 224)).rows if row.num_macs > 100_000_000]
    assert FoldedNiN(network).macs(224, 224)[1] == sum(row.num_macs for row in rows)


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
    explained = classifier.explain(pictures(1)[0])
    assert [found.probabilities[name] for name in classifier.class_names] == pytest.approx(explained.probabilities.tolist(), abs=1e-6)


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
    assert classifier._onnx is not None
    session = classifier._onnx._session
    monkeypatch.setattr(classifier._onnx, "_session", lambda threads: Short(session(threads)))
    found = classifier.predict(pictures())
    assert [each.probability for each in found] == pytest.approx([each.probability for each in expected], abs=1e-6)
