import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from torchnin.data import DataError, load_dataset
from torchnin.data.readers.arrays import dataset_of, read_npz, to_dataset

IMAGES = np.random.default_rng(0).integers(0, 256, (6, 5, 4), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])


def npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays)
    return path


@pytest.mark.parametrize(
    ("images", "shape"),
    [
        (IMAGES, (6, 1, 5, 4)),
        (IMAGES[..., None], (6, 1, 5, 4)),
        (IMAGES[:, None], (6, 1, 5, 4)),
        (np.stack([IMAGES] * 3, axis=-1), (6, 3, 5, 4)),
        (np.stack([IMAGES] * 3, axis=1), (6, 3, 5, 4)),
        (np.zeros((6, 3, 7, 3), dtype=np.uint8), (6, 3, 3, 7)),
    ],
)
def test_layouts(images: np.ndarray, shape: tuple[int, ...]) -> None:
    data = to_dataset(images, LABELS)
    assert data.images.shape == shape
    assert data.images.flags.c_contiguous
    assert data.class_names == ("0", "1", "2")
    if shape[3] == 4:
        assert (data.images[:, 0] == IMAGES).all()
    assert to_dataset(torch.from_numpy(images), torch.from_numpy(LABELS)).checksum == data.checksum


@pytest.mark.parametrize(
    ("images", "labels", "said"),
    [
        (IMAGES.astype(np.float32) / 255, LABELS, "expected dtype uint8, 0 to 255, found float32.*Multiply"),
        (torch.from_numpy(IMAGES).bfloat16() / 255, LABELS, "found float32.*Multiply"),
        (IMAGES > 2, LABELS, "found bool. Convert them to uint8, and multiply by 255"),
        (IMAGES.astype(np.int64), LABELS, "found int64"),
        (IMAGES[0], LABELS, r"found \(5, 4\)"),
        (np.zeros((6, 5, 4, 2), np.uint8), LABELS, r"found \(6, 5, 4, 2\)"),
        (IMAGES, LABELS.astype(np.float64), "whole numbers or names, found float64"),
        (IMAGES, np.array(["a", "b", "", "a", "b", ""]), "class_names"),
        ([IMAGES[0], IMAGES[1][:2], *IMAGES[2:]], LABELS, "train pictures: expected all of one size, found several"),
        (IMAGES, np.eye(6), r"found \(6, 6\).*argmax"),
        (IMAGES, LABELS[:5], "6 pictures and 5 labels"),
        (IMAGES, LABELS - 1, "found -1 at index 0"),
        (IMAGES, LABELS * 10**9, "found 1000000000 at index 1"),
        (IMAGES, np.full(6, 2**63, dtype=np.uint64), "found 9223372036854775808"),
        (IMAGES[:0], LABELS[:0], "at least one picture"),
    ],
)
def test_wrong_arrays(images: np.ndarray | torch.Tensor, labels: np.ndarray, said: str) -> None:
    with pytest.raises(DataError, match=said):
        to_dataset(images, labels, where="train")


def test_ragged_lists_are_refused() -> None:
    with pytest.raises(DataError, match="objects"):
        to_dataset(np.array([IMAGES[0], IMAGES[1][:2]], dtype=object), [0, 1])


@pytest.mark.parametrize(
    "keys",
    [("x_train", "y_train", "x_test", "y_test"), ("train_images", "train_labels", "test_images", "test_labels")],
)
def test_the_usual_keys(tmp_path: Path, keys: tuple[str, str, str, str]) -> None:
    arrays = dict(zip(keys, (IMAGES, LABELS[:, None], 255 - IMAGES[:3], LABELS[:3, None]), strict=True))
    data = load_dataset(npz(tmp_path / "set.npz", **arrays, class_names=np.array(["cat", "dog", "owl"])))
    assert (len(data.train), len(data.test), data.validation) == (6, 3, None)
    assert data.class_names == ("cat", "dog", "owl")
    assert data.name == "set.npz"
    assert data.notes == ()


def test_medmnist_with_validation(tmp_path: Path) -> None:
    parts = {f"{split}_{kind}": value for split in ("train", "val", "test") for kind, value in (("images", IMAGES), ("labels", LABELS))}
    data = load_dataset(npz(tmp_path / "set.npz", **parts))
    assert data.validation is not None
    assert len(data.validation) == 6


