import gzip
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torchnin.data import DataError, load_dataset
from torchnin.data import locate as locate_module
from torchnin.data.readers.idx import FILE_STEMS, encode_idx
from torchnin.data.sample.make_sample import make_sample
from torchnin.files import cache_folder

STEMS = (*FILE_STEMS["train"], *FILE_STEMS["test"])
pytestmark = pytest.mark.usefixtures("no_system_folder")


def test_the_sample_is_inside_the_package() -> None:
    data = load_dataset("fashion-mnist-sample")
    assert data.train.images.shape == (6000, 1, 28, 28)
    assert data.test.images.shape == (1000, 1, 28, 28)
    assert data.train.class_counts.tolist() == [600] * 10
    assert data.test.class_counts.tolist() == [100] * 10
    assert data.source == "inside the package"
    assert data.class_names[9] == "Ankle boot"
    folder = Path(locate_module.SAMPLE_FOLDER)
    assert sum(path.stat().st_size for path in folder.iterdir() if path.is_file()) < 5_000_000
    assert "Zalando" in (folder / "LICENSE").read_text()


def test_the_sample_comes_from_the_full_set(fashion_mnist: Path) -> None:
    full, sample = load_dataset("fashion-mnist", data_dir=fashion_mnist), load_dataset("fashion-mnist-sample")
    for split in ("train", "test"):
        known = {image.tobytes(): label for image, label in zip(getattr(full, split).images, getattr(full, split).labels, strict=True)}
        part = getattr(sample, split)
        assert all(known[image.tobytes()] == label for image, label in zip(part.images, part.labels, strict=True))


def test_the_sample_can_be_made_again(fashion_mnist: Path, tmp_path: Path) -> None:
    make_sample(fashion_mnist, tmp_path)
    for stem in STEMS:
        made, shipped = (gzip.decompress((folder / f"{stem}.gz").read_bytes()) for folder in (tmp_path, locate_module.SAMPLE_FOLDER))
        assert made == shipped


def test_fashion_mnist_whole(fashion_mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locate_module, "SYSTEM_FOLDER", fashion_mnist.parent)
    data = load_dataset("fashion-mnist")
    assert (len(data.train), len(data.test)) == (60_000, 10_000)
    assert data.source == str(fashion_mnist)
    assert data.files["train-images-idx3-ubyte"].startswith("c59f468a")
    assert data.notes == ()
    # The first training picture of Fashion-MNIST is an ankle boot.
    assert data.class_names[data.train.labels[0]] == "Ankle boot"


def test_without_data_the_sample_comes_and_says_why() -> None:
    data = load_dataset("fashion-mnist", download=False)
    assert data.name == "fashion-mnist-sample"
    assert "it may not be downloaded" in data.notes[0]
    assert "apt-get install dataset-fashion-mnist" in data.notes[0]
    assert "\n" not in data.notes[0]
    for name in ("mnist", "cifar-10", "cifar-100"):
        with pytest.raises(DataError, match=f"{name}: expected its files on this machine or a download.*--data-dir"):
            load_dataset(name, download=False)


def test_mnist_and_cifar_as_published(shared_data: Path) -> None:
    mnist = load_dataset("mnist", data_dir=shared_data)
    assert (mnist.train.images.shape, mnist.test.images.shape) == ((60_000, 1, 28, 28), (10_000, 1, 28, 28))
    assert mnist.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    cifar = load_dataset("cifar-10", data_dir=shared_data)
    assert (cifar.train.images.shape, cifar.test.images.shape) == ((50_000, 3, 32, 32), (10_000, 3, 32, 32))
    assert cifar.class_names[cifar.train.labels[0]] == "frog"
    assert load_dataset(shared_data / "mnist").name == "mnist"


def test_loose_idx_files_of_ones_own(write_idx: Callable[..., Path], tmp_path: Path) -> None:
    data = load_dataset(write_idx(tmp_path / "mine" / "raw").parent)
    assert data.train.images.shape == (6, 1, 2, 3)
    assert data.class_names == ("0", "1")
    assert data.name == "mine"
    assert "not the published files" in data.notes[0]
    further = load_dataset(write_idx(tmp_path / "further", num_train=2, num_test=4, num_classes=4))
    assert further.class_names == ("0", "1", "2", "3")


