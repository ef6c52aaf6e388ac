import dataclasses
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from PIL import Image

from torchnin import DatasetSplits, ImageDataset, Preprocessing

GREY = Preprocessing(channels=1, height=28, width=28, mean=(0.2860,), std=(0.3530,))


def test_it_comes_back_from_its_description() -> None:
    made = Preprocessing(channels=3, height=5, width=7, mean=(0.1, 0.2, 1 / 3), std=(0.3, 0.1, 0.7))
    described = json.loads(json.dumps(made.to_dict()))
    assert Preprocessing.from_dict(described) == made
    assert "bilinear" in described["resize"]  # a reader of config.json learns the rule


@pytest.fixture(scope="module")
def unchecked(as_users_have_it: Callable[[type], Any]) -> Any:
    return as_users_have_it(Preprocessing)


@pytest.mark.parametrize("row", [list, np.array, torch.tensor])
def test_numbers_of_any_library_become_pythons(unchecked: Any, row: Any) -> None:
    """A classifier with a mean of numpy's could be trained and used, and not saved."""
    side, quarter = np.int64(7), np.float32(0.25)
    given = {"channels": np.uint8(3), "height": side, "width": side, "scale": quarter}
    made = unchecked(**given, mean=row([0.25, 0.5, 0.75]), std=row([1.0, 0.5, 0.25]))
    assert made == unchecked(channels=3, height=7, width=7, mean=(0.25, 0.5, 0.75), std=(1.0, 0.5, 0.25), scale=0.25)
    again = unchecked.from_dict(json.loads(json.dumps(made.to_dict())))
    assert again == made
    assert hash(again) == hash(made)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"height": 28.5}, "height is 28.5; it is a whole number, at least 1"),
        ({"channels": "1"}, "channels is '1'; it is a whole number"),
        ({"mean": 0.5}, "mean is 0.5; it is one number per channel, such as (0.5,)"),
        ({"std": np.float32(0.5)}, "std is np.float32(0.5); it is one number per channel"),
        ({"std": ("a",)}, "std is 'a'; it is one number per channel"),
        ({"scale": None}, "scale is None; it is a number above 0"),
    ],
)
def test_what_is_of_another_type_is_told_by_name(unchecked: Any, given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        unchecked(**{**dataclasses.asdict(GREY), **given})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"mean": [0.1, 0.2]}, "mean has 2 values and std 1; each needs one per channel, 1"),
        ({"std": [0.0]}, "std and scale above 0"),
        ({"std": [float("nan")]}, "finite"),
        ({"scale": -1.0}, "above 0"),
        ({"height": 0}, "at least 1"),
        ({"shear": 3}, "no description of a preprocessing"),
        ({"mean": None}, "no description of a preprocessing"),
    ],
)
def test_a_description_that_fits_nothing_is_refused(changed: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Preprocessing.from_dict({**GREY.to_dict(), **changed})


def test_a_missing_field_is_refused(unchecked: Any) -> None:
    description = GREY.to_dict()
    del description["std"]
    with pytest.raises(ValueError, match="'std'"):
        Preprocessing.from_dict(description)
    with pytest.raises(ValueError, match="this is no description of a preprocessing"):
        unchecked.from_dict(None)


def test_the_notebooks_enlargement_is_pillows(few: DatasetSplits) -> None:
    pictures = few.test.images[:12]
    large = Preprocessing(channels=1, height=224, width=224, mean=(0.0,), std=(1.0,)).resize(torch.from_numpy(pictures))
    expected = np.stack([np.asarray(Image.fromarray(picture[0]).resize((224, 224), Image.Resampling.BILINEAR)) for picture in pictures])
    assert np.abs(large[:, 0].numpy() - expected).max() <= 1


def test_shrinking_is_pillows_too(few: DatasetSplits) -> None:
    pictures = few.test.images[:12]
    small = Preprocessing(channels=1, height=9, width=13, mean=(0.0,), std=(1.0,)).resize(torch.from_numpy(pictures))
    expected = np.stack([np.asarray(Image.fromarray(picture[0]).resize((13, 9), Image.Resampling.BILINEAR)) for picture in pictures])
    assert np.abs(small[:, 0].numpy() - expected).max() <= 1


def test_a_picture_of_the_right_size_is_not_touched(few: DatasetSplits) -> None:
    pictures = torch.from_numpy(few.test.images[:3])
    assert torch.equal(GREY.resize(pictures), pictures.float())


def test_normalising_is_the_written_formula() -> None:
    made = Preprocessing(channels=3, height=2, width=2, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3, 4, 1).reshape(1, 3, 4, 256)
    mean, std = (torch.tensor(values, dtype=torch.float64).view(1, 3, 1, 1) for values in (made.mean, made.std))
    torch.testing.assert_close(made.normalise(pixels.float()).double(), (pixels.double() / 255 - mean) / std, rtol=0, atol=1e-6)


def test_statistics_are_those_of_the_pixels(few: DatasetSplits) -> None:
    made = Preprocessing.of(few.train)
    values = few.train.images.astype(np.float64) / 255
    assert made.mean[0] == pytest.approx(values.mean(), abs=1e-12)
    assert made.std[0] == pytest.approx(values.std(), abs=1e-12)
    assert (made.height, made.width) == (28, 28)
    normalised = made(torch.from_numpy(few.train.images))
    assert float(normalised.mean()) == pytest.approx(0, abs=1e-4)
    assert float(normalised.std()) == pytest.approx(1, abs=1e-4)


def test_statistics_of_colours_are_apart_and_a_flat_channel_is_no_division_by_zero() -> None:
    images = np.zeros((5000, 3, 2, 2), dtype=np.uint8)  # more than one chunk
    images[:, 1] = 51
    images[::2, 2] = 255
    made = Preprocessing.of(ImageDataset(images, np.zeros(5000, dtype=np.int64), ("a",)))
    assert made.mean == pytest.approx((0, 0.2, 0.5))
    assert made.std == pytest.approx((1, 1, 0.5))


def test_without_normalising_pixels_stay_between_zero_and_one(few: DatasetSplits) -> None:
    made = Preprocessing.of(few.train, image_size=40, normalise=False)
    out = made(torch.from_numpy(few.train.images[:4]))
    assert out.shape == (4, 1, 40, 40)
    assert 0 <= float(out.min()) <= float(out.max()) <= 1


def test_another_channel_count_is_noticed() -> None:
    with pytest.raises(TypeCheckError, match="batch"):  # the shape check that tests switch on
        GREY.resize(torch.zeros(1, 3, 28, 28))
