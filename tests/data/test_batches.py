from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torchnin import DatasetSplits, ImageDataset, Preprocessing, load_dataset
from torchnin.data import Batches, DataError, derived_seed

CPU = torch.device("cpu")


def numbered(count: int) -> ImageDataset:
    """Pictures that carry their own number in their pixels, and as their label."""
    numbers = np.arange(count)
    images = np.stack([numbers % 256, numbers // 256], 1).astype(np.uint8).reshape(count, 2, 1, 1)
    return ImageDataset(images, numbers.astype(np.int64), tuple(map(str, range(max(count, 1)))))


@given(count=st.integers(1, 60), batch_size=st.integers(1, 70), seed=st.none() | st.integers(0, 2**31), epoch=st.integers(0, 9))
def test_every_picture_once_an_epoch(count: int, batch_size: int, seed: int | None, epoch: int) -> None:
    batches = Batches(numbered(count), batch_size=batch_size, device=CPU, seed=seed)
    got = list(batches.epoch(epoch))
    assert len(got) == batches.num_batches
    assert sorted(torch.cat([batch.labels for batch in got]).tolist()) == list(range(count))
    assert all((batch.pictures[:, 0, 0, 0].long() + 256 * batch.pictures[:, 1, 0, 0].long()).equal(batch.labels) for batch in got)
    sizes = [len(batch.labels) for batch in got]
    assert all(size == batch_size for size in sizes[:-1])
    assert sizes[-1] > 1 or count == 1 or batch_size == 1


def test_a_single_picture_left_over_joins_the_batch_before() -> None:
    assert [len(batch.labels) for batch in Batches(numbered(9), batch_size=4, device=CPU).epoch()] == [4, 5]
    assert [len(batch.labels) for batch in Batches(numbered(10), batch_size=4, device=CPU).epoch()] == [4, 4, 2]
    assert [len(batch.labels) for batch in Batches(numbered(1), batch_size=4, device=CPU).epoch()] == [1]


def test_an_epoch_goes_on_where_it_stopped(few: DatasetSplits) -> None:
    batches = Batches(few.train, batch_size=32, device=CPU, seed=5)
    whole = list(batches.epoch(3))
    for start in (0, 4, 9, 10):
        rest = list(batches.epoch(3, start=start))
        assert len(rest) == 10 - start
        assert all(
            torch.equal(a.pictures, b.pictures) and torch.equal(a.labels, b.labels) for a, b in zip(whole[start:], rest, strict=True)
        )


def test_seed_and_epoch_decide_the_order(few: DatasetSplits) -> None:
    def order(seed: int | None, epoch: int) -> list[int]:
        return torch.cat([batch.labels for batch in Batches(few.train, batch_size=32, device=CPU, seed=seed).epoch(epoch)]).tolist()

    torch.manual_seed(1)
    first = order(1, 1)
    torch.manual_seed(2)
    assert order(1, 1) == first  # the global random numbers have no part in it
    assert len({tuple(each) for each in (first, order(1, 2), order(2, 1), order(None, 0))}) == 4
    assert order(None, 0) == order(None, 1) == few.train.labels.tolist()


def test_derived_seeds_differ_by_purpose_and_number() -> None:
    seeds = {derived_seed(seed, purpose, index) for seed in range(5) for purpose in ("order", "dropout") for index in range(20)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derived_seed(0, "order", 0) == derived_seed(0, "order")


def test_a_mapped_file_is_read_batch_by_batch(few: DatasetSplits, tmp_path: Path) -> None:
    np.save(tmp_path / "pictures.npy", few.train.images)
    mapped = np.load(tmp_path / "pictures.npy", mmap_mode="r")
    dataset = ImageDataset(mapped, few.train.labels, few.class_names)
    streamed = Batches(dataset, batch_size=50, device=CPU, seed=3)
    assert not streamed.resident
    resident = Batches(few.train, batch_size=50, device=CPU, seed=3)
    assert resident.resident
    for a, b in zip(streamed.epoch(2, start=1), resident.epoch(2, start=1), strict=True):
        assert torch.equal(a.pictures, b.pictures)
        assert torch.equal(a.labels, b.labels)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("mode", ["r", "r+"])
def test_mapped_arrays_given_as_data_stay_on_disk(few: DatasetSplits, tmp_path: Path, mode: Any, channels_last: bool) -> None:
    pictures = few.train.images.repeat(3, axis=1)
    np.save(tmp_path / "pictures.npy", pictures.transpose(0, 2, 3, 1) if channels_last else pictures)
    mapped = np.load(tmp_path / "pictures.npy", mmap_mode=mode)
    data = load_dataset(((mapped, few.train.labels), (pictures[:4], few.train.labels[:4])))
    assert np.shares_memory(data.train.images, mapped)
    assert not np.shares_memory(data.test.images, pictures)
    streamed = Batches(data.train, batch_size=50, device=CPU, seed=3)
    assert not streamed.resident
    resident = Batches(ImageDataset(pictures, few.train.labels, few.class_names), batch_size=50, device=CPU, seed=3)
    assert all(torch.equal(a.pictures, b.pictures) for a, b in zip(streamed.epoch(1), resident.epoch(1), strict=True))
    assert Preprocessing.of(data.train) == Preprocessing.of(ImageDataset(pictures, few.train.labels, few.class_names))


def test_a_mapped_file_larger_than_memory_is_no_trouble(tmp_path: Path) -> None:
    # A sparse file of 64 GB: only what a batch holds is ever read.
    count = 200_000
    huge = np.memmap(tmp_path / "huge", dtype=np.uint8, mode="w+", shape=(count, 1, 570, 570))
    huge = np.memmap(tmp_path / "huge", dtype=np.uint8, mode="r", shape=(count, 1, 570, 570))
    dataset = ImageDataset(huge, np.zeros(count, dtype=np.int64), ("a",))
    batch = next(Batches(dataset, batch_size=4, device=CPU).epoch())
    assert batch.pictures.shape == (4, 1, 570, 570)
    assert len(load_dataset(((huge, dataset.labels), (huge[:2], dataset.labels[:2]))).train) == count


def test_a_batch_size_of_nothing_is_refused(few: DatasetSplits) -> None:
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        Batches(few.train, batch_size=0, device=CPU)


def test_some_of_the_pictures_are_the_same_wherever_they_lie(few: DatasetSplits, tmp_path: Path) -> None:
    some = Batches(few.train, batch_size=33, device=CPU, seed=5).some(40)
    assert some.shape == (40, 1, 28, 28)
    assert some.dtype == torch.uint8
    np.save(tmp_path / "pictures.npy", few.train.images)
    mapped = ImageDataset(np.load(tmp_path / "pictures.npy", mmap_mode="r"), few.train.labels, few.class_names)
    assert torch.equal(Batches(mapped, batch_size=50, device=CPU, seed=5, share=(1, 4)).some(40), some)
    assert not torch.equal(Batches(few.train, batch_size=33, device=CPU, seed=6).some(40), some)
    assert len(few.train) == len(Batches(few.train, batch_size=33, device=CPU, seed=5).some(10**6))
    assert torch.equal(Batches(few.train, batch_size=33, device=CPU).some(3), torch.from_numpy(few.train.images[:3]))


def test_parts_make_the_whole(few: DatasetSplits) -> None:
    whole = list(Batches(few.train, batch_size=33, device=CPU, seed=5).epoch(1))
    parts = [list(Batches(few.train, batch_size=33, device=CPU, seed=5, share=(rank, 4)).epoch(1)) for rank in range(4)]
    for number, batch in enumerate(whole):
        assert torch.cat([part[number].pictures for part in parts]).equal(batch.pictures)
        assert all(part[number].labels.equal(batch.labels) and part[number].indices.equal(batch.indices) for part in parts)
        assert torch.cat([part[number].labels[part[number].part] for part in parts]).equal(batch.labels)
        assert max(len(part[number].pictures) for part in parts) - min(len(part[number].pictures) for part in parts) <= 1


def test_a_file_that_changes_while_it_is_read_is_noticed(few: DatasetSplits, tmp_path: Path) -> None:
    path = tmp_path / "pictures.npy"
    np.save(path, few.train.images)
    streamed = ImageDataset(np.load(path, mmap_mode="r"), few.train.labels, few.class_names)
    batches = Batches(streamed, batch_size=50, device=CPU, seed=3).epoch()
    next(batches)
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(DataError, match=r"pictures\.npy: expected the pictures as they were .* Put it back and go on with --resume"):
        list(batches)  # the next batch may have been read already
