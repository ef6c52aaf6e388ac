import dataclasses
import json
import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchnin import RECIPES, Augmentation, Recipe, model_entry, named_recipe, recipe_for


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_comes_back_from_its_description(name: str) -> None:
    recipe = named_recipe(name)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_the_d2l_recipe_is_the_notebooks() -> None:
    recipe = named_recipe("d2l")
    assert (recipe.num_epochs, recipe.batch_size, recipe.lr, recipe.image_size) == (10, 128, 0.1, 224)
    assert (recipe.momentum, recipe.weight_decay, recipe.warmup, recipe.label_smoothing, recipe.ema_decay) == (0, 0, 0, 0, 0)
    assert (recipe.optimizer, recipe.schedule, recipe.clip_norm, recipe.class_weights) == ("sgd", "constant", None, False)
    assert (recipe.normalise, recipe.augmentation, recipe.initialisation) == (False, Augmentation(), "xavier")


def test_networks_that_can_collapse_get_the_steady_recipe() -> None:
    assert recipe_for(model_entry("nin_d2l").config) == RECIPES["steady"]
    assert recipe_for(model_entry("nin_small").config) == RECIPES["fast"]


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(ValueError, match="no recipe is named 'stedy'; did you mean steady"):
        named_recipe("stedy")
    with pytest.raises(ValueError, match="the recipes: fast, long, steady, d2l"):
        named_recipe("adam")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("lr", value) for value in (0.0, -1.0, math.inf, math.nan)],
        *[("num_epochs", 0), ("batch_size", 0), ("momentum", 1.0), ("momentum", -0.1), ("weight_decay", -1e-4), ("warmup", 1.0)],
        *[("label_smoothing", 1.0), ("clip_norm", 0.0), ("clip_norm", -1.0), ("ema_decay", 1.0), ("image_size", 0), ("image_size", 8193)],
        *[("schedule", "step"), ("initialisation", "ones"), ("optimizer", "adam"), ("muon_lr", -0.1), ("muon_momentum", 1.0)],
        *[("num_epochs", 1.5), ("num_epochs", "3"), ("batch_size", 64.0), ("lr", "0.1"), ("lr", 1j), ("momentum", 10**400)],
        *[("keep_norms", 1), ("normalise", "no"), ("class_weights", None)],
        *[("lr", 1e300), ("muon_lr", 1e31), ("weight_decay", 1e300), ("clip_norm", math.inf), ("num_epochs", 10**9)],
        *[("muon_lr", 0.0), ("muon_lr", math.nan), ("warmup", math.nan), ("min_batches", None), ("lr", None)],
    ],
)
def test_a_value_out_of_range_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(f'{field} is {value!r}')}; "):
        Recipe(**{field: value})


def test_numpys_numbers_become_pythons() -> None:
    given: dict[str, Any] = {"num_epochs": np.int64(3), "image_size": np.uint8(7), "lr": np.float32(0.5), "keep_norms": np.True_}
    plain = Recipe(num_epochs=3, image_size=7, lr=0.5, keep_norms=True)
    assert json.dumps(Recipe(**given).to_dict()) == json.dumps(plain.to_dict())


def test_the_advice_names_the_rates_that_the_recipe_has() -> None:
    assert Recipe(optimizer="sgd", lr=0.1).gentler == "a lower --lr (now 0.1)"
    assert named_recipe("steady").remedy == "try a lower --lr and --muon-lr (now 0.005 and 0.05)"
    assert named_recipe("d2l").remedy == "use --recipe steady, whose start keeps the class maps alive"  # smaller steps do not learn
    assert named_recipe("fast").remedy.startswith("use --recipe steady, whose start keeps the class maps alive, or a lower --lr")


def test_an_augmentation_is_no_dictionary() -> None:
    with pytest.raises(ValueError, match=re.escape("augmentation is {'flip': True}; accepted: an Augmentation")):
        Recipe(augmentation={"flip": True})  # type: ignore[arg-type]


def test_an_unknown_field_is_refused() -> None:
    with pytest.raises(ValueError, match="'learning_rate'"):
        Recipe.from_dict({"learning_rate": 0.1})
    with pytest.raises(ValueError, match="'rotate'"):
        Recipe.from_dict({"augmentation": {"rotate": 3}})


