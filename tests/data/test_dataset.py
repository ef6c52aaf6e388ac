import hashlib
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchnin.data import DataError, DatasetSplits, ImageDataset


def dataset(labels: list[int], names: Sequence[str] = ("cat", "dog", "owl"), channels: int = 1, side: int = 4) -> ImageDataset:
    images = np.zeros((len(labels), channels, side, side), dtype=np.uint8)
    # The pixel tells which picture it was, so that a shuffled label is noticed.
    images[:, 0, 0, 0] = np.arange(len(labels)) % 256
    return ImageDataset(images, np.array(labels, dtype=np.int64), names)


def test_what_it_tells_of_itself() -> None:
    data = dataset([0, 0, 2], channels=3, side=5)
    assert len(data) == 3
    assert (data.num_classes, data.in_channels, data.image_size) == (3, 3, (5, 5))
    assert data.class_counts.tolist() == [2, 0, 1]
    assert repr(data) == "ImageDataset(3 pictures of 3x5x5, 3 classes)"


@pytest.mark.parametrize(
    ("images", "labels", "names", "said"),
    [
        (np.zeros((2, 1, 4, 4), np.float32), np.zeros(2, np.int64), ("a",), "expected a numpy array of dtype uint8"),
        (np.zeros((2, 4, 4), np.uint8), np.zeros(2, np.int64), ("a",), r"shape \(2, 4, 4\)"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(2, np.int32), ("a",), "int64"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(3, np.int64), ("a",), "2 pictures and 3 labels"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.array([0, 7]), ("a", "b"), r"labels from 0 to 1 .*found 7 at index 1"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.array([-1, 0]), ("a", "b"), "found -1 at index 0"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(2, np.int64), ("a", "a"), "'a' more than once"),
        (np.zeros((2, 1, 4, 4), np.uint8), np.zeros(2, np.int64), (), "at least one non-empty string"),
    ],
)
def test_contradictions_are_refused(images: np.ndarray, labels: np.ndarray, names: tuple[str, ...], said: str) -> None:
    with pytest.raises(DataError, match=said):
        ImageDataset(images, labels, names)


def test_the_checksum_sees_every_part() -> None:
    data = dataset([0, 1, 2])
    again = dataset([0, 1, 2])
    assert data.checksum == again.checksum
    assert len(data.checksum) == len(hashlib.sha256().hexdigest())
    pixels = data.images.copy()
    pixels[2, 0, 3, 3] = 1
    others = [
        dataset([0, 2, 1]),
        dataset([0, 1, 2], names=("cat", "dog", "bat")),
        ImageDataset(pixels, data.labels, data.class_names),
        ImageDataset(data.images.reshape(3, 1, 2, 8), data.labels, data.class_names),
    ]
    assert len({data.checksum, *(other.checksum for other in others)}) == 5


def test_select_takes_positions_and_masks() -> None:
    data = dataset([0, 1, 2, 1])
    assert data.select([3, 0]).images[:, 0, 0, 0].tolist() == [3, 0]
    assert data.select(data.labels == 1).labels.tolist() == [1, 1]
    assert len(data.select([])) == 0


@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=5).filter(lambda counts: max(counts) >= 2),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**32),
)
def test_a_split_is_disjoint_complete_and_stratified(counts: list[int], fraction: float, seed: int) -> None:
    labels = [label for label, count in enumerate(counts) for _ in range(count)]
    data = dataset(labels, names=tuple(f"class {index}" for index in range(len(counts))))
    rest, held_out = data.split(fraction, seed=seed)
    kept, held = rest.images[:, 0, 0, 0].tolist(), held_out.images[:, 0, 0, 0].tolist()
    assert sorted(kept + held) == list(range(len(labels)))
    assert kept == sorted(kept)
    assert held == sorted(held)
    for label, count in enumerate(counts):
        found = int(held_out.class_counts[label])
        assert found == 0 if count < 2 else 1 <= found <= count - 1
        if count >= 2:
            assert abs(found - fraction * count) <= 1
    again = data.split(fraction, seed=seed)[1]
    assert again.checksum == held_out.checksum


def test_a_split_is_the_same_on_every_machine() -> None:
    held_out = dataset([0] * 10 + [1] * 10).split(0.3, seed=0)[1]
    assert held_out.images[:, 0, 0, 0].tolist() == [1, 2, 3, 11, 13, 15]


def test_a_split_names_what_is_wrong() -> None:
    with pytest.raises(ValueError, match=r"fraction: expected a number between 0 and 1.*found 1\.5"):
        dataset([0, 0]).split(1.5, seed=0)
    with pytest.raises(ValueError, match=r"seed: expected .* found -1"):
        dataset([0, 0]).split(0.5, seed=-1)
    for wrong in ("0.5", None):
        with pytest.raises(ValueError, match=f"fraction is {wrong!r}; it is a number between 0 and 1"):
            dataset([0, 0]).split(wrong, seed=0)  # type: ignore[arg-type]
    for wrong in (1.5, "1", None):
        with pytest.raises(ValueError, match=f"seed is {wrong!r}; it is a whole number of at least 0"):
            dataset([0, 0]).split(0.5, seed=wrong)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="at least 2 pictures"):
        dataset([0, 1, 2]).split(0.5, seed=0)


@given(st.permutations(["cat", "dog", "owl", "bee"]))
def test_classes_are_matched_by_name(order: list[str]) -> None:
    data = dataset([0, 1, 2, 1])
    matched = data.with_class_names(order)
    assert [matched.class_names[label] for label in matched.labels] == ["cat", "dog", "owl", "dog"]
    assert matched.class_names == tuple(order)


def test_a_class_that_is_missing_is_named() -> None:
    with pytest.raises(DataError, match=r"class 'owl'.*1 pictures"):
        dataset([0, 1, 2]).with_class_names(("cat", "dog"))
    assert dataset([0, 1, 1]).with_class_names(("dog", "cat")).labels.tolist() == [1, 0, 0]


def test_names_are_several_and_no_text() -> None:
    with pytest.raises(DataError, match="expected several names, found the text 'cdo'"):
        dataset([0, 1], names="cdo")
    with pytest.raises(DataError, match="expected several names, found the text 'cdo'"):
        dataset([0, 1]).with_class_names("cdo")
    assert dataset([0, 1], names=np.array(["cat", "dog"])).class_names == ("cat", "dog")
    assert dataset([0, 1], names=(name for name in ("cat", "dog"))).class_names == ("cat", "dog")
    numbered = {"cat": 0, "dog": 1}
    for wrong, kind in ((set(numbered), "a set"), (numbered, "a dict"), (numbered.keys(), "a dict_keys"), (5, "a int")):
        with pytest.raises(DataError, match=f"class_names: expected several names in the order of the labels, found {kind}"):
            dataset([0, 1], names=wrong)
    for empty in (range(2), ("cat", ""), np.array([["cat"], ["dog"]]), (b"cat", b"dog")):
        with pytest.raises(DataError, match="class_names: expected at least one non-empty string"):
            dataset([0, 1], names=empty)


def test_splits_owe_each_other_classes_and_shape() -> None:
    with pytest.raises(DataError, match="same classes in every split"):
        DatasetSplits(name="x", train=dataset([0]), test=dataset([0], names=("dog", "cat", "owl")), source="here")
    with pytest.raises(DataError, match="same picture shape"):
        DatasetSplits(name="x", train=dataset([0]), test=dataset([0], side=5), source="here")
    assert DatasetSplits(name="x", train=dataset([0]), test=dataset([0]), source="here").class_names == ("cat", "dog", "owl")