def test_pictures_without_splits_are_split(tmp_path: Path) -> None:
    data = load_dataset(npz(tmp_path / "set.npz", images=IMAGES, labels=LABELS), test_fraction=0.5, seed=3)
    assert (len(data.train), len(data.test)) == (3, 3)
    assert "3 of 6 pictures" in data.notes[0]
    assert "seed 3" in data.notes[0]
    validation_only = npz(tmp_path / "val.npz", x_train=IMAGES, y_train=LABELS, x_val=IMAGES, y_val=LABELS)
    assert "validation pictures serve" in load_dataset(validation_only).notes[0]


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"pixels": IMAGES}, "expected the keys x_train.*found pixels. Rename"),
        ({"x_train": IMAGES}, r"\.npz: expected y_train beside x_train, found x_train"),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS + 1},
            "test labels: expected labels from 0 to 2 .*found 3",
        ),
        ({"images": IMAGES, "labels": np.array(["a"] * 6, dtype=object)}, "Python objects, which are never unpickled"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    with pytest.raises(DataError, match=said):
        read_npz(npz(tmp_path / "set.npz", **arrays))


def npy(shape: tuple[int, ...], content: bytes, dtype: str = "|u1") -> bytes:
    header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


@pytest.mark.parametrize(
    ("member", "said"),
    [
        (npy((10**12, 28, 28), b"few"), "expected 3 bytes of data, found a header that declares 784,000,000,000,000"),
        (npy((2, 2), b"12345"), "expected 5 bytes"),
        (npy((-1, -5), b"12345"), "found a header that declares|declares"),
        (b"no array", "expected an .npy header"),
        (npy((5,), b"12345", dtype="|O"), "Python objects"),
        (npy((5,), b"12345", dtype="),|u1"), "expected an .npy header"),
    ],
)
def test_members_that_lie(tmp_path: Path, member: bytes, said: str) -> None:
    path = tmp_path / "set.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", member)
        archive.writestr("../outside.npy", b"never read")
    with pytest.raises(DataError, match=said):
        read_npz(path)
    assert not (tmp_path.parent / "outside.npy").exists()


def test_a_zip_bomb_is_never_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", npy((10, 28, 28), bytes(100_000_000)))
    with pytest.raises(DataError, match="expected 100,000,000 bytes of data, found a header that declares 7,840"):
        read_npz(path)


