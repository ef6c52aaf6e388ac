import dataclasses
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from torchnin import (
    Classifier,
    DataError,
    DatasetSplits,
    NiN,
    NiNConfig,
    Preprocessing,
    Run,
    create_model,
    from_notebook,
    load,
    load_dataset,
    named_recipe,
    onnx_network,
    summarize,
)
from torchnin.models import FoldedNiN


@pytest.fixture(scope="module")
def classifier(trained: Run) -> Classifier:
    return load(trained.path)


def test_saved_and_loaded_it_answers_with_the_same_bits(classifier: Classifier, few: DatasetSplits, tmp_path: Path) -> None:
    assert classifier.save(tmp_path / "deep" / "saved") == tmp_path / "deep" / "saved"
    again = load(tmp_path / "deep" / "saved")
    pixels = torch.from_numpy(few.test.images)
    assert torch.equal(again.logits(pixels), classifier.logits(pixels))
    assert (again.preprocessing, again.class_names, again.metadata) == (
        *(classifier.preprocessing, classifier.class_names, classifier.metadata),
    )
    assert {path.name for path in (tmp_path / "deep" / "saved").iterdir()} == {"model.safetensors", "config.json"}
    assert "10 classes, 1x28x28, cpu" in repr(again)


def test_a_loaded_classifier_looks_at_its_weights_from_when_its_network_is_asked_for(
    trained: Run, few: DatasetSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[object] = []
    look = FoldedNiN.is_current
    monkeypatch.setattr(FoldedNiN, "is_current", lambda folded, network: looks.append(network) or look(folded, network))
    loaded, picture = load(trained.path), few.test.images[0]
    before = loaded.predict(picture)
    loaded.explain(picture)
    loaded.evaluate(few.test)
    assert loaded.summarize().num_parameters == sum(tensor.numel() for tensor in NiN(loaded.config).parameters())
    assert loaded.predict(picture) == before
    assert not looks
    with torch.no_grad():
        next(loaded.network.class_block.parameters()).mul_(-1)
    assert loaded.predict(picture) != before
    assert looks == [loaded.network]


def test_every_form_of_a_picture_gives_the_same_answer(classifier: Classifier, few: DatasetSplits, tmp_path: Path) -> None:
    array = few.test.images[3]
    path = tmp_path / "3.png"
    Image.fromarray(array[0]).save(path)
    expected = classifier.predict(path)
    forms: list[Any] = [str(path), path.read_bytes(), Image.open(path), array, array[0], array[0][:, :, None], torch.from_numpy(array)]
    for form in forms:
        assert classifier.predict(form) == expected
    for among_others in classifier.predict(forms):
        assert_same(among_others, expected)
    assert expected.label == next(iter(expected.probabilities))
    assert expected.probability == max(expected.probabilities.values())
    assert sum(expected.probabilities.values()) == pytest.approx(1)
    assert set(expected.probabilities) == set(few.class_names)


def assert_same(found: Any, expected: Any) -> None:
    """Alone or among others, a picture has the same answer; the sums behind it may be taken in another order."""
    assert found.label == expected.label
    assert found.probabilities == pytest.approx(expected.probabilities, abs=1e-6)


def test_a_batch_is_many_pictures_in_order(classifier: Classifier, few: DatasetSplits) -> None:
    for batch in (few.test.images[:7], torch.from_numpy(few.test.images[:7]), list(few.test.images[:7]), iter(few.test.images[:7])):
        many = classifier.predict(batch)
        assert [prediction.label for prediction in many] == [classifier.predict(picture).label for picture in few.test.images[:7]]
    assert classifier.predict([]) == []


def test_a_batch_in_any_memory_is_its_pictures_one_by_one(classifier: Classifier, few: DatasetSplits) -> None:
    images = np.array(few.test.images[:6])
    frozen = images.copy()
    frozen.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one_by_one = [classifier.predict(image) for image in images]
        for batch in (images, frozen, torch.from_numpy(images), list(images), images[::-1].copy()[::-1], np.asfortranarray(images)):
            for found, expected in zip(classifier.predict(batch), one_by_one, strict=True):
                assert_same(found, expected)
        assert_same(classifier.predict(images[:, :, ::-1])[3], classifier.predict(images[3, :, ::-1]))
        assert_same(classifier.predict(np.ascontiguousarray(images.transpose(0, 2, 3, 1)))[3], one_by_one[3])
        assert classifier.predict(images[:0]) == classifier.predict(torch.from_numpy(images[:0])) == []
    with pytest.raises(ValueError, match="expected an array of uint8"):
        classifier.predict(images.astype(np.float32))


@pytest.mark.parametrize("backend", ["torch", "auto"])
@pytest.mark.parametrize("switch", [lambda: torch.device("meta"), lambda: torch.autocast("cpu", torch.bfloat16)])
def test_what_the_caller_has_switched_to_changes_no_answer(
    switch: Callable[[], Any], backend: onnx_network.Backend, trained: Run, few: DatasetSplits, tmp_path: Path
) -> None:
    def answers() -> list[Any]:
        found, picture = load(trained.path, device="cpu", backend=backend), few.test.images[0]
        explained = found.explain(picture)
        explained.save(tmp_path / "maps.png")
        maps, pixel = found.feature_maps(picture)[0][1], found.pixel_vectors(picture, 3, 3)[0].layers[0][1]
        looked = (explained.logits, explained.upsampled(0), maps, pixel)
        return [found.predict(picture), found.evaluate(few.test).to_dict(), *(values.tolist() for values in looked)]

    expected = answers()
    with switch():
        assert answers() == expected


def test_pictures_of_mixed_sizes_keep_their_order(classifier: Classifier, few: DatasetSplits) -> None:
    sizes = [(28, 28), (28, 28), (56, 40), (28, 28), (5, 90), (56, 40)]
    pictures = [Image.fromarray(few.test.images[n, 0]).resize(size) for n, size in enumerate(sizes)]
    many = classifier.predict(pictures)
    for picture, prediction in zip(pictures, many, strict=True):
        alone = classifier.predict(picture)
        assert prediction.label == alone.label
        assert prediction.probability == pytest.approx(alone.probability, abs=1e-5)


def test_colour_becomes_luma(classifier: Classifier, few: DatasetSplits) -> None:
    grey = Image.fromarray(few.test.images[0, 0])
    assert classifier.predict(grey.convert("RGB")) == classifier.predict(grey)
    colour = Image.merge("RGB", [Image.fromarray(few.test.images[n, 0]) for n in range(3)])
    assert classifier.predict(colour) == classifier.predict(colour.convert("L"))


def test_grey_is_repeated_for_a_network_of_colours(tiny: NiNConfig, few: DatasetSplits) -> None:
    from dataclasses import replace

    p = Preprocessing(channels=3, height=28, width=28, mean=(0.5,) * 3, std=(0.2,) * 3)
    colours = Classifier(NiN(replace(tiny, in_channels=3)), p, few.class_names)
    grey = Image.fromarray(few.test.images[0, 0])
    assert colours.predict(grey) == colours.predict(np.repeat(few.test.images[0], 3, axis=0))


def test_no_more_pictures_are_evaluated_at_once_than_pay(
    classifier: Classifier, few: DatasetSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    logits = classifier.logits

    def counted(pictures: torch.Tensor) -> torch.Tensor:
        seen.append(len(pictures))
        return logits(pictures)

    monkeypatch.setattr(classifier, "logits", counted)
    many = few.test.select(np.arange(600) % len(few.test))
    assert classifier.evaluate(many).num_pictures == sum(seen) == 600
    assert max(seen) == 256
    # A network of larger pictures takes as few as hold 32 of 224 pixels, however small the pictures are that it is given.
    seen.clear()
    monkeypatch.setattr(classifier, "preprocessing", dataclasses.replace(classifier.preprocessing, height=224, width=224))
    classifier.evaluate(many)
    assert max(seen) == 32


def test_evaluate_is_what_predict_says(classifier: Classifier, few: DatasetSplits) -> None:
    report = classifier.evaluate(few.test)
    predictions = classifier.predict(few.test.images)
    labels = [few.class_names[label] for label in few.test.labels]
    assert report.accuracy == sum(p.label == label for p, label in zip(predictions, labels, strict=True)) / len(labels)
    loss = -np.mean([np.log(p.probabilities[label]) for p, label in zip(predictions, labels, strict=True)])
    assert report.loss == pytest.approx(loss, abs=1e-5)
    assert report.num_pictures == len(few.test)
    names = [few.class_names[label] for label in few.test.labels]
    for arrays in ((few.test.images, few.test.labels), (torch.tensor(few.test.images), names)):
        assert classifier.evaluate(arrays).to_dict() == report.to_dict()
    with pytest.raises(TypeError, match="expected an ImageDataset, such as load_dataset"):
        classifier.evaluate(few)  # type: ignore[arg-type]


def test_predict_evaluate_and_explain_are_one_network(tiny: NiNConfig, few: DatasetSplits) -> None:
    p = Preprocessing(channels=1, height=28, width=28, mean=(0.3,), std=(0.2,))
    one = Classifier(NiN(tiny), p, few.class_names, device="cpu")
    for training in range(2):  # and they stay one where the network goes on learning
        with torch.no_grad():
            one.network.train()(p(torch.from_numpy(few.train.images[:100])))
        one.network.eval()
        pixels = torch.from_numpy(few.test.images)
        with torch.no_grad():
            plain = one.network(p(pixels))
        assert (one.logits(pixels) - plain).abs().max() <= 5e-6 * plain.abs().max(), training
        picture = few.test.images[7]
        explained = dict(zip(few.class_names, one.explain(picture).probabilities.tolist(), strict=True))
        assert one.predict(picture).probabilities == pytest.approx(explained, abs=1e-6)
        assert one.evaluate(few.test).predictions.tolist() == plain.argmax(1).tolist()


@pytest.mark.parametrize("activation", [nn.LeakyReLU, nn.SiLU])
def test_so_they_are_with_another_activation(tiny: NiNConfig, few: DatasetSplits, activation: type[nn.Module]) -> None:
    network = NiN(tiny)
    network.body[0][-1] = activation()
    p = Preprocessing(channels=1, height=28, width=28, mean=(0.3,), std=(0.2,))
    one = Classifier(network, p, few.class_names, device="cpu", backend="torch")
    explained = one.explain(few.test.images[7])
    with torch.no_grad():
        plain = network(p(torch.from_numpy(few.test.images[7:8])))[0]
    assert torch.equal(explained.logits, plain)
    found = one.predict(few.test.images[7]).probabilities
    assert [found[name] for name in few.class_names] == pytest.approx(explained.probabilities.tolist(), abs=1e-6)


def test_the_maps_of_all_layers_lead_to_the_logits(classifier: Classifier, few: DatasetSplits) -> None:
    picture = few.test.images[7]
    blocks, explained = classifier.block_maps(picture), classifier.explain(picture)
    assert [(part.block, part.layers[-1][1].shape) for part in blocks] == [
        (name, maps.shape) for name, maps in classifier.feature_maps(picture)
    ]
    class_maps = blocks[-1].layers[-1][1]
    assert torch.equal(class_maps, explained.class_maps)
    assert torch.equal(classifier.logits_of_maps(class_maps), explained.logits)
    large = Image.fromarray(picture[0]).resize((300, 300))
    decoded = classifier.block_maps_decoded(classifier.decode(large))
    assert torch.equal(decoded[-1].layers[-1][1], classifier.block_maps(large)[-1].layers[-1][1])
    assert classifier.block_maps(large, resize=False)[-1].grid.picture_size == (300, 300)


def test_what_is_decided_when_it_is_made_stays(classifier: Classifier) -> None:
    assert classifier.device == classifier.choice.device == torch.device("cpu")
    for name in ("backend", "device"):
        with pytest.raises(AttributeError):
            setattr(classifier, name, "torch")


def test_pictures_that_the_network_cannot_take_are_told_at_once(tiny: NiNConfig, few: DatasetSplits) -> None:
    for config, side, said in (
        (dataclasses.replace(tiny, head="fc"), 56, "fully connected head takes class maps of 2x2"),
        (tiny, 4, "too small for this network"),
    ):
        p = Preprocessing(channels=1, height=side, width=side, mean=(0.3,), std=(0.2,))
        with pytest.raises(ValueError, match=said):
            Classifier(NiN(config), p, few.class_names)


def test_classes_are_matched_by_name(classifier: Classifier, few: DatasetSplits) -> None:
    turned = few.test.with_class_names(tuple(reversed(few.class_names)))
    assert classifier.evaluate(turned).accuracy == classifier.evaluate(few.test).accuracy
    from torchnin import ImageDataset

    other = ImageDataset(few.test.images, few.test.labels, (*few.class_names[:9], "Hat"))
    with pytest.raises(DataError, match="'Hat'"):
        classifier.evaluate(other)
    with pytest.raises(DataError, match="3 channels, the classifier takes 1; load it with channels=1"):
        classifier.evaluate(ImageDataset(few.test.images.repeat(3, axis=1), few.test.labels, few.class_names))


def test_a_picture_that_does_not_decode_is_named(classifier: Classifier, few: DatasetSplits, tmp_path: Path) -> None:
    good, empty = tmp_path / "good.png", tmp_path / "empty.png"
    Image.fromarray(few.test.images[0, 0]).save(good)
    empty.touch()
    with pytest.raises(DataError, match=r"empty\.png: expected a picture, found 0 bytes"):
        classifier.predict([good, empty])
    answers = list(classifier.predict_or_error([empty, good, tmp_path / "missing.png", good]))
    assert [isinstance(answer, DataError) for answer in answers] == [True, False, True, False]
    assert answers[1] == answers[3]
    assert_same(answers[1], classifier.predict(good))
    with pytest.raises(ValueError, match="found dtype float32"):
        classifier.predict(np.zeros((28, 28), dtype=np.float32))


def test_weights_of_another_network_are_refused(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    config["network"]["blocks"][0]["channels"] = [9, 8]
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(DataError, match=r"does not hold the weights of config\.json's network"):
        load(saved)


@pytest.mark.parametrize(
    "change",
    [
        lambda config: {},
        lambda config: [],
        lambda config: {**config, "network": {**config["network"], "blocks": 3}},
        lambda config: {**config, "network": {**config["network"], "dropout": 3}},
        lambda config: {**config, "preprocessing": {}},
        lambda config: {**config, "class_names": config["class_names"][:9]},
        lambda config: {**config, "class_names": None},
        lambda config: {**config, "preprocessing": {**config["preprocessing"], "channels": 3}},
    ],
)
def test_a_description_that_fits_nothing_is_refused(change: Callable[[Any], Any], saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps(change(config)))
    with pytest.raises(DataError, match=r"config\.json"):
        load(saved)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_a_network_in_another_dtype_is_refused(tiny: NiNConfig, few: DatasetSplits, dtype: torch.dtype) -> None:
    p = Preprocessing(channels=1, height=28, width=28, mean=(0.3,), std=(0.2,))
    with pytest.raises(ValueError, match=rf"the network is in {dtype}; a classifier computes in float32: give network\.float\(\)"):
        Classifier(NiN(tiny).to(dtype), p, few.class_names)


def test_a_device_or_backend_that_is_none_is_not_blamed_on_the_files(trained: Run) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"device": "abacus"}, "^'abacus' is no device"),
        ({"backend": "abacus"}, "^backend is 'abacus'; accepted"),
    ]
    for choices, message in wrong:
        with pytest.raises(ValueError, match=message) as caught:
            load(trained.path, **choices)
        assert not isinstance(caught.value, DataError)


