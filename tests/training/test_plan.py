"""What a training starts from."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchnin import (
    Augmentation,
    Classifier,
    DataError,
    DatasetSplits,
    ImageDataset,
    NiN,
    NiNConfig,
    Preprocessing,
    Recipe,
    create_model,
    load_dataset,
    model_entry,
)
from torchnin.data.resize import resize_bytes
from torchnin.device import choose_device
from torchnin.training.plan import Plan, make_plan, reading_size
from torchnin.training.processes import joined


def plan(network: NiN | NiNConfig | Classifier | str, data: object, recipe: Recipe | None = None) -> Plan:
    return make_plan(network, data, recipe, name=None, seed=0, validation=0.0, choice=choose_device("cpu"))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("test", 1)):
        for index, name in enumerate(("dark", "light")):
            for number in range(count):
                path = tmp_path / "photos" / split / name / f"{number}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (300, 260), (90 * index + number,) * 3).save(path)
    return tmp_path / "photos"


def test_a_folder_is_read_at_the_size_that_the_network_learns_from(photos: Path) -> None:
    assert plan("nin_small", photos).learned.image_size == (64, 64)
    assert plan("nin_d2l", photos).learned.image_size == (224, 224)  # 64 pixels leave it no class map
    assert plan("nin_small", photos, Recipe(image_size=100)).learned.image_size == (100, 100)
    wide = Preprocessing(channels=3, height=20, width=26, mean=(0.3,) * 3, std=(0.3,) * 3)
    trained = Classifier(create_model("nin_small", in_channels=3, num_classes=2), wide, ["dark", "light"])
    assert plan(trained, photos).learned.image_size == (20, 26)
    assert reading_size(model_entry("nin_cifar10").config, None) is None


def test_a_split_without_pictures_is_said_before_anything_is_learned(few: DatasetSplits) -> None:
    with pytest.raises(DataError, match="expected at least one train picture, found none"):
        plan("nin_small", load_dataset((few.test.images, few.test.labels), test_fraction=1))
    none = few.test.select([])
    for split in ("test", "validation"):
        with pytest.raises(DataError, match=f"expected at least one {split} picture, found none"):
            plan("nin_small", replace(few, **{split: none}))  # type: ignore[arg-type]


@pytest.mark.parametrize(("side", "learned_at"), [(8, 28), (12, 28), (16, 16), (28, 28), (40, 40)])
def test_pictures_of_which_class_maps_keep_one_value_are_enlarged(side: int, learned_at: int, few: DatasetSplits) -> None:
    def of_side(split: ImageDataset) -> ImageDataset:
        return replace(split, images=resize_bytes(np.asarray(split.images), side, side))

    small = replace(few, train=of_side(few.train), test=of_side(few.test))
    made = plan("nin_small", small)
    assert (made.preprocessing.height, made.preprocessing.width) == (learned_at, learned_at)
    with joined("cpu") as processes:
        said = [note for note in made.notes(processes, goes_on=False) if "enlarged" in note]
    assert len(said) == (side != learned_at)
    assert all(note.startswith(f"pictures of {side}x{side} pixels are enlarged to 28x28, for which the network is made") for note in said)
    assert plan("nin_small", small, Recipe(image_size=side)).preprocessing.height == side


def test_a_fully_connected_head_is_built_for_the_size_that_is_asked_for(photos: Path) -> None:
    config = replace(model_entry("nin_small").config, head="fc")
    assert plan(config, photos).network.config.image_size == 28
    made = plan(config, photos, Recipe(image_size=40))
    assert (made.network.config.image_size, made.preprocessing.height) == (40, 40)


def test_a_start_that_may_leave_class_maps_dead_is_said(few: DatasetSplits) -> None:
    def said(network: NiN | str, recipe: Recipe | None) -> bool:
        with joined("cpu") as processes:
            return any("named_recipe('steady')" in note for note in plan(network, few, recipe).notes(processes, goes_on=False))

    he = Recipe(num_epochs=1, initialisation="he")
    assert said("nin_mnist", he)
    assert not said("nin_mnist", None)
    assert not said("nin_mnist", Recipe(num_epochs=1))
    assert not said("nin_small", he)  # no ReLU on the class maps
    trained = create_model("nin_mnist")
    trained.pretrained = True
    assert not said(trained, he)


def test_a_start_that_is_left_out_is_alive_but_where_weights_were_trained(few: DatasetSplits) -> None:
    drawn, read = create_model("nin_mnist"), create_model("nin_mnist")
    read.load_state_dict(drawn.state_dict())
    assert plan("nin_mnist", few, Recipe(num_epochs=1)).recipe.initialisation == "alive"
    assert plan(drawn, few, Recipe(num_epochs=1)).recipe.initialisation == "alive"
    assert plan(read, few, Recipe(num_epochs=1)).recipe.initialisation == "as built"
    assert plan(drawn, few, Recipe(num_epochs=1, initialisation="as built")).recipe.initialisation == "as built"


def test_classes_that_are_missing_are_said_and_one_class_alone_is_refused(few: DatasetSplits) -> None:
    zeros = [np.flatnonzero(split.labels == 0) for split in (few.train, few.test)]
    rest = [np.flatnonzero(split.labels > 1) for split in (few.train, few.test)]
    without = replace(few, train=few.train.select(rest[0]), test=few.test.select(rest[1]))
    with joined("cpu") as processes:
        notes = list(plan("nin_small", without).notes(processes, goes_on=False))
        assert f"there is no picture to learn from of 2 of 10 classes: {few.class_names[0]!r}, {few.class_names[1]!r}" in notes
        assert not any("picture of 2" in note for note in notes)
        notes = list(plan("nin_small", replace(few, test=without.test, validation=without.test)).notes(processes, goes_on=False))
        for what in ("validation", "test"):
            said = f"there is no {what} picture of 2 of 10 classes, of which the {what} accuracy says nothing: {few.class_names[0]!r}, "
            assert said + repr(few.class_names[1]) in notes
        assert not any("there is no" in note for note in plan("nin_small", few).notes(processes, goes_on=False))
    one = [split.select(which).with_class_names(few.class_names[:1]) for split, which in zip((few.train, few.test), zeros, strict=True)]
    with pytest.raises(ValueError, match="all pictures are of one class, 'T-shirt/top'"):
        plan("nin_small", replace(few, train=one[0], test=one[1]))


def test_pictures_that_are_all_the_same_are_said(few: DatasetSplits) -> None:
    same = replace(few.train, images=np.repeat(np.asarray(few.train.images)[:1], len(few.train), axis=0))
    for train, expected in ((same, 1), (few.train, 0)):
        made = plan("nin_small", replace(few, train=train))
        with joined("cpu") as processes:
            said = [note for note in made.notes(processes, goes_on=False) if "are the same one" in note]
        assert len(said) == expected


def test_a_shift_that_leaves_nothing_of_a_picture_is_refused(few: DatasetSplits) -> None:
    plan("nin_small", few, Recipe(num_epochs=1, augmentation=Augmentation(shift=27)))
    with pytest.raises(ValueError, match=r"^shift is 28 pixels, and the pictures have 28x28: nothing would be left"):
        plan("nin_small", few, Recipe(num_epochs=1, augmentation=Augmentation(shift=28)))


def test_the_heading_says_the_seed_and_counts_in_plain_words(few: DatasetSplits) -> None:
    with joined("cpu") as processes:
        *_, heading = plan("nin_small", few, Recipe(num_epochs=1)).notes(processes, goes_on=False)
    assert ", 1 epoch, seed 0\n" in heading