def test_labels_that_do_not_fit_are_named(write_idx: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "mine")
    (folder / STEMS[1]).write_bytes(encode_idx(np.zeros(5, dtype=np.uint8)))
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte: expected 6 labels.*found 5"):
        load_dataset(folder)


@pytest.mark.parametrize("kind", ["pickle", "binary"])
def test_loose_cifar_files_of_ones_own(tmp_path: Path, kind: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (4, 3072), dtype=np.uint8)
    labels = [0, 1, 2, 1]
    names = [f"data_batch_{number}" for number in range(1, 6)] + ["test_batch"]
    for name in names:
        if kind == "pickle":
            (tmp_path / name).write_bytes(pickle.dumps({"data": pixels, "labels": labels}, protocol=2))
            (tmp_path / "batches.meta").write_bytes(pickle.dumps({"label_names": ["cat", "dog", "owl"]}, protocol=2))
        else:
            records = np.concatenate([np.array(labels, dtype=np.uint8)[:, None], pixels], axis=1)
            (tmp_path / f"{name}.bin").write_bytes(records.tobytes())
            (tmp_path / "batches.meta.txt").write_text("cat\ndog\nowl\n")
    data = load_dataset(tmp_path)
    assert data.train.images.shape == (20, 3, 32, 32)
    assert data.class_names == ("cat", "dog", "owl")
    assert data.test.labels.tolist() == labels
    (tmp_path / ("batches.meta" if kind == "pickle" else "batches.meta.txt")).unlink()
    assert load_dataset(tmp_path).class_names == ("0", "1", "2")


def test_the_binary_layout_of_a_named_set(shared_data: Path, tmp_path: Path) -> None:
    reference = load_dataset("cifar-10", data_dir=shared_data)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name, dataset, start in [(f"data_batch_{number + 1}", reference.train, 10_000 * number) for number in range(5)] + [
        ("test_batch", reference.test, 0)
    ]:
        part = slice(start, start + 10_000)
        records = np.concatenate([dataset.labels[part, None].astype(np.uint8), dataset.images[part].reshape(10_000, -1)], axis=1)
        (folder / f"{name}.bin").write_bytes(records.tobytes())
    data = load_dataset("cifar-10", data_dir=tmp_path)
    assert data.train.checksum == reference.train.checksum
    assert "no checksum of the binary layout" in data.notes[0]
    shutil.rmtree(folder)


def test_sizes_and_channels_of_any_data(write_idx: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "mine")
    assert load_dataset(folder, image_size=8, channels=3).train.images.shape == (6, 3, 8, 8)
    again = load_dataset(load_dataset(folder), image_size=(4, 6))
    assert again.test.image_size == (4, 6)


