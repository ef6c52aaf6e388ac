"""`nin train`: bad input ends in one message and the right exit code."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from torchnin import RECIPES, Classifier, DatasetSplits, NiN, NiNConfig, Preprocessing, Run
from torchnin.commands.train import _show_seeds
from torchnin.training.going_on import describe_beginning
from torchnin.training.seeds import summarise

SHORT = ("--model", "nin_small", "--num-epochs", "1", "--batch-size", "80")


def test_a_seed_that_went_back_is_told_from_one_that_did_not(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    rows = [{"seed": seed, "test_accuracy": 0.5, "failure": None, "recoveries": seed} for seed in range(3)]
    _show_seeds(summarise(rows, 3), tmp_path, as_json=False)
    _, plain, once, twice, *_ = capsys.readouterr().out.splitlines()
    assert [line.split("0.5000")[1].strip() for line in (plain, once, twice)] == ["", "none, after 1 recovery", "none, after 2 recoveries"]


def test_a_run_in_json(nin: Callable[..., Any], few_file: Path, tmp_path: Path) -> None:
    answer = nin("train", few_file, "--out", tmp_path / "run", "--json", *SHORT)
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert document == {**Run(tmp_path / "run").result, "path": str(tmp_path / "run")}
    assert "epoch 1/1" in answer.err
    assert "device: cpu" in answer.err


def test_going_on_from_trained_weights(nin: Callable[..., Any], few_file: Path, trained: Run, few: DatasetSplits, tmp_path: Path) -> None:
    still = ("--weights", trained.path, "--recipe", "steady", "--lr", "1e-12", "--muon-lr", "1e-12", "--num-epochs", "1")
    answer = nin("train", few_file, *still, "--out", tmp_path / "same")
    assert answer.code == 0, answer.err
    assert "going on from the weights of tiny that learned" in answer.err
    assert "last block" not in answer.err
    run = Run(tmp_path / "same")
    before, after = (each.classifier.network.state_dict() for each in (trained, run))
    assert all(torch.allclose(before[name], value, atol=1e-6) for name, value in after.items() if name.endswith("weight"))
    assert run.config["begun_from"]["test_accuracy"] == trained.result["test_accuracy"]
    assert run.classifier.metadata["begun_from"] == run.config["begun_from"]
    trained_elsewhere = Classifier(run.classifier.network, run.classifier.preprocessing, few.class_names, metadata={"data": "my photos"})
    assert describe_beginning(trained_elsewhere, few) == {"name": None, "data": None, "test_accuracy": None, "same_classes": True}

    photos = folders(tmp_path / "photos", few, {"train": {"a": 3, "b": 3}, "test": {"a": 1, "b": 1}})
    answer = nin("train", photos, *still, "--out", tmp_path / "other")
    assert answer.code == 0, answer.err
    assert "the last block is drawn anew, for the classes are others" in answer.err
    run = Run(tmp_path / "other")
    assert run.classifier.class_names == ("a", "b")
    assert run.classifier.preprocessing.height == trained.classifier.preprocessing.height
    after = run.classifier.network.state_dict()
    assert torch.allclose(before["body.0.0.weight"], after["body.0.0.weight"], atol=1e-6)
    assert nin("train", "--resume", "--out", tmp_path / "other").code == 0


def test_pictures_are_read_at_the_size_that_the_weights_know(
    nin: Callable[..., Any], few: DatasetSplits, few_file: Path, tiny: NiNConfig, tmp_path: Path
) -> None:
    classifier = Classifier(
        NiN(tiny), Preprocessing(channels=1, height=20, width=26, mean=(0.3,), std=(0.3,)), [str(label) for label in range(10)]
    )
    classifier.save(tmp_path / "wide")
    photos = folders(tmp_path / "photos", few, {"train": {"a": 3, "b": 3}, "test": {"a": 1, "b": 1}})
    answer = nin("train", photos, "--weights", tmp_path / "wide", "--num-epochs", "1", "--out", tmp_path / "run")
    assert answer.code == 0, answer.err
    assert Run(tmp_path / "run").config["data"]["shape"] == [1, 20, 26]
    answer = nin("train", few_file, "--image-size", "32", "--out", tmp_path / "file", *SHORT)
    assert answer.code == 0, answer.err  # all of one size: resized as it is learned from
    config = Run(tmp_path / "file").config
    assert (config["data"]["shape"], config["preprocessing"]["height"]) == ([1, 28, 28], 32)


def test_optimizer_and_schedule_are_flags(nin: Callable[..., Any], few_file: Path, tmp_path: Path) -> None:
    flags = ("--optimizer", "muon", "--muon-lr", ".02", "--schedule", "constant", "--warmup", "0", "--recipe", "d2l", "--image-size", "32")
    assert nin("train", few_file, *flags, "--out", tmp_path / "run", *SHORT).code == 0
    recipe = Run(tmp_path / "run").config["recipe"]
    assert [recipe[name] for name in ("optimizer", "muon_lr", "schedule", "warmup")] == ["muon", 0.02, "constant", 0.0]
    assert recipe["lr"] == RECIPES["d2l"].lr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fashon-mnist",), "Did you mean 'fashion-mnist'"),
        (("--model", "nin_smal"), "no network is named 'nin_smal'; did you mean nin_small"),
        (("--model", "mnist"), "it is trained weights of nin_mnist: torchnin.load('mnist'), or nin train --weights mnist; the networks"),
        (("--recipe", "stedy"), "no recipe is named 'stedy'; did you mean steady"),
        (("--lr", "nan"), "lr is nan; it is a learning rate, above 0"),
        (("--lr", "-1"), "lr is -1.0"),
        (("--muon-lr", "0"), "muon_lr is 0.0"),
        (("--muon-lr", ".1", "--recipe", "d2l"), "--muon-lr is for a recipe with Muon"),
        (("--muon-momentum", ".9", "--recipe", "d2l"), "--muon-momentum is for a recipe with Muon"),
        (("--optimizer", "sgd", "--muon-lr", ".1"), "nin: --muon-lr is for a recipe with Muon"),
        (("--warmup", "1"), "warmup is 1.0; it is a share of all steps"),
        (("--keep-norms", "--recipe", "d2l"), "nin: --keep-norms is for a recipe with Muon"),
        (("--no-keep-norms", "--recipe", "d2l"), "nin: --no-keep-norms is for a recipe with Muon"),
        (("--level-class-maps", "--recipe", "d2l"), "nin: --level-class-maps is for a recipe whose class maps start alive"),
        (("--no-level-class-maps",), "nin: --no-level-class-maps is for a recipe whose class maps start alive"),
        (("--level-class-maps", "--weights", "mnist"), "--level-class-maps is for class maps that are drawn"),
        (("--level-class-maps", "--recipe", "steady"), "--level-class-maps is for class maps that end in a ReLU"),
        (("--muon-momentum", "1"), "muon_momentum is 1.0"),
        (("--num-epochs", "0"), "num_epochs is 0"),
        (("--validation", "1"), "validation is 1.0"),
        (("--shift", "-3"), "shift is -3"),
        (("--image-size", "9000"), "image_size is 9000; it is a whole number of pixels, 1 to 8192"),
        (("--device", "tpu"), "'tpu' is no device; accepted: auto, cpu, cuda"),
        (("--image-size", "4"), "image_size is 4: a picture of 4x4 pixels is too small for this network"),
        (("--data-dir", "/no/such/folder"), "/no/such/folder"),
        (("/no/such/folder",), "/no/such/folder"),
        (("--resume",), "--resume needs --out"),
        (("--resume", "--out", "/no/such/run"), "holds no run to resume"),
        (("--resume", "--out", "x", "--lr", "1"), "leave out --lr"),
        (("--resume", "--out", "x", "--skip-broken"), "leave out --skip-broken"),
        (("fashion-mnist-sample", "--resume", "--out", "x"), "goes on as it was begun; leave out DATA"),
        (("few.npz", "--resume", "--out", "x", "--lr", "1"), "goes on as it was begun; leave out DATA, --lr"),
        (("--resume", "--out", "x", "--overwrite"), "--overwrite replaces it; leave out one of them"),
        (("--resume", "--out", "x", "--overwrite", "--seeds", "2"), "--overwrite replaces it; leave out one of them"),
        (("--lrr", "1"), "--lr"),
        (("--weights", "fashion-mnist-smal"), "did you mean fashion-mnist-small"),
        (("--weights", "mnist", "--model", "nin_mnist"), "--weights mnist brings its own network; leave out --model"),
        (("--weights", "mnist", "--dropout", ".2"), "leave out --dropout"),
        (("--weights", "mnist", "--seeds", "2", "--out", "x"), "leave out --weights, or --seeds"),
        (("--weights", "mnist", "--resume", "--out", "x"), "leave out --weights"),
        (("--lr", "fast"), "--lr"),
    ],
)
def test_a_wrong_call(
    arguments: tuple[str, ...], said: str, nin: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    data = () if arguments[0][0] != "-" or "--resume" in arguments else ("fashion-mnist-sample",)
    answer = nin("train", *data, *arguments)
    assert answer.code == 2, answer.err
    assert said in " ".join(answer.err.replace("│", " ").split())
    assert answer.out == ""
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_what_is_missing_is_said_before_data_are_read(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "import torchnin\n"
        "from torchnin.commands.main import main\n"
        "sys.modules |= {'torch.utils.tensorboard': None, 'prometheus_client': None}\n"
        "torchnin.load_dataset = None\n"
        "for arguments in (['--seeds', '2'], ['--tensorboard'], ['--watch']):\n"
        "    try:\n"
        "        main(['train', 'fashion-mnist-sample', *arguments])\n"
        "    except SystemExit as ended:\n"
        "        print(ended.code)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False, cwd=tmp_path)
    assert ran.stdout.split() == ["2", "1", "1"], ran.stderr
    for said in ("--seeds needs --out", "pip install 'torchnin[tensorboard]'", "pip install 'torchnin[web]'"):
        assert said in ran.stderr


def folders(root: Path, few: DatasetSplits, splits: dict[str, dict[str, int]]) -> Path:
    for split, classes in splits.items():
        for name, count in classes.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                Image.fromarray(few.train.images[number, 0]).save(root / split / name / f"{number}.png")
    return root


def test_a_class_that_train_lacks(nin: Callable[..., Any], few: DatasetSplits, tmp_path: Path) -> None:
    data = folders(tmp_path / "data", few, {"train": {"cat": 3, "dog": 3}, "val": {"cat": 2, "owl": 2}})
    answer = nin("train", data, "--out", tmp_path / "run", *SHORT)
    assert answer.code == 1
    assert "'owl'" in answer.err
    assert not (tmp_path / "run").exists()


def test_an_empty_class(nin: Callable[..., Any], few: DatasetSplits, tmp_path: Path) -> None:
    data = folders(tmp_path / "data", few, {"train": {"cat": 3, "dog": 0}, "test": {"cat": 2}})
    answer = nin("train", data, "--out", tmp_path / "run", *SHORT)
    assert answer.code == 1
    assert "dog" in answer.err


def test_a_picture_of_no_bytes_stops_or_is_counted(nin: Callable[..., Any], few: DatasetSplits, tmp_path: Path) -> None:
    data = folders(tmp_path / "data", few, {"train": {"cat": 12, "dog": 12}, "test": {"cat": 2, "dog": 2}})
    broken = data / "train" / "cat" / "empty.png"
    broken.touch()
    answer = nin("train", data, "--out", tmp_path / "run", *SHORT)
    assert answer.code == 1
    assert str(broken) in answer.err
    assert "0 bytes" in answer.err
    answer = nin("train", data, "--out", tmp_path / "run", "--skip-broken", *SHORT)
    assert answer.code == 0, answer.err
    assert "1 of 29 pictures were skipped" in answer.err
    assert Run(tmp_path / "run").config["data"]["skipped"][0][0] == str(broken)
    # The same pictures are left out again where the run's own data are measured.
    measured = nin("evaluate", tmp_path / "run", "--json")
    assert measured.code == 0, measured.err
    assert json.loads(measured.out)["accuracy"] == Run(tmp_path / "run").result["test_accuracy"]


def test_labels_out_of_range(nin: Callable[..., Any], few: DatasetSplits, tmp_path: Path) -> None:
    labels = few.train.labels.copy()
    labels[5] = 77
    np.savez(tmp_path / "bad.npz", x_train=few.train.images, y_train=labels, class_names=np.array(few.class_names))
    answer = nin("train", tmp_path / "bad.npz", "--out", tmp_path / "run", *SHORT)
    assert answer.code == 1
    assert "found 77 at index 5" in answer.err


@pytest.mark.parametrize("how", ["truncated", "flipped"])
def test_a_broken_file_of_a_named_dataset(how: str, nin: Callable[..., Any], tmp_path: Path) -> None:
    import torchnin

    sample = Path(torchnin.data.__file__).parent / "sample"
    for file in sample.glob("*.gz"):
        data = bytearray(file.read_bytes())
        if file.name.startswith("train-labels"):
            if how == "truncated":
                data = data[:1000]
            else:
                data[1500] ^= 1
        (tmp_path / file.name).write_bytes(data)
    answer = nin("train", "fashion-mnist", "--data-dir", tmp_path, "--out", tmp_path / "run", *SHORT)
    assert answer.code == 1
    assert str(tmp_path) in answer.err
    assert "expected" in answer.err
    assert "found" in answer.err
    assert len(answer.err.strip().splitlines()) == 1


def test_a_rate_that_bursts(nin: Callable[..., Any], few_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    model = ("--model", "nin_mnist", "--num-epochs", "1", "--batch-size", "40")
    answer = nin("train", few_file, "--out", out, "--lr", "1e6", "--recipe", "d2l", "--image-size", "28", *model)
    assert answer.code == 1
    last = answer.err.strip().splitlines()[-1]
    assert last.startswith("nin: the ")
    assert "train anew with a lower --lr" in last
    assert Run(out).resumable


@pytest.mark.parametrize("limit", [40_000, 2_000_000])
def test_a_full_disk(limit: int, few_file: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: with the smaller nothing fits, with the larger the first checkpoint does."""
    code = (
        "import resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
        "from torchnin.commands.main import main\nmain(sys.argv[1:])\n"
    )
    command = [sys.executable, "-c", code, "train", few_file, "--out", tmp_path / "run", *SHORT, "--ema-decay", "0.9"]
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 1, ran.stderr
    assert "Traceback" not in ran.stderr
    last = ran.stderr.strip().splitlines()[-1]
    assert os.strerror(errno.EFBIG) in last
    assert str(tmp_path / "run" / "checkpoint") in last
    assert not list((tmp_path / "run").rglob("*.tmp"))


