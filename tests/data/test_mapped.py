"""Memory-mapped pictures stay in their file, whatever is selected of them or made of them."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import torchnin
from torchnin.data import Batches, DataError, DatasetSplits, ImageDataset, Preprocessing, load_dataset
from torchnin.data import load as loading
from torchnin.data.mapped import MappedPictures, as_mapped, mapped_file

CPU = torch.device("cpu")


@pytest.fixture
def mapped(few: DatasetSplits, tmp_path: Path) -> ImageDataset:
    """The training pictures, in a file."""
    np.save(tmp_path / "pictures.npy", few.train.images)
    return ImageDataset(np.load(tmp_path / "pictures.npy", mmap_mode="r"), few.train.labels, few.class_names)


def assert_same(ours: ImageDataset, theirs: ImageDataset) -> None:
    """In a file and in memory, the same pictures."""
    assert mapped_file(ours.images) is not None
    assert mapped_file(theirs.images) is None
    assert ours.images.shape == theirs.images.shape
    assert ours.checksum == theirs.checksum
    assert np.array_equal(np.asarray(ours.images), theirs.images)
    assert Preprocessing.of(ours) == Preprocessing.of(theirs)
    streamed, resident = (Batches(each, batch_size=7, device=CPU, seed=1) for each in (ours, theirs))
    assert not streamed.resident
    for a, b in zip(streamed.epoch(2), resident.epoch(2), strict=True):
        assert torch.equal(a.pictures, b.pictures)
        assert torch.equal(a.labels, b.labels)


def test_what_is_split_off_stays_in_the_file(mapped: ImageDataset, few: DatasetSplits) -> None:
    for ours, theirs in zip(mapped.split(0.3, seed=5), few.train.split(0.3, seed=5), strict=True):
        assert_same(ours, theirs)
        # And what is split off of that.
        assert_same(ours.split(0.5, seed=1)[0], theirs.split(0.5, seed=1)[0])
    assert_same(mapped.select([4, 2, 2]), few.train.select([4, 2, 2]))


@pytest.mark.parametrize("where", ["places", "whole"])
def test_another_size_or_colour_is_made_as_it_is_read(
    where: str, mapped: ImageDataset, few: DatasetSplits, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_KEPT_BYTES", 1000)
    theirs = few.train
    if where == "places":
        mapped, theirs = mapped.select(range(5, 300)), theirs.select(range(5, 300))
    ours, plain = (load_dataset((each, few.test), image_size=17, channels=3).train for each in (mapped, theirs))
    assert_same(ours, plain)
    assert_same(ours.split(0.5, seed=0)[1], plain.split(0.5, seed=0)[1])
    again = [load_dataset((each, each.select(range(4))), image_size=9).train for each in (ours, plain)]
    assert_same(*again)


def test_what_takes_little_memory_is_made_once(mapped: ImageDataset, few: DatasetSplits) -> None:
    ours = load_dataset((mapped, few.test), image_size=17).train
    assert mapped_file(ours.images) is None
    assert ours.checksum == load_dataset((few.train, few.test), image_size=17).train.checksum


def test_they_are_indexed_as_an_array(mapped: ImageDataset, few: DatasetSplits) -> None:
    part, plain = mapped.select(range(3, 30)).images, few.train.images[3:30]
    assert isinstance(part, MappedPictures)
    keys: list[Any] = [4, -1, slice(2, 9), [5, 1], np.arange(27) % 2 == 0]
    for key in [*keys, (slice(None), 0), (3, 0, slice(4)), (slice(2), slice(None), 1)]:
        assert np.array_equal(part[key], plain[key])
    assert (part.shape, part.nbytes, part.dtype, part.ndim, len(part)) == (plain.shape, plain.nbytes, plain.dtype, 4, 27)


@pytest.mark.parametrize("form", ["places", "whole", "brought"])
def test_an_index_gives_what_numpy_gives_or_is_refused(form: str, mapped: ImageDataset, few: DatasetSplits) -> None:
    pictures, plain = as_mapped(mapped.images), np.asarray(few.train.images)
    assert pictures is not None
    if form == "places":
        pictures, plain = pictures.select(np.arange(29, 2, -1)), plain[29:2:-1]
    elif form == "brought":
        pictures, plain = pictures.brought(lambda some: 255 - some[..., ::2], (1, 28, 14)), 255 - plain[..., ::2]
    count = len(plain)
    mask = np.arange(count) % 2 == 0
    first: list[Any] = [4, -1, np.int64(2), np.array(2), slice(2, 9), slice(None, None, -3), [5, 1], [3], [], range(3), mask, mask.tolist()]
    first += [np.array([[0, 1], [5, -1]]), count, [0, 99999], mask[1:], 2.0, [0.5], "a"]
    others: list[Any] = [0, -1, 5, slice(None), slice(3), ..., [0, 0], [2, 1], [[0], [0]]]
    rests = [
        (),
        *itertools.product(others),
        *itertools.product(others, repeat=2),
        (0, slice(None), [1, 2]),
        (0, 5, 5),
        (0, 5, 5, 5),
        (0, None, 3),
    ]
    keys = [(), ..., *((each, *rest) for each in first for rest in rests), *((..., *rest) for rest in rests), *first]
    keys += [(..., 3, 0, 1, 2), (..., 3, 0, 1, 2, 0), (..., None, 3), (..., plain[0, 0] > 100)]
    given = 0
    for key in keys:
        try:
            expected = plain[key]
        except IndexError:
            with pytest.raises(IndexError):
                pictures[key]
            continue
        found = pictures[key]
        assert found.shape == expected.shape, key
        assert np.array_equal(found, expected), key
        given += 1
    assert given > 500
    for refused in (None, (None, 3), True, np.ones((count, 1), dtype=np.bool_), (..., plain > 100)):
        with pytest.raises(IndexError, match=f"whole numbers, slices, or one mask of all {count}"):
            pictures[refused]


def test_what_was_trained_and_measured_is_the_same(
    mapped: ImageDataset, few: DatasetSplits, tiny: torchnin.NiNConfig, tmp_path: Path
) -> None:
    weights, held_out, accuracies = set(), set(), set()
    for name, train in (("mapped", mapped), ("memory", few.train)):
        splits = DatasetSplits(name="few", train=train, test=few.test, source="here")
        recipe = torchnin.Recipe(num_epochs=1, batch_size=40)
        run = torchnin.train(tiny, splits, recipe, out=tmp_path / name, validation=0.2, quiet=True)
        weights.add((run.path / "classifier" / "model.safetensors").read_bytes())
        held_out.add(run.result["validation_accuracy"])
        accuracies.add(run.classifier.evaluate(train.select(range(50))).accuracy)
    assert len(weights) == len(held_out) == len(accuracies) == 1


def test_a_file_that_changes_is_noticed_by_what_was_selected_of_it(mapped: ImageDataset, tmp_path: Path) -> None:
    batches = Batches(mapped.select(range(20)), batch_size=4, device=CPU)
    (tmp_path / "pictures.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"pictures\.npy: expected the pictures as they were when the reading began"):
        list(batches.epoch())


HUGE = """
import resource, sys
import numpy as np, torch
from torchnin.data import Batches, load_dataset
array = np.memmap(sys.argv[1], dtype=np.uint8, mode="r", shape=(20_000, 1, 400, 400))
torch.zeros(1) + 1
limit = int(open("/proc/self/statm").read().split()[5]) * resource.getpagesize() + (512 << 20)
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
data = load_dataset((array, np.arange(20_000) % 10), image_size=200)
learned, held_out = data.train.split(0.25, seed=0)
for part in (learned, held_out, data.test):
    print(len(part), next(Batches(part, batch_size=8, device=torch.device("cpu"), seed=0).epoch()).pictures.shape)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="counts memory as Linux does")
def test_what_does_not_fit_the_memory_is_split_and_resized_within_it(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(20_000 * 400 * 400)  # 3.2 GB, of which nothing is on the disk; the process gets half a gigabyte
    done = subprocess.run([sys.executable, "-c", HUGE, str(tmp_path / "huge")], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{count} torch.Size([8, 1, 200, 200])" for count in (12000, 4000, 4000)]