def test_a_size_for_folders_leaves_files_of_one_size_as_they_are(write_idx: Callable[..., Path], tmp_path: Path) -> None:
    """They would be rounded to bytes, and take the memory of all of them in that size."""
    folder, pixels, labels = write_idx(tmp_path / "mine"), np.zeros((4, 9, 9), dtype=np.uint8), np.array([0, 1, 0, 1])
    np.savez(tmp_path / "one.npz", x_train=pixels, y_train=labels, x_test=pixels[:2], y_test=labels[:2])
    np.savez(tmp_path / "two.npz", x_train=pixels, y_train=labels, x_test=pixels[:2, :5], y_test=labels[:2])
    assert load_dataset(folder, folder_size=8).train.image_size == (2, 3)
    assert load_dataset(tmp_path / "one.npz", folder_size=8).train.image_size == (9, 9)
    assert load_dataset(tmp_path / "one.npz", folder_size=8, image_size=7).train.image_size == (7, 7)
    assert load_dataset(tmp_path / "two.npz", folder_size=(8, 6)).train.image_size == (8, 6)
    with pytest.raises(DataError, match=r"with --image-size \(image_size=\)\."):
        load_dataset(tmp_path / "two.npz")
    assert load_dataset("fashion-mnist-sample", folder_size=8).train.image_size == (28, 28)
    for number, name in enumerate(("cat", "cat", "dog", "dog")):
        (tmp_path / "photos" / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[number]).save(tmp_path / "photos" / name / f"{number}.png")
    assert load_dataset(tmp_path / "photos", folder_size=(8, 6)).train.image_size == (8, 6)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"image_size": 0}, "image_size: expected pixels from 1"),
        ({"folder_size": 9000}, "folder_size: expected pixels from 1"),
        ({"image_size": (4, 5, 6)}, "image_size"),
        *(
            ({"image_size": size}, r"image_size: expected pixels from 1 to 8192")
            for size in (16.0, "16", "ab", (16.0, 16), np.zeros(2), True)
        ),
        ({"folder_size": 16.0}, "folder_size: expected pixels from 1"),
        ({"channels": 2}, r"channels: expected 1 .*found 2"),
        ({"channels": "3"}, r"channels is '3'; it is 1 \(grey\), 3"),
        ({"test_fraction": 0.0}, "test_fraction"),
        ({"test_fraction": "0.2"}, "test_fraction is '0.2'; it is a number above 0 and at most 1"),
        ({"test_fraction": None}, "test_fraction is None"),
        ({"test_fraction": float("nan")}, "test_fraction"),
        ({"seed": -3}, "seed"),
        *(({"seed": seed}, f"seed is {seed!r}; it is a whole number of at least 0") for seed in (None, 1.5, "1")),
    ],
)
def test_wrong_calls(arguments: dict, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        load_dataset(load_dataset("fashion-mnist-sample"), **arguments)


def test_numbers_of_any_library_become_pythons_own() -> None:
    """They stand in a run's config.json."""
    pictures = (np.zeros((20, 6, 6), dtype=np.uint8), np.arange(20) % 2)
    for number in (np.int64, np.array, torch.tensor):
        data = load_dataset(pictures, image_size=number(8), channels=number(3), seed=number(3), test_fraction=0.25)
        assert data.train.images.shape[1:] == (3, 8, 8)
        assert (type(data.split_seed), data.split_seed) == (int, 3)
    for size in ((np.int64(4), torch.tensor(5)), np.array([4, 5]), torch.tensor([4, 5]), [4, 5]):
        assert load_dataset(pictures, image_size=size).train.image_size == (4, 5)  # type: ignore[arg-type]
    for share in (np.float32(0.25), torch.tensor(0.25)):
        data = load_dataset(pictures, test_fraction=share)
        assert (type(data.test_fraction), data.test_fraction) == (float, 0.25)


@pytest.mark.parametrize(
    ("name", "near"), [("fashion_mnist", "fashion-mnist"), ("FashionMNIST", "fashion-mnist"), ("cifar10", "cifar-10"), ("minst", "mnist")]
)
def test_unknown_names_list_the_nearest(name: str, near: str) -> None:
    with pytest.raises(ValueError, match=f"fashion-mnist, fashion-mnist-sample, mnist, cifar-10, cifar-100.*Did you mean '{near}'"):
        load_dataset(name)
    with pytest.raises(ValueError, match="no folder of that name") as caught:
        load_dataset("xyzzy")
    assert "Did you mean" not in str(caught.value)


def test_missing_paths(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="found nothing at"):
        load_dataset(tmp_path / "nothing")
    with pytest.raises(FileNotFoundError, match="found text of 999 letters"):
        load_dataset("x" * 999)
    with pytest.raises(FileNotFoundError, match="data_dir: expected a folder"):
        load_dataset("mnist", data_dir=tmp_path / "nothing")
    (tmp_path / "list.csv").write_text("a,b")
    with pytest.raises(ValueError, match=r"expected a folder or an \.npz file, found the file .*Give the folder that holds it"):
        load_dataset(tmp_path / "list.csv")
    (tmp_path / "pictures.npy").write_bytes(b"")
    with pytest.raises(ValueError, match=r"found the file .*pictures\.npy\. Put pictures and labels into one file: np\.savez"):
        load_dataset(tmp_path / "pictures.npy")
    (tmp_path / "photos.ZIP").write_bytes(b"PK")
    with pytest.raises(ValueError, match="Unpack it and give the folder that comes out"):
        load_dataset(tmp_path / "photos.ZIP")


def test_the_cache_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCHNIN_HOME", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("TORCHNIN_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "torchnin"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "torchnin"