def test_a_training_ends_whoever_reads_what_it_says(few_file: Path, tmp_path: Path) -> None:
    """As after `nin train ... 2>&1 | head`: the pipe that takes all output has no reader."""
    ours, theirs = os.pipe()
    os.close(ours)
    code = "from torchnin.commands.main import main; main()"
    command = [sys.executable, "-c", code, "train", few_file, "--out", tmp_path / "run", *SHORT]
    ran = subprocess.run([str(part) for part in command], stdout=theirs, stderr=theirs, timeout=600, check=False)
    os.close(theirs)
    assert ran.returncode == 0
    assert Run(tmp_path / "run").result["epochs"] == 1
    assert Run(tmp_path / "run").classifier.class_names


def test_no_data_and_no_network_falls_back_on_the_sample(nin: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHNIN_DATA_MIRROR", "http://127.0.0.1:9")
    monkeypatch.setattr("torchnin.data.locate.SYSTEM_FOLDER", tmp_path / "nothing")
    answer = nin("train", "mnist", "--out", tmp_path / "run", *SHORT)
    assert answer.code == 1
    assert "--data-dir" in answer.err
    assert not (tmp_path / "run").exists()
    answer = nin("datasets", "--download", "fashion-mnist", "--json")
    assert answer.code == 1
    assert json.loads(answer.out)["name"] == "fashion-mnist-sample"
    assert "This is the sample of 6,000 training pictures" in answer.err
