"""A Network in Network as a scikit-learn classifier; needs scikit-learn (`pip install 'torchnin[sklearn]'`).

from torchnin.integrations.sklearn import NiNClassifier

model = NiNClassifier(num_epochs=3).fit(X, y)
cross_val_score(NiNClassifier(), X, y, cv=3)
GridSearchCV(NiNClassifier(num_epochs=3), {"network": ["nin_small", "nin_base"], "lr": [0.05, 0.15]})
"""

import operator
import tempfile
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from torchnin.classifier import Classifier
from torchnin.data import DatasetSplits, ImageDataset
from torchnin.data.pictures import array_of_tensor
from torchnin.models import NiNConfig, model_entry
from torchnin.training import Recipe, Run, recipe_for, train
from torchnin.training.start import recipe_of

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_consistent_length, check_is_fitted, column_or_1d, validate_data
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        f"NiNClassifier needs {missing.name}, which is not installed: pip install 'torchnin[sklearn]'", name=missing.name
    ) from missing

__all__ = ["NiNClassifier"]

# What rounds to the highest byte is one: a scaler's 1 may be 1.0000000000000002.
_BELOW = 255.5
# Pictures that are turned into numbers, or looked at, together: bounds the memory.
_AT_ONCE = 1024


class NiNClassifier(ClassifierMixin, BaseEstimator):
    """A Network in Network that `fit` trains and `predict` asks, by scikit-learn's rules for estimators.

    What is left out of the recipe's numbers is as the network's own recipe has it (`recipe_for`).

    Args:
        network: a network's name, a configuration, or a classifier, from whose weights each `fit` goes on.
        recipe: how to train: a recipe's name, a `Recipe`, or None for the network's own.
        num_epochs, batch_size, lr, muon_lr, weight_decay, label_smoothing, flip, shift, erase, image_size: as in a `Recipe` and its
            `Augmentation`; None leaves the recipe's.
        class_weight: `balanced` weighs rare classes as much as common ones.
        image_shape: how the values of a picture lie where X has one row of them: (h, w), (h, w, channels) or (channels, h, w), 1 or 3
            channels. None takes a square of grey pixels.
        validation_fraction: share of the pictures to hold out, in [0, 1); `history_` has the accuracy on them after every epoch.
        device: `auto`, or where to train and predict.
        random_state: decides everything that is random; None trains otherwise each time.
        verbose: show the training.

    Attributes:
        classes_: the labels, sorted: the columns of `predict_proba`.
        classifier_: the trained `Classifier`: explains, exports, is saved without pickle.
        history_: a row per epoch, as in a run's metrics.
        n_iter_: epochs.
        n_features_in_: values of a picture.
        feature_names_in_: the columns' names, where X was a table that has them.
    """

    def __init__(
        self,
        network: str | NiNConfig | Classifier = "nin_small",
        *,
        recipe: str | Recipe | None = None,
        num_epochs: int | None = None,
        batch_size: int | None = None,
        lr: float | None = None,
        muon_lr: float | None = None,
        weight_decay: float | None = None,
        label_smoothing: float | None = None,
        flip: bool | None = None,
        shift: int | None = None,
        erase: float | None = None,
        image_size: int | None = None,
        class_weight: Literal["balanced"] | None = None,
        image_shape: tuple[int, ...] | None = None,
        validation_fraction: float = 0.0,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool = False,
    ) -> None:
        self.network = network
        self.recipe = recipe
        self.num_epochs = num_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.muon_lr = muon_lr
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.flip = flip
        self.shift = shift
        self.erase = erase
        self.image_size = image_size
        self.class_weight = class_weight
        self.image_shape = image_shape
        self.validation_fraction = validation_fraction
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any) -> "NiNClassifier":
        """Train on pictures and their labels.

        Args:
            X: pictures `(n, h, w)`, `(n, h, w, channels)` or `(n, channels, h, w)`, or rows of their values `(n, h * w * channels)`.
                Values are 0 to 255; where none is above 1, 0 to 1.
            y: labels `(n,)`: numbers or text.

        Warns:
            ConvergenceWarning: what the monitor finds, such as class maps that died.

        Raises:
            ValueError: X or y is no such thing, or a parameter is out of range.
            TypeError: the network or the recipe is something else.
            TrainingError: the training cannot go on.
            KeyboardInterrupt: Ctrl-C.
        """
        values = _numbers(X)
        y = column_or_1d(y, warn=True)
        check_consistent_length(values, y)
        validate_data(self, X, skip_check_array=True, ensure_2d=False)  # the columns' names
        try:
            classes, labels = np.unique(y, return_inverse=True)
        except TypeError as error:
            kinds = ", ".join(sorted({type(label).__name__ for label in y}))
            raise ValueError(f"y has labels of several types, {kinds}; accepted: numbers alone, or text alone") from error
        check_classification_targets(y)
        if len(classes) < 2:
            raise ValueError(f"y has one class, {classes[0]}; a classifier needs at least two to tell apart")
        highest = float(values.max())
        scale = 255 if highest * 255 < _BELOW else 1
        if values.dtype.kind == "f" and scale == 1 and highest < 2:
            raise ValueError(f"X has values up to {highest:g}, which are neither 0 to 1 nor 0 to 255; where 1 is white: np.clip(X, 0, 1)")
        names = tuple(str(each) or repr(str(each)) for each in classes)  # a class of ours has a name
        accepted = "0 to 255, or 0 to 1 (no scaler is needed: they are standardised here)"
        pictures = ImageDataset(self._pixels(values, scale, accepted), labels.astype(np.int64), names)
        with tempfile.TemporaryDirectory(prefix="torchnin-") as folder:
            run = self._train(pictures, Path(folder) / "run")
            self.classifier_ = Classifier.load(run.path, device=self.device)
            self.history_ = run.metrics
        if not self.verbose:  # else it was shown when it was found
            for row in self.history_:
                for finding in row["findings"]:
                    warnings.warn(f"epoch {row['epoch']}: {finding['message']}", ConvergenceWarning, stacklevel=2)
        for name in ("test_accuracy", "test_accuracy_interval"):
            del self.classifier_.metadata[name]
        self.classes_, self._scale = classes, scale
        self.n_features_in_ = int(np.prod(values.shape[1:]))
        self.n_iter_ = len(self.history_)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `(n, num_classes)`, float64, in the order of `classes_`; X as in `fit`, of any height and width.

        Raises:
            NotFittedError: `fit` was not called.
            ValueError: X is no pictures, has other channels or values on another scale than in `fit`, or its rows have another length.
        """
        check_is_fitted(self, "classifier_")
        values = _numbers(X)
        if values.ndim == 2:
            validate_data(self, X, reset=False, skip_check_array=True, ensure_2d=False)
            if values.shape[1] != self.n_features_in_:
                raise ValueError(
                    f"X has {values.shape[1]} features, but NiNClassifier is expecting {self.n_features_in_} features as input"
                )
        accepted = f"0 to {255 // self._scale} here, as they had in fit"
        if self._scale == 255:
            accepted += " (MinMaxScaler keeps to that with clip=True)"
        elif _are_shares(values):
            low, high = float(values.min()), float(values.max())
            raise ValueError(f"X has values from {low:g} to {high:g}; pictures have {accepted}")
        pixels = self._pixels(values, self._scale, accepted)
        if pixels.shape[1] != self.classifier_.config.in_channels:
            raise ValueError(f"X has {pixels.shape[1]} channels; fit saw {self.classifier_.config.in_channels}")
        batches = (torch.from_numpy(pixels[start : start + _AT_ONCE]) for start in range(0, len(pixels), _AT_ONCE))
        return np.concatenate([self.classifier_.logits(batch).double().softmax(1).numpy() for batch in batches])

    def predict(self, X: Any) -> np.ndarray:
        """The most probable label of each picture, `(n,)`; X and errors as in `predict_proba`."""
        probabilities = self.predict_proba(X)
        return np.asarray(self.classes_[probabilities.argmax(1)])

    def _train(self, pictures: ImageDataset, folder: Path) -> Run:
        seed = self.random_state
        if not isinstance(seed, int | np.integer):
            seed = check_random_state(seed).randint(np.iinfo(np.int32).max)
        return train(
            self.network,
            # A run reports on test pictures, and here are none: one stands in, and what is said of it is taken away.
            DatasetSplits(name="arrays", train=pictures, test=pictures.select([0]), source="arrays"),
            self._recipe(),
            out=folder,
            seed=int(seed),
            device=self.device,
            validation=self.validation_fraction,
            quiet=not self.verbose,
        )

    def _recipe(self) -> Recipe:
        config = self.network
        if isinstance(config, str):
            config = model_entry(config).config
        elif isinstance(config, Classifier):
            config = config.config
        if not isinstance(config, NiNConfig):
            raise TypeError(f"network is of type {type(config).__name__}; accepted: a network's name, a NiNConfig or a Classifier")
        recipe = recipe_of(self.recipe) or recipe_for(config)
        if self.muon_lr is not None and recipe.optimizer != "muon":
            raise ValueError("muon_lr is for a recipe with Muon, as fast and steady are; this one learns by SGD alone, at lr")
        if self.class_weight not in (None, "balanced"):
            raise ValueError(f"class_weight is {self.class_weight!r}; accepted: None, 'balanced'")
        asked = {name: getattr(self, name) for name in _NUMBERS} | {"class_weights": True if self.class_weight else None}
        return recipe.changed(**{name: value for name, value in asked.items() if value is not None})

    def _pixels(self, values: np.ndarray, scale: int, accepted: str) -> np.ndarray:
        """The pictures, uint8 `(n, channels, h, w)`."""
        values = values if values.ndim > 2 else values.reshape(len(values), *self._shape(values.shape[1]))
        if values.ndim == 3:
            values = values[:, None]
        elif values.shape[-1] in (1, 3):
            values = values.transpose(0, 3, 1, 2)
        elif values.shape[1] not in (1, 3):
            raise ValueError(f"X is {values.shape}; pictures are (n, h, w), (n, h, w, channels) or (n, channels, h, w), 1 or 3 channels")
        if values.dtype == np.uint8 and scale == 1:
            return np.ascontiguousarray(values)
        pixels = np.empty(values.shape, np.uint8)
        for start in range(0, len(values), _AT_ONCE):
            part = values[start : start + _AT_ONCE]
            low, high = float(part.min()), float(part.max())  # a small integer times 255 would begin anew at 0
            if not (low * scale >= -0.5 and high * scale < _BELOW):  # nor where one is no number
                raise ValueError(f"X has values from {low:g} to {high:g}; pictures have {accepted}")
            pixels[start : start + _AT_ONCE] = np.rint(part * float(scale))
        return pixels

    def _shape(self, length: int) -> tuple[int, ...]:
        shape = self.image_shape
        if shape is None:
            side = round(length**0.5)
            if side * side != length:
                raise ValueError(
                    f"X has {length} values a picture, no square of grey pixels; say how they lie: image_shape=(h, w), "
                    "(h, w, channels) or (channels, h, w)"
                )
            return side, side
        try:
            sides = tuple(map(operator.index, shape))
        except TypeError:
            sides = ()
        if len(sides) not in (2, 3) or min(sides) < 1 or int(np.prod(sides)) != length:
            raise ValueError(
                f"image_shape is {shape}, which is no picture of {length} values, as X has them; accepted: (h, w), (h, w, channels) or "
                "(channels, h, w)"
            )
        return sides

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.input_tags.positive_only = True
        return tags


_NUMBERS = ("num_epochs", "batch_size", "lr", "muon_lr", "weight_decay", "label_smoothing", "flip", "shift", "erase", "image_size")


def _are_shares(values: np.ndarray) -> bool:
    """Whether they are 0 to 1 where white is 1: as 0 to 255 they would all be black."""
    if values.dtype.kind != "f" or not float(values.max()) * 255 < _BELOW:
        return False
    return any((values[start : start + _AT_ONCE] % 1).any() for start in range(0, len(values), _AT_ONCE))


def _numbers(X: Any) -> np.ndarray:
    """X as an array of numbers of at least one picture.

    Raises:
        ValueError: it is none.
    """
    if hasattr(X, "toarray"):
        raise ValueError(f"X is a {type(X).__name__}, a sparse matrix; pictures are dense: X.toarray()")
    values = array_of_tensor(X) if isinstance(X, torch.Tensor) else np.asarray(X)
    if values.dtype.kind == "O":  # as tables are whose columns have types of pandas' own
        with suppress(TypeError, ValueError):
            values = values.astype(np.float64)
    if values.dtype.kind not in "buif":
        raise ValueError(
            f"X has values of type {values.dtype}; pictures are numbers in one regular shape. Files and folders: torchnin.load_dataset"
        )
    if values.ndim not in (2, 3, 4) or 0 in values.shape:
        raise ValueError(f"X is {values.shape}; pictures are rows of values, (n, h, w), (n, h, w, channels) or (n, channels, h, w)")
    return values