@given(st.data())
def test_cut_and_flipped_files_give_datasets_or_the_named_error(tmp_path_factory: pytest.TempPathFactory, draw: st.DataObject) -> None:
    stream = io.BytesIO()
    np.savez(stream, images=IMAGES, labels=LABELS)
    content = bytearray(stream.getvalue())
    for _ in range(draw.draw(st.integers(0, 3))):
        content[draw.draw(st.integers(0, len(content) - 1))] = draw.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "flipped.npz"
    path.write_bytes(content[: draw.draw(st.integers(len(content) // 2, len(content)))])
    try:
        found = read_npz(path)
    except DataError as error:
        found = None
        message = str(error)
        assert "flipped.npz" in message or "arrays" in message
    assert found is None or "train" in found


def test_how_the_pictures_of_a_torch_dataset_are_given_is_said_and_so_they_are_taken() -> None:
    dataset = TensorDataset(torch.from_numpy(IMAGES), torch.from_numpy(LABELS))
    for data in (dataset, DataLoader(dataset), (dataset, dataset), (dataset, LABELS)):
        with pytest.raises(TypeError, match=r"found (TensorDataset|DataLoader)\. Of a torch dataset give pictures and labels: "):
            load_dataset(data)
    with pytest.raises(TypeError, match=r"found TensorDataset\. Of a torch dataset"):
        dataset_of(dataset, "abc")
    with pytest.raises(TypeError, match=r"found map\. Give all of it: list\(\.\.\.\)\."):
        load_dataset((map(np.asarray, IMAGES), LABELS))
    taken = load_dataset((np.stack([np.asarray(x) for x, _ in dataset]), [y for _, y in dataset]))
    assert taken.train.checksum == load_dataset((IMAGES, LABELS)).train.checksum


def test_arrays_from_python() -> None:
    data = load_dataset(((IMAGES, LABELS), (IMAGES[:2], LABELS[:2])))
    assert (data.name, len(data.train), len(data.test)) == ("arrays", 6, 2)
    alone = load_dataset((torch.from_numpy(IMAGES), torch.from_numpy(LABELS)), test_fraction=0.5)
    assert len(alone.test) == 3
    pair = load_dataset((data.train, data.test))
    assert pair.test.checksum == data.test.checksum
    with pytest.raises(ValueError, match="found a tuple of 3"):
        load_dataset((IMAGES, LABELS, IMAGES))


NAMES = np.array(["dog", "cat", "鸟", "dog", "cat", "鸟"])


@pytest.mark.parametrize("labels", [NAMES, NAMES.tolist(), NAMES.astype(object), np.char.encode(NAMES, "utf-8"), NAMES[:, None]])
def test_labels_may_be_names(labels: Any) -> None:
    data = to_dataset(IMAGES, labels)
    assert data.class_names == ("cat", "dog", "鸟")
    assert data.labels.tolist() == [1, 0, 2, 1, 0, 2]
    assert to_dataset(IMAGES, labels, ["鸟", "dog", "cat", "fish"]).labels.tolist() == [1, 2, 0, 1, 2, 0]
    with pytest.raises(DataError, match=r"test labels: expected names of the classes \('cat', 'dog'\), found '鸟'"):
        load_dataset(((IMAGES[:2], labels[:2]), (IMAGES, labels)))


def test_names_as_labels_in_a_file(tmp_path: Path) -> None:
    path = npz(tmp_path / "x.npz", x_train=IMAGES, y_train=NAMES, x_test=IMAGES[:2], y_test=NAMES[:2])
    splits = load_dataset(path)
    assert splits.class_names == ("cat", "dog", "鸟")
    assert splits.test.labels.tolist() == [1, 0]


def test_two_pictures_with_two_labels_are_not_two_splits() -> None:
    pictures = [IMAGES[0], IMAGES[1]]
    with pytest.raises(DataError, match="among 2 pictures of 2 classes"):
        load_dataset((pictures, [0, 1]))
    assert len(load_dataset(([IMAGES, LABELS.tolist()], [IMAGES[:2], [0, 1]])).test) == 2


def test_an_archive_that_points_before_its_beginning(tmp_path: Path) -> None:
    """Found by fuzzing: the system's own error for a place that cannot be."""
    path = tmp_path / "x.npz"
    np.savez(path, x=IMAGES, y=np.arange(len(IMAGES)))
    data = bytearray(path.read_bytes())
    end = data.rindex(b"PK\x05\x06")
    data[end + 16 : end + 20] = (0).to_bytes(4, "little")  # the directory begins nowhere near where it is said to
    data[end + 12 : end + 16] = (len(data) * 2).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"x\.npz: expected an \.npz file"):
        read_npz(path)


def test_a_member_whose_name_is_no_text(tmp_path: Path) -> None:
    """Found by fuzzing: a name that is declared to be UTF-8 and is not."""
    path = tmp_path / "x.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("é.npy", b"never read")
    path.write_bytes(path.read_bytes().replace("é".encode(), b"\xc3\x28"))
    with pytest.raises(DataError, match=r"x\.npz: expected an \.npz file"):
        read_npz(path)


def test_a_header_that_ends_in_the_middle_of_a_statement(tmp_path: Path) -> None:
    """Found by fuzzing: numpy's reader of old headers lets the tokenizer's error through."""
    header = b"\x93NUMPY\x01\x00" + (20).to_bytes(2, "little") + b"{'descr': ('|u1', (1"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", header)
        archive.writestr("y.npy", header)
    with pytest.raises(DataError, match=r"expected an \.npy header"):
        read_npz(tmp_path / "x.npz")


def test_a_class_name_that_is_no_character(tmp_path: Path) -> None:
    names = np.array(["a", "b", "c"])
    names.view(np.uint32)[1] = 0xFFFFFFFF
    with pytest.raises(DataError, match=r"x\.npz \(class_names\): expected text"):
        read_npz(npz(tmp_path / "x.npz", images=IMAGES, labels=LABELS, class_names=names))


def test_nothing_of_a_size_that_no_array_has(tmp_path: Path) -> None:
    """No bytes, yet no array has that shape."""
    text = b"{'descr': '|u1', 'fortran_order': False, 'shape': (0, 4611686018427387904, 8), }\n"
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        for name in ("x.npy", "y.npy"):
            archive.writestr(name, b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text)
    with pytest.raises(DataError, match="a header that declares"):
        read_npz(tmp_path / "x.npz")


def test_class_names_as_bytes_are_their_letters(tmp_path: Path) -> None:
    for names in (["cat", "dog", "鸟"], np.char.encode(["cat", "dog", "鸟"], "utf-8")):
        path = npz(tmp_path / "x.npz", x_train=IMAGES, y_train=LABELS, class_names=np.asarray(names))
        assert read_npz(path)["train"].class_names == ("cat", "dog", "鸟")


def test_splits_of_different_shapes_are_brought_to_one(tmp_path: Path) -> None:
    colour = np.repeat(IMAGES.repeat(2, 1)[..., None], 3, axis=-1)
    with pytest.raises(DataError, match=r"with --image-size \(image_size=\) and --in-channels \(channels=\)\."):
        load_dataset(((IMAGES, LABELS), (colour, LABELS)))
    with pytest.raises(DataError, match=r"with --in-channels \(channels=\)\."):
        load_dataset(((IMAGES, LABELS), (IMAGES[..., None].repeat(3, -1), LABELS)))
    splits = load_dataset(((IMAGES, LABELS), (colour, LABELS)), image_size=8, channels=1)
    assert splits.train.images.shape[1:] == splits.test.images.shape[1:] == (1, 8, 8)
    path = npz(tmp_path / "x.npz", x_train=IMAGES, y_train=LABELS, x_test=colour, y_test=LABELS)
    assert load_dataset(str(path), image_size=8, channels=3).test.images.shape[1:] == (3, 8, 8)
