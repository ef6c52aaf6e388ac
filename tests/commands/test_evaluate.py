import csv
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from torchnin import Classifier, DatasetSplits, Run

KEYS = {"accuracy", "accuracy_interval", "loss", "num_pictures", "per_class", "confusion", "calibration_error"}


def test_the_runs_own_data_give_the_runs_own_result(nin: Callable[..., Any], trained: Run) -> None:
    answer = nin("evaluate", trained.path, "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert document.keys() >= KEYS
    assert document["accuracy"] == trained.result["test_accuracy"]
    assert document["loss"] == trained.result["test_loss"]
    assert document["num_pictures"] == trained.result["test_pictures"] == 100
    assert sum(map(sum, document["confusion"])) == 100
    assert 0 <= document["accuracy_interval"][0] <= document["accuracy"] <= document["accuracy_interval"][1] <= 1


def test_other_data_and_other_splits(nin: Callable[..., Any], trained: Run, few_file: Path, tmp_path: Path) -> None:
    by_name = json.loads(nin("evaluate", trained.path, few_file, "--json").out)
    assert by_name["accuracy"] == trained.result["test_accuracy"]
    assert json.loads(nin("evaluate", trained.path, "--split", "train", "--json").out)["num_pictures"] == 320
    assert json.loads(nin("evaluate", trained.path, "--split", "all", "--json").out)["num_pictures"] == 420
    text = nin("evaluate", trained.path, "fashion-mnist-sample", "--plot", tmp_path / "confusion.png")
    assert text.code == 0
    assert f"confusion matrix: {tmp_path / 'confusion.png'}" in text.err
    assert "1,000" in text.out


def test_of_a_folder_without_splits_all_are_judged_unless_the_training_had_them(
    nin: Callable[..., Any], trained: Run, few: DatasetSplits, tmp_path: Path
) -> None:
    for number in range(100):
        folder = tmp_path / "test" / few.class_names[few.test.labels[number]].replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(few.test.images[number, 0]).save(folder / f"{number}.png")
    own, plain = trained.classifier, [name.replace("/", "-") for name in few.class_names]  # a folder's name has no slash
    named = Classifier(own.network, own.preprocessing, plain, metadata=own.metadata).save(tmp_path / "named")
    answer = nin("evaluate", named, tmp_path / "test", "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert (document["num_pictures"], document["accuracy"]) == (100, pytest.approx(trained.result["test_accuracy"]))
    assert "all 100 pictures were judged (--split test: the held-out ones alone)" in answer.err
    assert "downloading" not in answer.err
    assert "\nreading pictures\n" in f"\n{answer.err}"
    held_out = json.loads(nin("evaluate", named, tmp_path / "test", "--split", "test", "--json").out)
    assert held_out["num_pictures"] < 30

    out = tmp_path / "run"
    assert nin("train", tmp_path / "test", "--num-epochs", "1", "--batch-size", "64", "--out", out).code == 0
    before = json.loads(nin("evaluate", out, "--json").out)
    (tmp_path / "test").rename(tmp_path / "moved")
    for given in ((tmp_path / "moved",), ("--data-dir", tmp_path / "moved")):
        answer = nin("evaluate", out, *given, "--json")
        assert answer.code == 0, answer.err
        assert json.loads(answer.out) == before
        assert "is taken for it" not in answer.err

    for path in (tmp_path / "moved").rglob("*.png"):
        Image.eval(Image.open(path), lambda level: 255 - level).save(path)
    answer = nin("evaluate", out, tmp_path / "moved", "--json")
    assert json.loads(answer.out)["num_pictures"] == before["num_pictures"]
    assert "moved has as many pictures as what the classifier was trained on, and is taken for it" in answer.err
    assert json.loads(nin("evaluate", out, tmp_path / "moved", "--split", "all", "--json").out)["num_pictures"] == 100


def test_one_class_or_one_picture_of_each_is_enough_to_judge(
    nin: Callable[..., Any], trained: Run, few: DatasetSplits, tmp_path: Path
) -> None:
    own, plain = trained.classifier, [name.replace("/", "-") for name in few.class_names]
    named = Classifier(own.network, own.preprocessing, plain).save(tmp_path / "named")
    logits = own.logits(torch.from_numpy(few.test.images)).argmax(1).numpy()
    for name, chosen in {"one class": np.flatnonzero(few.test.labels == 3)[:4], "one of each": np.unique(few.test.labels, True)[1]}.items():
        for number in chosen:
            folder = tmp_path / name / plain[few.test.labels[number]]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(few.test.images[number, 0]).save(folder / f"{number}.png")
        for split in ((), ("--split", "all")):
            answer = nin("evaluate", named, tmp_path / name, *split, "--json")
            assert answer.code == 0, answer.err
            document = json.loads(answer.out)
            assert document["num_pictures"] == len(chosen)
            assert document["accuracy"] == pytest.approx((logits[chosen] == few.test.labels[chosen]).mean())
            assert (f"all {len(chosen)} pictures were judged." in answer.err) == (split == ())
        assert nin("evaluate", named, tmp_path / name).code == 0
    answer = nin("evaluate", named, tmp_path / "one class", "--split", "test")
    assert (answer.code, "found the one class folder" in answer.err) == (1, True)
    answer = nin("train", tmp_path / "one class", "--out", tmp_path / "run")
    assert (answer.code, "found the one class folder" in answer.err) == (1, True)


@pytest.mark.parametrize("metadata", [{"data": "my photos"}, {"data": ["my", "photos"], "validation": None, "seed": None}])
def test_a_record_of_ones_own_is_no_error(
    nin: Callable[..., Any], trained: Run, few_file: Path, tmp_path: Path, metadata: dict[str, Any]
) -> None:
    own = trained.classifier
    saved = Classifier(own.network, own.preprocessing, own.class_names, metadata=metadata).save(tmp_path / "own")
    answer = nin("evaluate", saved, few_file, "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["accuracy"] == trained.result["test_accuracy"]
    answer = nin("evaluate", saved)
    assert (answer.code, "does not say what it was trained on; name a dataset" in answer.err) == (2, True)


def test_without_a_seed_and_a_share_nothing_was_held_out(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    own = trained.classifier
    metadata = own.metadata | {"validation": None, "seed": None}
    saved = Classifier(own.network, own.preprocessing, own.class_names, metadata=metadata).save(tmp_path / "own")
    answer = nin("evaluate", saved, "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["accuracy"] == trained.result["test_accuracy"]


def test_a_broken_picture_stops_or_is_left_out(nin: Callable[..., Any], trained: Run, few: DatasetSplits, tmp_path: Path) -> None:
    for index, name in enumerate(few.class_names):
        folder = tmp_path / "data" / "test" / name.replace("/", "-")
        folder.mkdir(parents=True)
        for number in range(2):
            Image.fromarray(few.test.images[2 * index + number, 0]).save(folder / f"{number}.png")
    shutil.copytree(tmp_path / "data" / "test", tmp_path / "data" / "train")
    (folder / "broken.png").write_bytes(b"no picture")
    own = trained.classifier
    names = [name.replace("/", "-") for name in few.class_names]
    saved = Classifier(own.network, own.preprocessing, names).save(tmp_path / "saved")
    answer = nin("evaluate", saved, tmp_path / "data")
    assert (answer.code, "leave such files out: --skip-broken" in answer.err) == (1, True)
    answer = nin("evaluate", saved, tmp_path / "data", "--skip-broken", "--json")
    assert answer.code == 0, answer.err
    assert json.loads(answer.out)["num_pictures"] == 20
    assert "1 of 41 pictures were skipped" in answer.err
    int8 = ("export", saved, "--out", tmp_path / "a.onnx", "--int8")
    answer = nin(*int8, "--accept-accuracy-loss", "--data", tmp_path / "data", "--skip-broken")
    assert answer.code == 0, answer.err
    assert "1 of 41 pictures were skipped" in answer.err
    for call in (("evaluate", saved), int8):
        answer = nin(*call, "--skip-broken")
        assert (answer.code, "name the data, or leave it out" in answer.err) == (2, True)


def test_the_pictures_that_a_training_held_out(nin: Callable[..., Any], few_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    call = ("train", few_file, "--num-epochs", "1", "--batch-size", "64", "--validation", "0.2", "--seed", "5", "--out", out)
    assert nin(*call, "--json").code == 0
    found = json.loads(nin("evaluate", out, "--split", "validation", "--json").out)
    assert found["num_pictures"] == 64
    assert found["accuracy"] == Run(out).metrics[-1]["validation_accuracy"]
    assert json.loads(nin("evaluate", out, "--split", "train", "--json").out)["num_pictures"] == 256


def test_wrong_calls(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(trained.path / "classifier", copied)
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps({**config, "metadata": {}}))
    for arguments, said in (
        ((tmp_path / "missing",), "there is no such folder"),
        ((copied,), "does not say what it was trained on; name a dataset"),
        ((trained.path, "--split", "validation"), "has no 'validation' pictures; --split takes train, test, all"),
        ((trained.path, "fashion-mist"), "Did you mean 'fashion-mnist'"),
    ):
        answer = nin("evaluate", *arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert said in answer.err


def test_changed_weights_are_a_failure(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    copied = tmp_path / "copied"
    shutil.copytree(trained.path / "classifier", copied)
    (copied / "model.safetensors").write_bytes(b"")
    answer = nin("evaluate", copied)
    assert (answer.code, answer.out) == (1, "")
    assert "model.safetensors" in answer.err


def test_three_pictures(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    names = ("confusion", "reliability", "mistakes")
    files = [tmp_path / f"{name}.svg" for name in names]
    answer = nin("evaluate", trained.path, "--plot", files[0], "--reliability", files[1], "--mistakes", files[2])
    assert answer.code == 0, answer.err
    assert [line.split(": ")[1] for line in answer.err.splitlines()] == [str(file) for file in files]
    assert all(file.stat().st_size > 1000 for file in files)


def test_a_wrong_file_name_is_refused_before_the_work(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    answer = nin("evaluate", trained.path, "--plot", tmp_path / "good.png", "--mistakes", tmp_path / "mistakes.gif")
    assert (answer.code, answer.out) == (2, "")
    assert "mistakes.gif' ends in '.gif'; accepted: .png" in answer.err
    assert list(tmp_path.glob("*.png")) == []


def test_comma_separated_values(nin: Callable[..., Any], trained: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(nin("evaluate", trained.path, "--csv").out)))
    document = json.loads(nin("evaluate", trained.path, "--json").out)
    assert [row["class"] for row in rows] == list(document["per_class"])
    assert sum(int(row["num_pictures"]) for row in rows) == 100
    for flags, said in ((("--csv", "--json"), "leave out --json"), (("--csv", "--tta", "flip"), "leave out --tta")):
        answer = nin("evaluate", trained.path, *flags)
        assert (answer.code, answer.out) == (2, "")
        assert said in answer.err


def test_augmentation_while_testing_stands_apart(nin: Callable[..., Any], trained: Run, few: DatasetSplits) -> None:
    plain = json.loads(nin("evaluate", trained.path, "--json").out)
    answer = nin("evaluate", trained.path, "--tta", "flip", "--json")
    both = json.loads(answer.out)
    augmented = both.pop("tta")
    assert both == plain
    classifier, images = trained.classifier, torch.from_numpy(np.array(few.test.images))
    logits = (classifier.logits(images) + classifier.logits(images.flip(3))) / 2
    assert augmented["kind"] == "flip"
    assert augmented["accuracy"] == pytest.approx(float((logits.argmax(1).numpy() == few.test.labels).mean()))
    assert augmented["loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, torch.tensor(few.test.labels))), abs=1e-5)
    assert "nothing says that a mirrored picture" in answer.err
    text = nin("evaluate", trained.path, "--tta", "flip").out
    assert text.count("accuracy") > nin("evaluate", trained.path).out.count("accuracy")
    assert "with test-time augmentation (flip): accuracy" in text.splitlines()[-1]
