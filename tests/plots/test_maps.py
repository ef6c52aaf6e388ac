"""Pictures of a network's inside have their titles, units and words in both languages, and show what there is at any size."""

import itertools
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from torchnin import plots

Draw = Callable[..., None]
NAMES = ["T-shirt/top", "Trouser", "$5 or $10"]
RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(256, size=(1, 28, 28), dtype=np.uint8)
PHOTO = RANDOM.integers(256, size=(3, 30, 50), dtype=np.uint8)

# Each picture: how it is drawn, and words that a reader must find on it, English and Chinese.
PICTURES: dict[str, tuple[Draw, list[str], list[str]]] = {
    "class maps": (
        lambda path, **options: plots.class_maps_over_picture(
            PHOTO,
            RANDOM.normal(size=(3, 30, 50)),
            NAMES,
            [0.9, 0.08, 0.02],
            [4.25, 1.5, -0.75],
            path,
            values=(3, 5),
            seen=(28, 39),
            given=(28, 48),
            **options,
        ),
        [
            "Class maps over the picture",
            "picture, in pixels",
            *NAMES,
            "probability 0.900, mean 4.25",
            "class map (its mean is the logit)",
            "3x5 values in each map; each sees up to 28x39 of the 28x48 pixels",
        ],
        ["图片上的类别图", "图片（像素）", *NAMES, "概率 0.900，均值 4.25", "类别图（均值即 logit）", "每张类别图有 3x5 个值"],
    ),
    "feature maps": (
        lambda path, **options: plots.feature_maps(
            [RANDOM.random((40, 7, 7)), RANDOM.normal(size=(3, 4, 4))], path, class_names=NAMES, **options
        ),
        ["block 1: 40x7x7, the first 32 channels", "block 2: 3x4x4", "activation", *NAMES],
        ["块 1：40x7x7，前 32 个通道", "块 2：3x4x4", "激活值", *NAMES],
    ),
    "pixel": (
        lambda path, **options: plots.pixel_mlp(
            PICTURE,
            (13, 17),
            [((9, 7), [("3x3", RANDOM.random(24)), ("1x1", RANDOM.random(32))]), ((4, 3), [("3x3", RANDOM.normal(size=3))])],
            path,
            class_names=NAMES,
            **options,
        ),
        [
            "The MLP at pixel (13, 17): channels before and after each 1x1",
            "block 1, row 9, column 7",
            "3x3 (24)",
            "1x1 (32)",
            "channel",
            *NAMES,
        ],
        ["像素 (13, 17) 处的 MLP", "块 1，第 9 行，第 7 列", "3x3 (24)", "通道", *NAMES],
    ),
}


def test_titles_over_narrow_pictures_stay_clear_of_the_colour_bar(drawn_figure: Callable[[Draw], Figure]) -> None:
    picture = RANDOM.integers(256, size=(1, 200, 10), dtype=np.uint8)
    maps, names = RANDOM.normal(size=(3, 200, 10)), [*NAMES[:2], "a class of a name of 34 characters"]
    figure = drawn_figure(lambda path: plots.class_maps_over_picture(picture, maps, names, [0.5, 0.3, 0.2], [1.0, 0.0, -1.0], path))
    *panels, bar = figure.axes
    places = [axes.title.get_window_extent() for axes in panels]
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise(places))
    assert places[-1].x1 < bar.get_window_extent().x0


