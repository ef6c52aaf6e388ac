"""Shape annotations are checked while testing; real data is used where it is at hand."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook

# Before the first import of the package. The modules that take tensors; the others answer wrong calls in their own words.
install_import_hook(
    ["torchnin.models.nin", "torchnin.data.preprocessing", "torchnin.data.augmentation", "torchnin.data.pictures", "torchnin.data.resize"],
    "beartype.beartype",
)

# No test depends on time.
settings.register_profile("torchnin", deadline=None)
settings.load_profile("torchnin")

# Several tests run side by side on few cores, and the networks are small: more threads would only wait for each other.
torch.set_num_threads(1)
os.environ["OMP_NUM_THREADS"] = "1"

if TYPE_CHECKING:
    from torchnin import DatasetSplits, NiNConfig, Run

SHARED = Path(__file__).parents[2] / "shared" / "data"
FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with CIFAR-10, MNIST and a folder of photos, which is not part of the project."""
    if not SHARED.is_dir():
        pytest.skip("the development data is not at hand")
    return SHARED


@pytest.fixture(scope="session")
def fashion_mnist() -> Path:
    """The full Fashion-MNIST, as the distribution's package dataset-fashion-mnist installs it."""
    if not FASHION_MNIST.is_dir():
        pytest.skip("the package dataset-fashion-mnist is not installed")
    return FASHION_MNIST


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache; matplotlib's list of fonts, which takes a second to make, is one for all."""
    monkeypatch.setenv("TORCHNIN_HOME", str(tmp_path / "torchnin-home"))
    monkeypatch.setenv("MPLCONFIGDIR", str(tmp_path_factory.getbasetemp() / "matplotlib"))


@pytest.fixture(scope="session")
def few() -> "DatasetSplits":
    """Real pictures, few enough to train on in a blink: 320 to learn from, 100 to test on."""
    from torchnin import DatasetSplits, load_dataset

    sample = load_dataset("fashion-mnist-sample")
    return DatasetSplits(
        name="few", train=sample.train.select(np.arange(320)), test=sample.test.select(np.arange(100)), source=sample.source
    )


@pytest.fixture(scope="session")
def few_file(few: "DatasetSplits", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same pictures as a file."""
    path = tmp_path_factory.mktemp("data") / "few.npz"
    names = np.array(few.class_names)
    pictures = {"x_train": few.train.images, "y_train": few.train.labels, "x_test": few.test.images, "y_test": few.test.labels}
    np.savez(path, class_names=names, **pictures)
    return path


@pytest.fixture(scope="session")
def tiny() -> "NiNConfig":
    """A network of a few thousand weights with everything in it: batch normalisation, ReLU on the class maps, dropout."""
    from torchnin import BlockConfig, ClassBlockConfig, NiNConfig

    return NiNConfig(
        blocks=(
            BlockConfig(channels=(8, 8), kernel_size=5, stride=2, padding=2),
            BlockConfig(channels=(16, 16), kernel_size=3, padding=1),
        ),
        class_block=ClassBlockConfig(hidden=(16,)),
        in_channels=1,
        num_classes=10,
        image_size=28,
        mlp_layers=1,
        batch_norm=True,
        dropout=0.3,
    )


@pytest.fixture(scope="session")
def trained(few_file: Path, tiny: "NiNConfig", tmp_path_factory: pytest.TempPathFactory) -> "Run":
    """A finished run of two epochs; not to be changed by a test."""
    from torchnin import Recipe, train

    return train(
        tiny,
        str(few_file),
        Recipe(num_epochs=2, batch_size=32, lr=0.1),
        name="tiny",
        out=tmp_path_factory.mktemp("runs") / "trained",
        quiet=True,
    )


@pytest.fixture
def saved(trained: "Run", tmp_path: Path) -> Path:
    """The same classifier in a folder of its own, which a test may change."""
    return shutil.copytree(trained.path / "classifier", tmp_path / "saved-classifier")


@pytest.fixture(scope="session")
def exported(trained: "Run", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same classifier as an .onnx file; not to be changed by a test."""
    return trained.classifier.export_onnx(tmp_path_factory.mktemp("exported") / "tiny.onnx").path


class Answer(NamedTuple):
    """What a call of the command gave."""

    code: int
    out: str
    err: str


@pytest.fixture
def nin(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """Calls `nin` in this process."""
    from torchnin.commands.main import main

    def call(*arguments: object) -> Answer:
        capsys.readouterr()
        try:
            main([str(argument) for argument in arguments])
            code = 0
        except SystemExit as done:
            code = int(done.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return Answer(code, out, err)

    return call
