from pathlib import Path

import numpy as np
import pytest

from torchnin.data import DatasetSplits, ImageDataset, load_dataset
from torchnin.data.copies import copies

SHAPE = (6, 1, 5, 4)


def dataset(seed: int, labels: tuple[int, ...] = (0, 1, 2, 0, 1, 2)) -> ImageDataset:
    pictures = np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)
    return ImageDataset(pictures, np.array(labels), ("cat", "cow", "dog"))


@pytest.fixture
def leaking() -> tuple[ImageDataset, ImageDataset]:
    """Two test pictures are train pictures, another is one but for a single level."""
    train, test = dataset(0), dataset(1)
    test.images[[1, 2]] = train.images[[4, 5]]
    test.images[0] = train.images[0]
    test.images[0, 0, 2, 2] ^= 1
    return train, test


def test_test_pictures_that_were_learned_are_counted_and_the_first_is_named(leaking: tuple[ImageDataset, ImageDataset]) -> None:
    train, test = leaking
    same = "are the same, to the pixel, as train pictures, first"
    (sentence,) = copies({"test": test, "train": train})
    assert sentence.startswith(f"2 of 6 test pictures {same} test picture 1 and train picture 4: the accuracy on them")
    paths = {split: [Path(split, str(place)) for place in range(6)] for split in ("train", "validation")}
    (sentence,) = copies({"train": train, "validation": test}, paths)
    assert sentence.startswith(f"2 of 6 validation pictures {same} {Path('validation', '1')} and {Path('train', '4')}: ")


def test_a_picture_in_two_classes_is_told_and_one_twice_in_its_own_class_is_not() -> None:
    train = dataset(0)
    assert copies({"train": train, "test": dataset(1)}) == ()
    train.images[3] = train.images[0]
    assert copies({"train": train}) == ()
    train.images[1] = train.images[0]
    (sentence,) = copies({"train": train})
    assert sentence.startswith("In two classes, the same to the pixel: 1 picture, first train picture 1 (cow) and train picture 0 (cat).")


def test_arrays_files_of_arrays_and_files_of_mnists_kind_are_looked_through(
    leaking: tuple[ImageDataset, ImageDataset], tmp_path: Path
) -> None:
    train, test = ((split.images[:, 0], split.labels) for split in leaking)
    np.savez(tmp_path / "pictures.npz", x_train=train[0], y_train=train[1], x_test=test[0], y_test=test[1])
    for split, (pictures, labels) in {"train": train, "t10k": test}.items():
        header = b"\x00\x00\x08\x03" + np.array(pictures.shape, dtype=">i4").tobytes()
        (tmp_path / f"{split}-images-idx3-ubyte").write_bytes(header + pictures.tobytes())
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(b"\x00\x00\x08\x01\x00\x00\x00\x06" + labels.astype(np.uint8).tobytes())
    for data in ((train, test), tmp_path / "pictures.npz", tmp_path):
        assert [note for note in load_dataset(data).notes if note.startswith("2 of 6 test pictures are the same")], data


def test_a_dataset_that_one_has_in_hand_and_a_mapped_file_are_left_alone(
    leaking: tuple[ImageDataset, ImageDataset], tmp_path: Path
) -> None:
    """The one was made by whoever has it, the other may be larger than the memory."""
    train, test = leaking
    assert load_dataset(DatasetSplits(name="own", train=train, test=test, source="own")).notes == ()
    np.save(tmp_path / "x.npy", train.images)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert load_dataset(((mapped, train.labels), (test.images, test.labels))).notes == ()