@given(
    num_steps=st.integers(1, 5000),
    warmup=st.floats(0, 1, exclude_max=True),
    schedule=st.sampled_from(["constant", "linear", "cosine"]),
    lr=st.floats(1e-6, 10),
)
def test_the_learning_rate_rises_then_falls_and_is_never_zero(num_steps: int, warmup: float, schedule: Any, lr: float) -> None:
    recipe = Recipe(warmup=warmup, schedule=schedule, lr=lr)
    rates = [recipe.lr_at(step, num_steps) for step in range(num_steps)]
    # A step with a rate of nothing would be thrown away.
    assert all(0 < rate <= lr * (1 + 1e-9) for rate in rates)
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    if schedule == "constant":
        assert rates[top:] == [rates[top]] * (num_steps - top)
    else:
        assert rates[top:] == sorted(rates[top:], reverse=True)
        assert top <= math.ceil(warmup * num_steps)


def test_the_schedules_by_hand() -> None:
    rates = [Recipe(lr=1.0, warmup=0.5, schedule="linear").lr_at(step, 8) for step in range(8)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1.0, 0.8, 0.6, 0.4, 0.2])
    cosine = Recipe(lr=2.0, warmup=0.0, schedule="cosine")
    assert [cosine.lr_at(step, 3) for step in range(3)] == pytest.approx([1 - math.cos(math.pi * left) for left in (3 / 4, 2 / 4, 1 / 4)])


def test_what_is_changed_holds_however_few_the_pictures_are() -> None:
    fast = named_recipe("fast")
    changed = fast.changed(num_epochs=3, batch_size=256, lr=0.2, shift=2)
    assert (changed.num_epochs, changed.batch_size, changed.lr) == (3, 256, 0.2)
    assert changed.augmentation == Augmentation(flip="auto", shift=2)
    fitted = changed.fitted(num_pictures=100, mirror=True)
    assert (fitted.num_epochs, fitted.batch_size) == (3, 256)
    assert (fast.changed(lr=0.2).min_steps, fast.changed(lr=0.2).min_batches) == (fast.min_steps, fast.min_batches)
    with pytest.raises(TypeError, match="rotate"):
        fast.changed(rotate=3)


def test_a_recipe_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        named_recipe("fast").lr = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("pictures", "batch_size", "num_epochs"),
    [(60_000, 512, 10), (54_000, 512, 10), (6_000, 64, 10), (1_650, 32, 16), (100, 32, 267), (3, 32, 800)],
)
def test_few_pictures_get_smaller_batches_and_more_epochs(pictures: int, batch_size: int, num_epochs: int) -> None:
    fast = named_recipe("fast")
    fitted = fast.fitted(num_pictures=pictures, mirror=True)
    assert (fitted.batch_size, fitted.num_epochs) == (batch_size, num_epochs)
    assert dataclasses.replace(fitted, batch_size=512, num_epochs=10, min_batches=50, min_steps=800) == dataclasses.replace(
        fast, augmentation=fitted.augmentation
    )
    assert fitted.fitted(num_pictures=pictures, mirror=False) == fitted
    assert named_recipe("d2l").fitted(num_pictures=pictures, mirror=False) == named_recipe("d2l")


@pytest.mark.parametrize(("pictures", "batch_size", "num_epochs"), [(60_000, 128, 10), (6_400, 128, 16), (1_650, 32, 16), (100, 32, 267)])
def test_steady_does_too(pictures: int, batch_size: int, num_epochs: int) -> None:
    fitted = named_recipe("steady").fitted(num_pictures=pictures, mirror=False)
    assert (fitted.batch_size, fitted.num_epochs) == (batch_size, num_epochs)


@pytest.mark.parametrize("mirror", [True, False])
def test_flips_follow_the_data_unless_they_are_asked_for(mirror: bool) -> None:
    assert named_recipe("fast").fitted(num_pictures=60_000, mirror=mirror).augmentation.flip is mirror
    asked = Recipe(augmentation=Augmentation(flip=True))
    assert asked.fitted(num_pictures=60_000, mirror=mirror).augmentation.flip is True
