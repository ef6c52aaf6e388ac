"""What scikit-learn does with its estimators: cloning, searching, validating, pipelines, pickles; and what it is told of bad input."""

import pickle
import re
import signal
from typing import Any

import numpy as np
import pandas
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils import estimator_checks

import torchnin
from torchnin import Interrupted, Recipe, Run
from torchnin.integrations import sklearn as module
from torchnin.integrations.sklearn import NiNClassifier

# Enough to learn something of the digits, in a second.
SHORT: dict[str, Any] = {"image_size": 8, "num_epochs": 6, "batch_size": 32}


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """300 digits of 8x8 pixels, as rows of floats from 0 to 16."""
    X, y = load_digits(return_X_y=True)
    return X[:300], y[:300]


@pytest.fixture(scope="module")
def fitted(digits: tuple[np.ndarray, np.ndarray]) -> NiNClassifier:
    return NiNClassifier(**SHORT, validation_fraction=0.1).fit(*digits)


def test_it_learns_digits(fitted: NiNClassifier, digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    assert fitted.score(X, y) > 0.7
    probabilities = fitted.predict_proba(X)
    assert probabilities.shape == (300, 10)
    assert probabilities.sum(1) == pytest.approx(1)
    assert (fitted.predict(X) == fitted.classes_[probabilities.argmax(1)]).all()
    assert fitted.n_features_in_ == 64
    assert fitted.n_iter_ == len(fitted.history_) == 6
    assert "validation_accuracy" in fitted.history_[-1]


def test_a_label_may_be_empty(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    fitted = NiNClassifier(**{**SHORT, "num_epochs": 1}).fit(X, np.where(y < 5, "", "large"))
    assert fitted.classes_.tolist() == ["", "large"]
    assert fitted.classifier_.class_names == ("''", "large")


def test_the_classifier_inside_is_torchnins(fitted: NiNClassifier, digits: tuple[np.ndarray, np.ndarray], tmp_path: Any) -> None:
    picture = digits[0][0].reshape(8, 8).astype(np.uint8)
    expected = fitted.predict_proba(digits[0][:1])[0]
    fitted.classifier_.save(tmp_path)
    found = torchnin.load(tmp_path).predict(picture)
    assert [found.probabilities[str(label)] for label in fitted.classes_] == pytest.approx(expected, abs=1e-5)
    assert fitted.classifier_.explain(picture).class_names == tuple("0123456789")
    assert "test_accuracy" not in fitted.classifier_.metadata  # none was measured


def test_one_seed_one_training(fitted: NiNClassifier, digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    again = clone(fitted).fit(X, y)
    assert (again.predict_proba(X) == fitted.predict_proba(X)).all()
    other = clone(fitted).set_params(random_state=np.random.RandomState(1)).fit(X, y)
    assert (other.predict_proba(X) != fitted.predict_proba(X)).any()
    assert (pickle.loads(pickle.dumps(fitted)).predict_proba(X) == fitted.predict_proba(X)).all()


def test_every_layout_is_the_same_picture(fitted: NiNClassifier, digits: tuple[np.ndarray, np.ndarray]) -> None:
    X = digits[0][:20]
    expected = fitted.predict_proba(X)
    pictures = X.reshape(20, 8, 8)
    for same in (pictures, pictures[..., None], pictures[:, None], pictures.astype(np.uint8), pictures.astype(np.int64), X.tolist()):
        assert fitted.predict_proba(same) == pytest.approx(expected, abs=1e-6)
    many = digits[0][:400]
    larger = many.reshape(-1, 8, 8).repeat(2, 1).repeat(2, 2)
    agree = (fitted.predict(larger) == fitted.predict(many)).mean()
    assert agree > 0.5  # of any size: brought to the network's


def test_text_labels_and_pixels_from_0_to_1_in_a_pipeline(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    names = np.array([f"digit {label}" for label in y])
    pipeline = make_pipeline(MinMaxScaler(feature_range=(0, 1)), NiNClassifier(**SHORT)).fit(X, names)
    assert pipeline.score(X, names) > 0.7
    assert set(pipeline.predict(X[:20])) <= set(names)
    assert list(pipeline.classes_) == sorted(set(names))


def test_what_rounding_adds_to_1_is_1(digits: tuple[np.ndarray, np.ndarray]) -> None:
    """MinMaxScaler gives 1.0000000000000002 for some columns, and the pictures were read as 0 to 255: black and almost black."""
    X, y = digits
    added = X / 16
    added[added == 1] = np.nextafter(1, 2)
    short = {**SHORT, "num_epochs": 1}
    expected = NiNClassifier(**short).fit(X / 16, y).predict_proba(X / 16)
    assert (NiNClassifier(**short).fit(added, y).predict_proba(added) == expected).all()
    assert (NiNClassifier(**short).fit(X / 16, y).predict_proba(added) == expected).all()


@pytest.mark.parametrize("change", [{"network": None}, {"network": torchnin.create_model("nin_small")}, {"recipe": {}}])
def test_a_network_or_a_recipe_of_another_kind_is_named(change: dict[str, Any]) -> None:
    (name, value), *_ = change.items()
    with pytest.raises(TypeError, match=f"{name} is of type {type(value).__name__}; accepted: a"):
        NiNClassifier(**{**SHORT, **change}).fit(np.zeros((4, 64)), [0, 1, 0, 1])


def test_columns_of_another_order_are_told(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = pandas.DataFrame(digits[0], columns=[f"pixel{place}" for place in range(64)]), digits[1]
    model = NiNClassifier(**{**SHORT, "num_epochs": 1}).fit(X, pandas.Series(y))
    assert model.feature_names_in_.tolist() == list(X.columns)
    assert (model.predict_proba(X) == model.predict_proba(digits[0].reshape(-1, 8, 8))).all()
    with pytest.raises(ValueError, match="feature names should match"):
        model.predict(X[X.columns[::-1]])
    assert (model.predict_proba(X.convert_dtypes()) == model.predict_proba(X)).all()  # columns of pandas' own types


def test_bytes_are_refused_where_fit_saw_0_to_1(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    model = NiNClassifier(**{**SHORT, "num_epochs": 1}).fit(X / 16, y)
    for other in (X.astype(np.uint8), X.astype(np.int16), X):
        with pytest.raises(ValueError, match="X has values from 0 to 16; pictures have 0 to 1 here, as they had in fit"):
            model.predict(other)
    binary = (X > 8).astype(np.int8)
    assert (model.predict_proba(binary) == model.predict_proba(binary.astype(float))).all()
    NiNClassifier(**{**SHORT, "num_epochs": 1}).fit(binary, y)


def test_0_to_1_is_refused_where_fit_saw_bytes(fitted: NiNClassifier, digits: tuple[np.ndarray, np.ndarray]) -> None:
    """They were read as 0 to 255: pictures all black."""
    X, y = digits
    for other in (X / 16, (X / 16).astype(np.float32), (X / 16).reshape(-1, 8, 8), X[:1] / 255):
        for asked in (fitted.predict_proba, lambda other: fitted.score(other, y[: len(other)])):
            with pytest.raises(ValueError, match=r"X has values from 0 to .*; pictures have 0 to 255 here, as they had in fit"):
                asked(other)
    dark = np.minimum(X, 1)
    assert (fitted.predict_proba(dark) == fitted.predict_proba(dark.astype(np.uint8))).all()  # bytes, for all that can be seen


def test_tensors_of_any_type_are_numbers(fitted: NiNClassifier, digits: tuple[np.ndarray, np.ndarray]) -> None:
    X = torch.tensor(digits[0][:20])
    for dtype in (torch.float32, torch.uint8, torch.bfloat16):
        assert (fitted.predict_proba(X.to(dtype)) == fitted.predict_proba(digits[0][:20])).all()


def test_searching_and_cross_validation(digits: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = digits
    search = GridSearchCV(NiNClassifier(**SHORT), {"num_epochs": [1, 6], "network": ["nin_small"]}, cv=2).fit(X, y)
    assert search.best_params_["num_epochs"] == 6
    assert search.best_estimator_.n_iter_ == 6
    assert len(cross_val_score(NiNClassifier(**SHORT), X, y, cv=2)) == 2


def test_colour_is_told_by_its_shape() -> None:
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (40, 8, 8, 3), dtype=np.uint8), np.arange(40) % 2
    by_row = NiNClassifier(**SHORT, image_shape=(8, 8, 3)).fit(X.reshape(40, -1), y)
    by_shape = NiNClassifier(**SHORT).fit(X, y)
    planar = NiNClassifier(**SHORT, image_shape=(3, 8, 8)).fit(X.transpose(0, 3, 1, 2).reshape(40, -1), y)
    expected = by_shape.predict_proba(X)
    assert (by_row.predict_proba(X.reshape(40, -1)) == expected).all()
    assert (planar.predict_proba(X) == expected).all()
    with pytest.raises(ValueError, match="X has 1 channels; fit saw 3"):
        by_shape.predict(X[..., 0])


def test_recipes_and_trained_weights(digits: tuple[np.ndarray, np.ndarray], fitted: NiNClassifier) -> None:
    X, y = digits
    recipe = Recipe(num_epochs=1, batch_size=32, image_size=8, initialisation="he")
    model = NiNClassifier(recipe=recipe, erase=0.5, class_weight="balanced")
    assert (model._recipe().augmentation.erase, model._recipe().class_weights, model._recipe().num_epochs) == (0.5, True, 1)
    assert model.fit(X, y).n_iter_ == 1
    on = NiNClassifier(fitted.classifier_, **{**SHORT, "num_epochs": 1}).fit(X, y)
    assert on.history_[0]["train_loss"] < fitted.history_[0]["train_loss"]


@pytest.mark.parametrize(
    ("change", "X", "y", "said"),
    [
        ({}, np.zeros((4, 50)), [0, 1, 0, 1], "X has 50 values a picture, no square of grey pixels"),
        ({"image_shape": (4, 4)}, np.zeros((4, 50)), [0, 1, 0, 1], "image_shape is (4, 4), which is no picture of 50 values"),
        ({"image_shape": 8}, np.zeros((4, 64)), [0, 1, 0, 1], "image_shape is 8, which is no picture of 64 values"),
        ({"image_shape": (8.0, 8.0)}, np.zeros((4, 64)), [0, 1, 0, 1], "as X has them; accepted: (h, w), (h, w, channels)"),
        ({"image_shape": (-8, -8)}, np.zeros((4, 64)), [0, 1, 0, 1], "image_shape is (-8, -8), which is no picture of 64 values"),
        ({}, np.full((4, 64), -1.0), [0, 1, 0, 1], "X has values from -1 to -1; pictures have 0 to 255, or 0 to 1"),
        ({}, np.full((4, 64), 1.1), [0, 1, 0, 1], "X has values up to 1.1, which are neither 0 to 1 nor 0 to 255"),
        ({}, np.full((4, 64), 300), [0, 1, 0, 1], "X has values from 300 to 300; pictures have 0 to 255"),
        ({}, np.full((4, 64), np.nan), [0, 1, 0, 1], "X has values from nan to nan"),
        ({}, np.zeros((4, 8, 8, 5)), [0, 1, 0, 1], "X is (4, 8, 8, 5); pictures are"),
        ({}, np.zeros(64), [0], "X is (64,); pictures are"),
        ({}, np.zeros((0, 64)), [], "X is (0, 64); pictures are"),
        ({}, np.array(["a.png", "b.png"]), [0, 1], "Files and folders: torchnin.load_dataset"),
        ({}, np.zeros((4, 64)), [0, 0, 0, 0], "y has one class, 0; a classifier needs at least two"),
        ({}, np.zeros((4, 64)), np.array([0, "a", 0, "a"], object), "y has labels of several types, int, str; accepted"),
        ({"recipe": "d2l", "muon_lr": 0.1}, np.zeros((4, 64)), [0, 1, 0, 1], "muon_lr is for a recipe with Muon"),
        ({}, np.zeros((4, 64)), [0, 1], "inconsistent numbers of samples"),
        ({}, np.zeros((4, 64)), [0.1, 0.2, 0.3, 0.4], "Unknown label type"),
        ({"class_weight": "rare"}, np.zeros((4, 64)), [0, 1, 0, 1], "class_weight is 'rare'; accepted: None, 'balanced'"),
        ({"network": "nin_smal"}, np.zeros((4, 64)), [0, 1, 0, 1], "did you mean nin_small"),
        ({"lr": -1}, np.zeros((4, 64)), [0, 1, 0, 1], "lr is -1; it is a learning rate, above 0"),
    ],
)
def test_what_is_wrong_is_told(change: dict[str, Any], X: np.ndarray, y: list[float], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        NiNClassifier(**{**SHORT, **change}).fit(X, y)


def test_prediction_wants_what_fit_saw(fitted: NiNClassifier) -> None:
    with pytest.raises(NotFittedError):
        NiNClassifier().predict(np.zeros((1, 64)))
    with pytest.raises(ValueError, match="X has 65 features, but NiNClassifier is expecting 64 features as input"):
        fitted.predict(np.zeros((1, 65)))
    with pytest.raises(ValueError, match="X has values from 300 to 300"):
        fitted.predict(np.full((1, 64), 300.0))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_search_does_not_go_on_after_ctrl_c(digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise Interrupted("stopped", number)

    monkeypatch.setattr(module, "train", stopped)
    with pytest.raises(Interrupted):
        GridSearchCV(NiNClassifier(**SHORT), {"num_epochs": [1, 2]}, cv=2).fit(*digits)


def test_what_the_monitor_finds_is_a_warning(digits: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*given: Any, **named: Any) -> Run:
        run = torchnin.train(*given, **named)
        run.write_metrics([{**row, "findings": [{"message": "two class maps are dead"}]} for row in run.metrics])
        return run

    monkeypatch.setattr(module, "train", train)
    with pytest.warns(ConvergenceWarning, match="epoch 1: two class maps are dead"):
        NiNClassifier(**{**SHORT, "num_epochs": 1}).fit(*digits)


@pytest.mark.parametrize(
    "check",
    [
        "check_no_attributes_set_in_init",
        "check_parameters_default_constructible",
        "check_get_params_invariance",
        "check_set_params",
        "check_estimators_unfitted",
        "check_estimator_repr",
        "check_estimator_cloneable",
        "check_estimator_tags_renamed",
        "check_valid_tag_types",
        "check_mixin_order",
    ],
)
def test_scikit_learns_own_checks(check: str) -> None:
    """Those that ask for no learning from features that are no pictures."""
    getattr(estimator_checks, check)("NiNClassifier", NiNClassifier())