def test_parts_that_contradict_each_other_are_refused(tiny: NiNConfig, classifier: Classifier, few: DatasetSplits) -> None:
    with pytest.raises(ValueError, match="9 class names for a network of 10 classes"):
        Classifier(NiN(tiny), classifier.preprocessing, few.class_names[:9])
    colour = Preprocessing(channels=3, height=28, width=28, mean=(0.0,) * 3, std=(1.0,) * 3)
    with pytest.raises(ValueError, match="the preprocessing gives 3 channels; the network takes 1"):
        Classifier(NiN(tiny), colour, few.class_names)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_a_process_forked_after_a_prediction_predicts_too(trained: Run, backend: str) -> None:
    """Threads are not forked along, and who computes with several in such a process waits for the others for ever."""
    code = (
        "import multiprocessing, sys, numpy, torch, torchnin\n"
        "from torchnin import onnx_network\n"
        "torch.set_num_threads(2)\n"
        "onnx_network._LITTLE_WORK = int(sys.argv[3])\n"
        "classifier, data = torchnin.load(sys.argv[1], backend=sys.argv[2]), torchnin.load_dataset('fashion-mnist-sample')\n"
        "def all_of_it(_):\n"
        "    classifier.explain(data.test.images[0])\n"
        "    large = classifier.predict(numpy.zeros((900, 900), numpy.uint8))\n"
        "    found = [classifier.predict(data.test.images[0]), large, *classifier.predict(data.test.images)]\n"
        "    return [each.probability for each in found], classifier.evaluate(data.test).accuracy\n"
        "before = all_of_it(0)\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    for after in pool.map(all_of_it, range(2)):\n"
        "        assert numpy.allclose(before[0], after[0], atol=1e-4) and abs(after[1] - before[1]) < 0.01\n"
        "print('done')\n"
    )
    for little in (0, onnx_network._LITTLE_WORK):
        command = [sys.executable, "-c", code, str(trained.path), backend, str(little)]
        assert subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout == "done\n"


