"""Whether an exported file answers as `predict` does: real pictures of several sizes and batch sizes, run in onnxruntime."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from torchnin.data import Preprocessing, decode_picture, load_dataset
from torchnin.data.pictures import PictureSource
from torchnin.data.resize import resize_bytes
from torchnin.exported import ExportedClassifier
from torchnin.models import NiN
from torchnin.prediction import Prediction

TOLERANCE = 1e-4
"""The largest difference between a probability in the file and in `predict` with which an export is accepted."""
MOST_PICTURES = 64
"""Of more pictures that are given so many are compared, spread evenly over them."""
_BATCH_SIZES = (1, 2, 5)
_PHOTO = (401, 502)  # above the size from which `predict` shrinks a picture as soon as it is decoded

Predict = Callable[[Sequence[np.ndarray]], Sequence[Prediction]]
"""What the file is compared with: from pictures (h, w, channels), uint8, to a prediction for each."""


class Pictures(Sequence[np.ndarray]):
    """The pictures to compare with, uint8 (channels, h, w), at most `MOST_PICTURES`; each is decoded when it is asked for, and not kept.

    Args:
        sources: any number.
        channels: of the classifier.
    """

    def __init__(self, sources: Sequence[PictureSource], channels: int) -> None:
        places = np.linspace(0, len(sources) - 1, min(MOST_PICTURES, len(sources))).round().astype(int)
        self._sources, self._channels = [sources[place] for place in places], channels

    def __len__(self) -> int:
        return len(self._sources)

    def __getitem__(self, place: Any) -> Any:
        return decode_picture(self._sources[place], self._channels)


class ExportError(RuntimeError):
    """The exported graph is not what it should be; nothing was written."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Check:
    """How far the file's answers are from those of `predict`."""

    largest_difference: float
    """Of any probability of any picture."""
    largest_map_difference: float | None
    """Of any value of a class map, as a share of the largest value of the maps (of one, where that is smaller); None without maps."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width of the pictures that were compared."""
    batch_sizes: tuple[int, ...]
    """How many pictures of a size went through the graph at once."""
    num_pictures: int
    """How many pictures were compared."""


def compare(
    model: bytes, network: NiN, preprocessing: Preprocessing, predict: Predict, pictures: Sequence[np.ndarray] | None = None
) -> Check:
    """Run the file on real pictures, enlarged, shrunken, both at once, alone and in batches, beside `predict`.

    Args:
        model: the exported file's bytes.
        network: where the class maps of the comparison come from.
        preprocessing: of that network.
        predict: what the probabilities are compared with.
        pictures: uint8 (channels, h, w), any sizes; without any, windows over pictures of Fashion-MNIST laid side by side, others
            for each channel.
    """
    exported = ExportedClassifier(model)
    differences, map_differences = [0.0], [0.0]
    shapes: list[tuple[int, ...]] = []
    for group in _groups(preprocessing, pictures):
        shapes.append(group.shape)
        answers = predict([np.ascontiguousarray(picture.transpose(1, 2, 0)) for picture in group])
        expected = np.array([[answer.probabilities[name] for name in exported.class_names] for answer in answers])
        for size in sorted({min(size, len(group)) for size in _BATCH_SIZES}):
            differences.append(_largest(exported.run(group[:size]) - expected[:size]))
        if exported.has_class_maps:
            with torch.inference_mode():
                maps = network.class_maps(preprocessing(torch.from_numpy(group))).numpy()
            map_differences.append(_largest(exported.class_maps(group) - maps) / max(1.0, _largest(maps)))
    return Check(
        largest_difference=max(differences, key=_not_a_number_first),
        largest_map_difference=max(map_differences, key=_not_a_number_first) if exported.has_class_maps else None,
        sizes=tuple(dict.fromkeys((height, width) for _, _, height, width in shapes)),
        batch_sizes=tuple(sorted({min(size, count) for size in _BATCH_SIZES for count, *_ in shapes})),
        num_pictures=sum(count for count, *_ in shapes),
    )


def require_agreement(check: Check) -> None:
    """Accept a file, or not.

    Raises:
        ExportError: a difference is above `TOLERANCE`, or is no number.
    """
    for what, difference in (("a probability", check.largest_difference), ("a value of a class map", check.largest_map_difference)):
        if difference is not None and not difference <= TOLERANCE:
            raise ExportError(
                f"the exported graph answers otherwise than predict: {what} differs by {difference:.2g}, accepted is {TOLERANCE:g}; "
                "no file was written. Another version of onnxruntime or torch may agree; please report both versions"
            )


def _groups(p: Preprocessing, pictures: Sequence[np.ndarray] | None) -> Iterator[np.ndarray]:
    """Batches of pictures, each of one size; no more of those that were given at a time than one, for they may be large."""
    sizes = dict.fromkeys(
        (
            (p.height, p.width),
            (2, 5),
            (p.height // 2 + 1, max(5, p.width // 3)),
            (3 * p.height + 5, 2 * p.width + 7),
            (p.height // 2 + 1, 2 * p.width + 7),
            (3 * p.height + 5, max(5, p.width // 3)),
            _PHOTO,
        )
    )
    count = max(_BATCH_SIZES)
    if not pictures:
        sheet = _sheet()
        yield from (np.stack([_window(sheet, p.channels, number, *size) for number in range(count)]) for size in sizes)
        return
    yield from (picture[None] for picture in pictures)
    stretched: list[list[np.ndarray]] = [[] for _ in sizes]
    for number in range(count):
        picture = pictures[number % len(pictures)][None]
        for group, size in zip(stretched, sizes, strict=True):
            group.append(resize_bytes(picture, *size))
    yield from map(np.concatenate, stretched)


def _sheet() -> np.ndarray:
    """The sample's 1,000 test pictures side by side, 25 rows of 40: pixels as pictures have them, at any size."""
    images = load_dataset("fashion-mnist-sample").test.images[:, 0]
    height, width = images.shape[1:]
    return images.reshape(25, 40, height, width).transpose(0, 2, 1, 3).reshape(25 * height, 40 * width)


def _window(sheet: np.ndarray, channels: int, number: int, height: int, width: int) -> np.ndarray:
    """A part of the sheet, uint8 (channels, height, width), beginning at a picture of its own for each number and channel."""
    rows, columns = np.arange(height), np.arange(width)
    parts = []
    for channel in range(channels):
        corner = 28 * (7 * number + channel)
        parts.append(sheet[np.ix_((rows + corner) % sheet.shape[0], (columns + corner) % sheet.shape[1])])
    return np.stack(parts)


def _largest(values: np.ndarray) -> float:
    return float(np.abs(values).max())


def _not_a_number_first(value: float) -> float:
    return value if value == value else float("inf")
