"""What is said of pictures, one or a stream of them, whatever computes the probabilities. Imports no torch."""

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import numpy as np

from torchnin.data.ahead import decode_ahead
from torchnin.data.errors import DataError
from torchnin.data.pictures import PICTURE_FILES, PictureFile, PictureSource

if TYPE_CHECKING:
    from torch import Tensor

MOST_AHEAD = 256
"""Pictures of a stream that are decoded ahead and answered at once, at most; more would only keep the first answers back."""
LARGE_PIXELS = 256 * 256
"""Pixels above which a picture is made small as soon as it is decoded: those of many would fill the memory."""

# Up to so many classes Python ranks those of a single picture in less time than numpy takes to begin.
_FEW_CLASSES = 64

_Decoded = TypeVar("_Decoded")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a classifier says of one picture."""

    label: str
    """Name of the most probable class."""
    probability: float
    """Its probability, 0 to 1."""
    probabilities: dict[str, float]
    """Probability of every class by name, the most probable first; they sum to one."""


class Predictor(ABC, Generic[_Decoded]):
    """Answers for one picture, for many, and for streams of them in bounded memory.

    What computes the answers gives `class_names` and the three methods that are not written here.
    """

    class_names: tuple[str, ...]
    """The name of each class, in the order of the probabilities."""

    @abstractmethod
    def decode(self, picture: PictureSource) -> _Decoded:
        """What is needed of one picture, in little memory; runs on several threads at once.

        Raises:
            DataError: the picture does not decode; the message names it.
            ValueError: an array has a shape or type that is no picture.
        """

    @abstractmethod
    def _probabilities(self, decoded: Sequence[_Decoded]) -> np.ndarray:
        """Probabilities `(n, num_classes)`, in the order of `class_names`, of one decoded picture or more."""

    @abstractmethod
    def _batch_size(self) -> int:
        """How many pictures of the size that the network sees fit into the memory together."""

    # A path is an iterable of letters and an array one of its rows, so the first that fits decides.
    @overload
    def predict(self, pictures: PictureFile) -> Prediction: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, pictures: "np.ndarray | Tensor") -> Prediction | list[Prediction]: ...  # type: ignore[overload-overlap]

    @overload
    def predict(self, pictures: Iterable[PictureSource]) -> list[Prediction]: ...

    def predict(self, pictures: Any) -> Any:
        """Classify one picture or many.

        Args:
            pictures: a path, the bytes of a file, a PIL image, or a uint8 array or tensor of shape (H, W), (H, W, C) or
                (C, H, W), 0 to 255; or an iterable of those, or a batch of shape (N, C, H, W). Any size; other channel
                counts are converted (grey is repeated, colour becomes luma).

        Returns:
            A `Prediction` for one picture, a list of them, in order, for many.

        Raises:
            DataError: a picture does not decode; the message names it.
            TypeError: it is neither a picture nor several.
            ValueError: an array has a shape or type that is no picture; or the network has diverged, so that there are no probabilities.
        """
        if _is_one(pictures):
            return self.predict_decoded([self.decode(pictures)])[0]
        if not isinstance(pictures, Iterable):
            raise TypeError(
                f"pictures is of type {type(pictures).__name__}; accepted: a path, a file's bytes, a PIL image, an array or a tensor, "
                "or several of those"
            )
        return list(self.predict_each(pictures))

    def predict_each(self, pictures: Iterable[PictureSource]) -> Iterator[Prediction]:
        """Like `predict` for many pictures, but one after the other as they are done, in bounded memory."""
        for prediction in self.predict_or_error(pictures):
            if isinstance(prediction, DataError):
                raise prediction
            yield prediction

    def predict_or_error(self, pictures: Iterable[PictureSource]) -> Iterator[Prediction | DataError]:
        """Like `predict_each`, but a picture that does not decode gives its error, in its place, and the others go on.

        The next pictures are decoded on a few threads while the network looks at those before them; up to a batch of them is
        taken from `pictures` ahead.
        """
        size = min(MOST_AHEAD, self._batch_size())
        if (whole := self._decoded_whole(pictures)) is not None:
            for start in range(0, len(whole), size):
                yield from self.predict_decoded(whole[start : start + size])
            return
        decoded = decode_ahead(pictures, self.decode, ahead=size)
        while group := list(islice(decoded, size)):
            answers = iter(self.predict_decoded([item for item in group if not isinstance(item, DataError)]))
            for item in group:
                yield item if isinstance(item, DataError) else next(answers)

    def _decoded_whole(self, pictures: Iterable[PictureSource]) -> Sequence[_Decoded] | None:
        """What `decode` would give of each, where that is to be had at once, as of a batch in one array; else None."""
        return None

    def predict_decoded(self, pictures: Sequence[_Decoded]) -> list[Prediction]:
        """Predictions, in order, of pictures that `decode` gave, computed at once: the caller bounds their number.

        Raises:
            ValueError: the network has diverged, so that there are no probabilities.
        """
        if not len(pictures):
            return []
        probabilities = self._probabilities(pictures)
        rows = probabilities.tolist()
        if len(rows) == 1 and len(rows[0]) <= _FEW_CLASSES and math.isfinite(sum(rows[0])):
            return [self._answer(rows[0], sorted(range(len(rows[0])), key=rows[0].__getitem__, reverse=True))]
        if not (finite := np.isfinite(probabilities)).all():
            raise ValueError(without_probabilities(int((~finite).any(1).sum()), len(probabilities)))
        # Ranked for all pictures at once: beside a small network, sorting picture by picture is a tenth of the time.
        return list(map(self._answer, rows, (-probabilities).argsort(axis=1, kind="stable").tolist()))

    def _answer(self, row: list[float], ranked: list[int]) -> Prediction:
        names = self.class_names
        return Prediction(label=names[ranked[0]], probability=row[ranked[0]], probabilities={names[place]: row[place] for place in ranked})


def usual_batch(pictures: Any, channels: int) -> np.ndarray | None:
    """Pictures in one array as `decode_picture` would give each of them: uint8 `(n, channels, h, w)`, not large; else None."""
    if not isinstance(pictures, np.ndarray) or pictures.dtype != np.uint8 or pictures.ndim != 4 or not pictures.size:
        return None
    _, found, height, width = pictures.shape
    # A last axis of so few is that of (h, w, channels); large pictures are made small one by one.
    return pictures if found == channels and width not in (1, 3, 4) and height * width <= LARGE_PIXELS else None


def as_several(pictures: Any) -> list[Any]:
    """One picture in a list, or several, as `predict` tells the one from the other."""
    return [pictures] if _is_one(pictures) else list(pictures)


def without_probabilities(strange: int, count: int) -> str:
    """What is said of pictures whose logits are not finite, so many of all."""
    return (
        f"the logits of {strange:,} of {count:,} pictures are not finite, so they have no probabilities; "
        "the network has diverged or its pictures hold such values: train again with a smaller learning rate"
    )


def _is_one(pictures: Any) -> bool:
    if isinstance(pictures, PICTURE_FILES):
        return True
    return getattr(pictures, "ndim", 4) in (2, 3) and hasattr(pictures, "shape")