def test_what_is_of_another_type_is_told_by_the_name_of_the_argument(classifier: Classifier, tmp_path: Path) -> None:
    network, preprocessing, names = classifier.network, classifier.preprocessing, classifier.class_names
    wrong: tuple[tuple[Callable[[Any], Any], Any, str], ...] = (
        (classifier.predict, 5, "pictures is of type int; accepted: a path"),
        (classifier.predict, [5], "a picture is a path, .* and not of type int"),
        (classifier.save, None, "folder is of type NoneType"),
        (load, 3, "source is of type int"),
        (lambda value: Classifier(value, preprocessing, names), "nin_small", "network is of type str; expected a NiN"),
        (lambda value: Classifier(network, value, names), {}, "preprocessing is of type dict; expected a Preprocessing"),
        (lambda value: Classifier(value, preprocessing, names), nn.Sequential(nn.Flatten()), "type Sequential; .* torchnin.from_notebook"),
        *(
            (lambda value: Classifier(network, preprocessing, value), wrong, f"class_names is of type {kind}; expected the name of each")
            for wrong, kind in (
                ("abc", "str"),
                (b"abc", "bytes"),
                (set(names), "set"),
                (dict.fromkeys(names, 0), "dict"),
                (None, "NoneType"),
            )
        ),
        (create_model, 5, "a network's name is text, and not of type int; the networks: nin_d2l"),
        (lambda value: create_model("nin_small", pretrained=value), 5, "the name of weights is text, and not of type int"),
        (named_recipe, 5, "a recipe's name is text, and not of type int; the recipes: fast"),
        (from_notebook, network, "state_dict is of type NiN; expected what torch.save"),
        (lambda value: summarize(value, (1, 1, 28, 28)), "nin_small", "network is of type str; expected a NiN"),
    )
    for call, value, message in wrong:
        with pytest.raises(TypeError, match=message):
            call(value)
    for shape in (None, 28, (1, 28), (1, 1, "a", 28), (1, 1, 0, 28)):
        with pytest.raises(ValueError, match="it must be four positive numbers: batch, channels, height, width"):
            summarize(network, shape)  # type: ignore[arg-type]
    for call in (load, classifier.save, load_dataset):
        with pytest.raises(ValueError, match=r"is an empty path; the current folder is '\.'"):
            call("")
    with pytest.raises(ValueError, match="num_classes is '3'; it must be a whole number of at least 1"):
        create_model("nin_small", num_classes="3")
    assert type(create_model("nin_small", num_classes=np.int64(3)).config.num_classes) is int


