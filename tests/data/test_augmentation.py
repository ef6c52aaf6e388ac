import dataclasses
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from torchnin import Augmentation, DatasetSplits


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pictures(few: DatasetSplits) -> Tensor:
    return torch.from_numpy(few.train.images)


def same(a: Tensor, b: Tensor) -> Tensor:
    """Which pictures are equal: bool of shape (n,)."""
    return (a == b).flatten(1).all(1)


def test_nothing_asked_nothing_done(pictures: Tensor) -> None:
    assert Augmentation()(pictures, generator()) is pictures


@pytest.mark.parametrize("augmentation", [Augmentation(flip=True), Augmentation(shift=3), Augmentation(erase=0.5)])
def test_the_same_state_gives_the_same_pictures_and_the_given_ones_stay(pictures: Tensor, augmentation: Augmentation) -> None:
    before = pictures.clone()
    first, again, other = (augmentation(pictures, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(pictures, before)
    assert (first.dtype, first.shape) == (torch.uint8, pictures.shape)


def test_flip_mirrors_every_other_picture(pictures: Tensor) -> None:
    flipped = Augmentation(flip=True)(pictures, generator())
    mirrored, kept = same(flipped, pictures.flip(3)), same(flipped, pictures)
    assert (mirrored | kept).all()
    assert 0.4 < mirrored.float().mean() < 0.6  # 320 pictures: 3.6 standard deviations


def test_shift_moves_whole_pixels_and_repeats_the_border(pictures: Tensor) -> None:
    moved = Augmentation(shift=2)(pictures, generator())
    padded = torch.nn.functional.pad(pictures.float(), (2, 2, 2, 2), mode="replicate").to(torch.uint8)
    hits = {
        (down, right): same(moved, padded[:, :, 2 + down : 30 + down, 2 + right : 30 + right])
        for down in range(-2, 3)
        for right in range(-2, 3)
    }
    assert torch.stack(list(hits.values())).any(0).all()
    # Each of the 25 places is taken by about 13 of 320 pictures.
    assert all(2 <= int(hit.sum()) <= 40 for hit in hits.values())


def test_every_channel_moves_alike() -> None:
    colour = torch.randint(0, 256, (64, 1, 9, 12), dtype=torch.uint8, generator=generator()).repeat(1, 3, 1, 1)
    moved = Augmentation(flip=True, shift=4)(colour, generator())
    assert torch.equal(moved[:, :1].repeat(1, 3, 1, 1), moved)


def test_erasing_fills_a_rectangle_of_the_stated_size() -> None:
    blank = torch.full((2000, 1, 32, 32), 7, dtype=torch.uint8)
    erased = Augmentation(erase=0.3)(blank, generator())
    changed = (erased != 7)[:, 0].numpy()
    hit = changed.any((1, 2))
    assert 0.26 < hit.mean() < 0.34
    shares = []
    for mask in changed[hit]:
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        height, width = rows[-1] - rows[0] + 1, columns[-1] - columns[0] + 1
        shares.append(height * width / 1024)
        assert mask.sum() >= 0.9 * height * width - 2  # noise hits the old grey level once in 256
    assert min(shares) > 0.005
    assert max(shares) <= 0.45
    assert 0.15 < np.mean(shares) < 0.25


def test_the_noise_is_noise() -> None:
    erased = Augmentation(erase=1.0)(torch.full((500, 1, 28, 28), 7, dtype=torch.uint8), generator())
    noise = erased[erased != 7].float()
    assert abs(float(noise.mean()) - 127.5) < 2
    assert abs(float(noise.std()) - 73.9) < 2


@pytest.mark.parametrize(("field", "value"), [("shift", -1), ("erase", 1.5), ("erase", -0.1), ("erase", float("nan"))])
def test_what_makes_no_sense_is_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{field} is {value}"):
        Augmentation(**{field: value})  # type: ignore[arg-type]


def test_a_shift_beyond_the_picture_is_still_a_picture(pictures: Tensor) -> None:
    assert Augmentation(shift=100)(pictures[:8], generator()).shape == (8, 1, 28, 28)


def test_a_batch_of_fewer_pictures_than_processes_is_changed_as_in_one(pictures: Tensor) -> None:
    augmentation = Augmentation(flip=True, shift=2, erase=1.0)
    whole, of = pictures[:2], 3
    parts = [slice(len(whole) * which // of, len(whole) * (which + 1) // of) for which in range(of)]
    changed = [augmentation(whole[part], generator(), part, len(whole)) for part in parts]
    assert [len(part) for part in changed] == [0, 1, 1]
    assert torch.equal(torch.cat(changed), augmentation(whole, generator()))


@pytest.fixture(scope="module")
def unchecked(as_users_have_it: Callable[[type], Any]) -> Any:
    return as_users_have_it(Augmentation)


@pytest.mark.parametrize(
    "values", [{"flip": 1}, {"flip": "yes"}, {"flip": None}, {"shift": 1.5}, {"shift": "1"}, {"shift": -1}, {"erase": "a"}, {"erase": 1.5}]
)
def test_what_is_no_such_change_is_refused(unchecked: Any, values: dict[str, Any]) -> None:
    [(name, value)] = values.items()
    with pytest.raises(ValueError, match=f"^{name} is {value!r}; it is "):
        unchecked(**values)


def test_numpys_numbers_become_pythons(unchecked: Any) -> None:
    values = unchecked(flip=np.True_, shift=np.int64(1), erase=np.float32(0.25))
    assert json.dumps(dataclasses.asdict(values)) == '{"flip": true, "shift": 1, "erase": 0.25}'