@pytest.mark.parametrize(("width", "columns"), [(400, 3), (800, 2), (3000, 1)])
def test_wide_pictures_have_the_width_of_the_page(width: int, columns: int, drawn_figure: Callable[[Draw], Figure]) -> None:
    picture, maps = RANDOM.integers(256, size=(1, 200, width), dtype=np.uint8), RANDOM.normal(size=(2, 20, width // 10))
    figure = drawn_figure(lambda path: plots.class_maps_over_picture(picture, maps, NAMES[:2], [0.5, 0.3], [1.0, 0.0], path))
    *panels, bar = figure.axes
    shown = [axes.get_window_extent() for axes in panels[:3]]
    assert len({round(box.x0) for box in shown}) == columns
    assert all(box.width * columns > 0.75 * bar.get_window_extent().x0 for box in shown)
    titles = [axes.title.get_window_extent() for axes in panels[:3]]
    assert not any(one.overlaps(other) for one, other in itertools.combinations([*titles, *shown], 2))


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_has_its_words(picture: str, has_its_words: Callable[..., None]) -> None:
    has_its_words(*PICTURES[picture])


@pytest.mark.parametrize("picture", PICTURES)
def test_a_picture_is_a_file_of_the_kind_its_name_says(picture: str, is_a_file_of_its_kind: Callable[[Draw], None]) -> None:
    is_a_file_of_its_kind(PICTURES[picture][0])


def test_every_edge_of_the_data_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "drawn.pdf"
    zero = np.zeros((1, 28, 28))
    plots.class_maps_over_picture(PICTURE, zero, ["dead"], [0.1], [0.0], path)
    plots.class_maps_over_picture(PICTURE[:, :1, :1], zero[:, :1, :1] + 1, ["one pixel"], [1.0], [1.0], path)
    plots.class_maps_over_picture(np.zeros((4, 9, 40), np.uint8), np.ones((5, 9, 40)), "abcde", [0.1] * 5, [1.0] * 5, path)
    plots.feature_maps([np.zeros((1, 1, 1)), np.zeros((17, 1, 90))], path)


def test_names_stand_under_the_tiles_that_are_drawn(texts_of: Callable[[Path], str], tmp_path: Path) -> None:
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        for count in (5, 40):
            names = [f"class-{number}-" for number in range(count)]
            plots.feature_maps([np.ones((count, 4, 4))], tmp_path / "few.svg", class_names=names, most=2)
            assert [name for name in names if name in texts_of(tmp_path / "few.svg")] == names[:2]


@pytest.mark.parametrize("shown", [3, 5, 10, 16])
@pytest.mark.parametrize("name", ["Cherry_(including_sour)___Powdery_mildew", "NORTHERN LEAF BLIGHT OF MAIZE", "Ankle boot"])
def test_names_under_tiles_stay_apart(name: str, shown: int, drawn_figure: Callable[[Draw], Figure]) -> None:
    figure = drawn_figure(lambda path: plots.feature_maps([np.ones((shown, 4, 4))], path, class_names=[name] * shown))
    tiles, bar = figure.axes
    places = [label.get_window_extent() for label in tiles.get_xticklabels()]
    assert len(places) == shown
    assert all(left.x1 < right.x0 for left, right in itertools.pairwise([*places, bar.get_window_extent()]))


def test_a_photo_of_many_pixels_is_drawn_in_the_time_of_a_small_one(tmp_path: Path) -> None:
    photo = np.zeros((3, 3000, 4000), np.uint8)
    maps = np.broadcast_to(np.linspace(-1, 1, 4000, dtype=np.float32), (2, 3000, 4000))
    plots.class_maps_over_picture(photo, maps, ["left", "right"], [0.5, 0.5], [0.0, 0.0], tmp_path / "maps.png")
    with Image.open(tmp_path / "maps.png") as image:
        assert max(image.size) < 3000


def test_the_picture_beside_the_channels_at_a_pixel_is_thinned_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[tuple[int, ...], object]] = []
    imshow = Axes.imshow
    monkeypatch.setattr(
        Axes, "imshow", lambda axes, values, **given: drawn.append((values.shape, given["extent"])) or imshow(axes, values, **given)
    )
    photo = np.zeros((1, 3000, 4000), np.uint8)
    plots.pixel_mlp(photo, (3999, 2999), [((0, 0), [("conv", np.ones(2))])], tmp_path / "mlp.png")
    assert drawn == [((750, 1000), (-0.5, 3999.5, 2999.5, -0.5))]


@pytest.mark.parametrize("channels", [10, 30, 384, 1024])
def test_each_channel_at_a_pixel_is_as_wide_as_a_dot_at_least(channels: int, drawn_figure: Callable[[Draw], Figure]) -> None:
    layers = [(name, np.ones(channels)) for name in ("3x3", "1x1", "1x1")]
    figure = drawn_figure(lambda path: plots.pixel_mlp(PICTURE, (1, 2), [((0, 0), layers)], path))
    bars = [bar for axes in figure.axes for bar in axes.patches]
    assert len(bars) == 3 * channels
    assert min(bar.get_window_extent().width for bar in bars) > 1  # else it may fall between two dots


def test_the_cross_at_a_pixel_is_whole_in_a_corner_too(drawn_figure: Callable[[Draw], Figure]) -> None:
    sizes = []
    for place in ((13, 13), (0, 0), (27, 27)):
        figure = drawn_figure(lambda path, place=place: plots.pixel_mlp(PICTURE, place, [((0, 0), [("3x3", np.ones(2))])], path))
        sizes += [line.get_tightbbox(figure.canvas.get_renderer()).size.round(3).tolist() for line in figure.axes[0].lines]
    assert sizes == sizes[:2] * 3