def test_each_class_has_a_name_of_its_own(classifier: Classifier) -> None:
    names = (*classifier.class_names[:9], classifier.class_names[0])
    with pytest.raises(ValueError, match=r"class_names: expected each name once, found .* more than once"):
        Classifier(classifier.network, classifier.preprocessing, names)
    for wrong in (range(10), [*classifier.class_names[:9], ""], np.arange(10)):
        with pytest.raises(ValueError, match="class_names: expected at least one non-empty string, found"):
            Classifier(classifier.network, classifier.preprocessing, wrong)  # type: ignore[arg-type]
    assert Classifier(classifier.network, classifier.preprocessing, np.array(classifier.class_names)).class_names == classifier.class_names


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_a_network_that_has_diverged_answers_nothing(tiny: NiNConfig, few: DatasetSplits, backend: Any) -> None:
    network = NiN(dataclasses.replace(tiny, head="fc"))
    with torch.no_grad():
        for weights in network.head.parameters():
            weights.fill_(float("nan"))
    broken = Classifier(network, Preprocessing.of(few.train), few.class_names, device="cpu", backend=backend)
    said = "the logits of {0} of {0} pictures are not finite, so they have no probabilities; the network has diverged"
    for asked, count in ((few.test.images[0], 1), (few.test.images[:3], 3)):
        with pytest.raises(ValueError, match=said.format(count)):
            broken.predict(asked)
    with pytest.raises(ValueError, match=said.format(len(few.test))):
        broken.evaluate(few.test)


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_no_picture_has_no_logits(trained: Run, backend: Any) -> None:
    classifier = load(trained.path, backend=backend)
    for size in ((28, 28), (20, 31)):
        assert classifier.logits(torch.empty(0, 1, *size, dtype=torch.uint8)).shape == (0, 10)


