from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchnin import DataError
from torchnin.data import decode_picture
from torchnin.data.pictures import PictureSource
from torchnin.prediction import Predictor


class Brightness(Predictor[float]):
    """Dark or bright, by the mean of the pixels: the least that answers."""

    class_names = ("dark", "bright")

    def __init__(self) -> None:
        self.groups: list[int] = []

    def decode(self, picture: PictureSource) -> float:
        return float(decode_picture(picture, 1).mean()) / 255

    def _probabilities(self, decoded: Sequence[float]) -> np.ndarray:
        self.groups.append(len(decoded))
        return np.array([[1 - mean, mean] for mean in decoded])

    def _batch_size(self) -> int:
        return 16


def grey(level: int) -> np.ndarray:
    return np.full((3, 5), level, dtype=np.uint8)


def test_the_most_probable_class_comes_first() -> None:
    bright = Brightness().predict(grey(204))
    assert (bright.label, bright.probability) == ("bright", pytest.approx(0.8))
    assert list(bright.probabilities) == ["bright", "dark"]
    assert Brightness().predict([grey(0), Image.fromarray(grey(255))])[0].label == "dark"


def test_what_is_no_number_is_no_probability() -> None:
    class Diverged(Brightness):
        def _probabilities(self, decoded: Sequence[float]) -> np.ndarray:
            return np.where(np.array(decoded)[:, None] > 0.5, np.nan, super()._probabilities(decoded))

    assert Diverged().predict(grey(0)).label == "dark"
    with pytest.raises(ValueError, match="the logits of 1 of 2 pictures are not finite, so they have no probabilities"):
        Diverged().predict([grey(0), grey(255)])


def test_a_stream_is_answered_in_order_and_taken_in_groups() -> None:
    taken = 0

    def stream() -> Iterator[np.ndarray]:
        nonlocal taken
        for level in range(100):
            taken += 1
            yield grey(level)

    predictor = Brightness()
    answers = predictor.predict_each(stream())
    first = next(answers)
    assert taken <= 48  # two groups of 16 and what the threads took; never the whole stream
    means = [first.probabilities["bright"], *(answer.probabilities["bright"] for answer in answers)]
    assert means == [pytest.approx(level / 255) for level in range(100)]
    assert max(predictor.groups) == 16


def test_what_does_not_decode_stands_in_its_place(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no")
    found = list(Brightness().predict_or_error([grey(0), broken, grey(255)]))
    assert isinstance(found[1], DataError)
    assert [found[0].label, found[2].label] == ["dark", "bright"]
    assert isinstance(next(Brightness().predict_or_error([broken])), DataError)
    with pytest.raises(DataError, match=r"broken\.png"):
        Brightness().predict([grey(0), broken])
