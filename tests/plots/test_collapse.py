"""Pictures of trainings that fail have their titles, units and words in both languages."""

from collections.abc import Callable

import pytest

from torchnin import plots

Draw = Callable[..., None]
NAMES = ["T-shirt/top", "Trouser", "$5 or $10"]

# Each picture: how it is drawn, and words that a reader must find on it, English and Chinese.
PICTURES: dict[str, tuple[Draw, list[str], list[str]]] = {
    "accuracies beside": (
        lambda path, **options: plots.accuracies_beside(
            {"ours": [0.925, 0.93]}, {"public": [9, 19, 98]}, [0.0, 0.11, 0.7, 1.0], path, **options
        ),
        ["Test accuracy over the runs", "public: 126 runs, in bins", "ours: 2 runs, 0.925 to 0.930, median 0.927", "19", "accuracy"],
        ["多次运行的测试准确率", "public：126 次运行，按区间", "ours：2 次运行", "准确率"],
    ),
    "start": (
        lambda path, **options: plots.signal_at_the_start({"first": ([0.5, 0.01], [0, 3, 1])}, path, **options),
        [
            "Before the first step",
            "convolution (after it, ReLU)",
            "share that differs between pictures",
            "dead class maps",
            "seeds",
            "first",
        ],
        ["第一步之前", "卷积层", "随图片而变的部分所占比例", "死掉的类别图数", "种子数"],
    ),
    "lives": (
        lambda path, **options: plots.class_map_lives(
            [{"name": f"number {n}", "steps": [0, 5, 10], "accuracies": [0.1, 0.2, 0.8], "dead": [[0], [0, 1], []]} for n in range(6)],
            NAMES,
            path,
            **options,
        ),
        ["which class maps are dead", "number 5", "step", "accuracy", *NAMES],
        ["哪些类别图已死", "步", "准确率"],
    ),
    "price": (
        lambda path, **options: plots.price_of_dead_maps({"notebook": [(0, 0.9), (2, 0.7)]}, [(0.0, 0.0), (1.0, 0.9)], path, **options),
        [
            "What a dead class map costs",
            "a class lost for each dead map",
            "notebook (2)",
            "gradient that reaches its map (median map = 1)",
            "recall of the class",
        ],
        ["一张死掉的类别图的代价", "每张死图失去一个类别", "到达其类别图的梯度（中位的图 = 1）", "该类别的召回率"],
    ),
    "changes": (
        lambda path, **options: plots.changes_over_steps(
            {"none": [([0, 5], [0.1, 0.2])], "leaky": [([0, 5], [0.1, 0.7]), ([0, 5], [0.1, 0.8])]}, path, **options
        ),
        ["The same seeds with one thing changed", "none (n = 1)", "leaky (n = 2)", "step", "accuracy"],
        ["同样的种子，只改一处", "步", "准确率"],
    ),
}


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_has_its_words(picture: str, has_its_words: Callable[..., None]) -> None:
    has_its_words(*PICTURES[picture])


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_is_a_file_of_the_kind_its_name_says(picture: str, is_a_file_of_its_kind: Callable[[Draw], None]) -> None:
    is_a_file_of_its_kind(PICTURES[picture][0])