def test_nothing_to_evaluate_on_is_said(classifier: Classifier, few: DatasetSplits) -> None:
    with pytest.raises(DataError, match="the dataset is empty"):
        classifier.evaluate(few.test.select([]))


def test_files_in_an_array_are_files(classifier: Classifier, few: DatasetSplits, tmp_path: Path) -> None:
    Image.fromarray(few.test.images[3][0]).save(tmp_path / "3.png")
    paths = np.array([str(tmp_path / "3.png")] * 2)
    assert classifier.predict(paths) == [classifier.predict(tmp_path / "3.png")] * 2


def test_a_large_picture_is_made_small_channel_by_channel(few: DatasetSplits) -> None:
    classifier = load("cifar-10-base", backend="torch")
    picture = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    expected = classifier.preprocessing.resize(torch.from_numpy(picture.transpose(2, 0, 1).copy())[None])[0]
    assert np.array_equal(classifier.decode(picture), expected.numpy())


def test_metadata_of_ones_own_do_not_stop_an_export(classifier: Classifier, tmp_path: Path) -> None:
    mine = Classifier(classifier.network, classifier.preprocessing, classifier.class_names, metadata={"data": "flowers"})
    assert mine.export_onnx(tmp_path / "x.onnx").path.is_file()


def test_an_export_is_compared_on_one_picture_too(classifier: Classifier, few: DatasetSplits, tmp_path: Path) -> None:
    """A path was taken letter by letter."""
    Image.fromarray(few.test.images[3][0]).save(tmp_path / "3.png")
    for one in (str(tmp_path / "3.png"), tmp_path / "3.png", few.test.images[3]):
        assert classifier.export_onnx(tmp_path / "x.onnx", pictures=one).path.is_file()
    with pytest.raises(DataError, match=r"none\.png: expected a picture, found no such file"):
        classifier.export_onnx(tmp_path / "x.onnx", pictures=str(tmp_path / "none.png"))


