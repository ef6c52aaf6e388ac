"""Pictures of how good a classifier is have their titles, units and words in both languages."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from torchnin import plots

Draw = Callable[..., None]
NAMES = ["T-shirt/top", "Trouser", "$5 or $10"]
RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(256, size=(1, 28, 28), dtype=np.uint8)
PHOTO = RANDOM.integers(256, size=(3, 30, 50), dtype=np.uint8)

# Each picture: how it is drawn, and words that a reader must find on it, English and Chinese.
PICTURES: dict[str, tuple[Draw, list[str], list[str]]] = {
    "confusion": (
        lambda path, **options: plots.confusion_matrix(np.array([[901, 99, 0], [7, 993, 0], [0, 0, 0]]), NAMES, path, **options),
        ["Confusion matrix, in pictures", "true class", "predicted class", "share of the true class", "901", "99", "993", *NAMES],
        ["混淆矩阵（图片数）", "真实类别", "预测类别", "占真实类别的比例", "901", *NAMES],
    ),
    "reliability": (
        lambda path, **options: plots.reliability_diagram(
            [None, 0.5, 0.9], [None, 0.25, 1.0], [0, 4, 20], path, calibration_error=0.125, **options
        ),
        [
            "Reliability",
            "accuracy",
            "confidence",
            "pictures",
            "perfectly calibrated",
            "observed",
            "at the mean confidence",
            "expected calibration error 0.1250",
        ],
        ["概率的可靠性", "准确率", "置信度", "图片数", "完全校准", "实际", "位于平均置信度处", "期望校准误差 0.1250"],
    ),
    "sheet": (
        lambda path, **options: plots.picture_sheet([PICTURE, PHOTO], ["Coat\ntaken for Bag", "外套\n$1"], path, columns=5, **options),
        ["Most confident mistakes", "Coat", "taken for Bag", "外套", "$1"],
        ["最有把握的错误", "外套"],
    ),
    "mistakes": (
        lambda path, **options: plots.mistakes([PICTURE], ["Coat"], ["$5 or $10"], [0.9876], path, **options),
        ["Most confident mistakes", "Coat", "taken for $5 or $10", "probability 0.988"],
        ["最有把握的错误", "Coat", "误认为 $5 or $10", "概率 0.988"],
    ),
}


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_has_its_words(picture: str, has_its_words: Callable[..., None]) -> None:
    has_its_words(*PICTURES[picture])


@pytest.mark.parametrize("picture", [name for name in PICTURES if name != "sheet"])
def test_a_picture_is_a_file_of_the_kind_its_name_says(picture: str, is_a_file_of_its_kind: Callable[[Draw], None]) -> None:
    is_a_file_of_its_kind(PICTURES[picture][0])


@pytest.mark.parametrize(("classes", "most"), [(10, 28_424_901), (20, 8_888_888), (2, 10**9), (10, 950)])
def test_a_count_stays_in_its_cell(classes: int, most: int, drawn_figure: Callable[[Draw], Figure]) -> None:
    confusion = np.full((classes, classes), most)
    axes = drawn_figure(lambda path: plots.confusion_matrix(confusion, [f"class {place}" for place in range(classes)], path)).axes[0]
    cell = axes.get_window_extent().width / classes
    assert len(axes.texts) == classes**2
    assert all(text.get_window_extent().width < cell for text in axes.texts)


@pytest.mark.parametrize(("classes", "step"), [(2, 1), (120, 1), (121, 2), (1000, 9)])
def test_rows_and_columns_bear_names_as_far_as_there_is_room(classes: int, step: int, drawn_figure: Callable[[Draw], Figure]) -> None:
    names = [f"class {place}" for place in range(classes)]
    axes = drawn_figure(lambda path: plots.confusion_matrix(np.eye(classes, dtype=int), names, path)).axes[0]
    for ticks in (axes.get_xticks(), axes.get_yticks()):
        assert list(ticks) == list(range(0, classes, step))
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == names[::step]


@pytest.mark.parametrize("shape", ["{}", "Cherry_(including_sour)___{}", "{} of the cherry trees in the garden"])
def test_long_names_that_differ_at_one_end_differ_on_the_picture(shape: str, drawn_figure: Callable[[Draw], Figure]) -> None:
    names = [shape.format(name) for name in ("healthy", "mildew", "1", "2")]
    axes = drawn_figure(lambda path: plots.confusion_matrix(np.eye(4, dtype=int), names, path)).axes[0]
    drawn = [label.get_text() for label in axes.get_xticklabels()]
    assert len(set(drawn)) == 4
    assert max(map(len, drawn)) <= 24


def test_the_legend_of_a_reliability_diagram_stands_beside_it(drawn_figure: Callable[[Draw], Figure]) -> None:
    figure = drawn_figure(lambda path: plots.reliability_diagram([0.3, 0.5, 0.9], [1.0, 1.0, 1.0], [1, 1, 1], path))
    (legend,) = figure.legends
    place = legend.get_window_extent()
    assert not any(axes.get_legend() or axes.get_tightbbox().overlaps(place) for axes in figure.axes)
    assert 0 < place.x0 < place.x1 < figure.bbox.width


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(ValueError, match="0 pictures and 0 captions"):
        plots.picture_sheet([], [], "sheet.png")
    with pytest.raises(ValueError, match="2 pictures and 1 captions"):
        plots.picture_sheet([PICTURE, PICTURE], ["one"], "sheet.png")


def test_every_edge_of_the_data_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "drawn.pdf"
    plots.confusion_matrix(np.ones((3, 3), int), [f"{index} {'long name ' * 9}" for index in range(3)], path)
    plots.confusion_matrix(np.ones((121, 121), int), [str(index) for index in range(121)], path)
    plots.reliability_diagram([None], [None], [0], path)
