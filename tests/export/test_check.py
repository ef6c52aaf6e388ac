from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from torchnin import DatasetSplits, ExportError, Prediction, Run
from torchnin.export.check import Check, compare, require_agreement


def test_real_pictures_of_many_sizes_alone_and_in_batches(trained: Run, exported: Path) -> None:
    classifier = trained.classifier
    check = compare(exported.read_bytes(), classifier.network, classifier.preprocessing, classifier.predict)
    assert check.largest_difference < 1e-5
    assert check.largest_map_difference is not None
    assert check.largest_map_difference < 1e-5
    heights, widths = zip(*check.sizes, strict=True)
    assert (28, 28) in check.sizes
    assert min(heights) < 28 < max(heights)
    assert min(widths) < 28 < max(widths)
    assert any(height < 28 < width for height, width in check.sizes)
    assert any(width < 28 < height for height, width in check.sizes)
    assert (check.batch_sizes, check.num_pictures) == ((1, 2, 5), 35)


def test_pictures_that_were_given(trained: Run, exported: Path, few: DatasetSplits) -> None:
    classifier = trained.classifier
    seen: list[tuple[int, ...]] = []

    def predict(pictures: Sequence[np.ndarray]) -> list[Prediction]:
        seen.extend(picture.shape for picture in pictures)
        return classifier.predict(pictures)

    pictures = [few.test.images[0], np.resize(few.test.images, (1, 33, 4))]
    check = compare(exported.read_bytes(), classifier.network, classifier.preprocessing, predict, pictures)
    assert check.largest_difference < 1e-5
    assert (33, 4, 1) in seen
    assert (33, 4) in check.sizes
    assert check.num_pictures == len(seen) == 2 + 35


@pytest.mark.parametrize(("difference", "of_maps"), [(2e-4, 0.0), (float("nan"), 0.0), (0.0, 2e-4), (0.0, float("nan"))])
def test_a_difference_that_is_too_large_or_no_number_is_refused(difference: float, of_maps: float) -> None:
    found = {"sizes": ((28, 28),), "batch_sizes": (1,), "num_pictures": 1}
    with pytest.raises(ExportError, match=r"differs by .*accepted is 0\.0001; no file was written"):
        require_agreement(Check(largest_difference=difference, largest_map_difference=of_maps, **found))
    require_agreement(Check(largest_difference=9e-5, largest_map_difference=None, **found))