@pytest.mark.parametrize("backend", ["torch", "auto"])
def test_several_threads_ask_while_the_weights_change(trained: Run, few: DatasetSplits, backend: Any) -> None:
    classifier, pictures = load(trained.path, backend=backend), few.test.images[:3]
    blocks = [classifier.network.class_block, deepcopy(classifier.network.class_block)]
    with torch.no_grad():
        blocks[1][0].weight.mul_(-1)

    def probabilities() -> np.ndarray:
        return np.array([[answer.probabilities[name] for name in classifier.class_names] for answer in classifier.predict(pictures)])

    accepted = []
    for block in reversed(blocks):
        classifier.network.class_block = block
        accepted.append(probabilities())
    assert np.abs(accepted[0] - accepted[1]).max() > 0.01
    done = threading.Event()

    def ask() -> int:
        asked = 0
        while not done.is_set() or not asked:
            found = probabilities()
            assert any(np.allclose(found, each, rtol=0, atol=1e-5) for each in accepted)
            asked += 1
        return asked

    with ThreadPoolExecutor(4) as pool:
        asking = [pool.submit(ask) for _ in range(4)]
        for number in range(20):
            classifier.network.class_block = deepcopy(blocks[number % 2])
            time.sleep(0.01)
        done.set()
        assert all(each.result() for each in asking)
    assert np.allclose(probabilities(), accepted[0], rtol=0, atol=1e-5)
