"""Every picture has its title, its units and its words in both languages, and is written whole or not at all."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager
from matplotlib.axes import Axes
from PIL import Image

from torchnin import plots
from torchnin.plots import style

Draw = Callable[..., None]

NAMES = ["T-shirt/top", "Trouser", "$5 or $10"]
RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(256, size=(1, 28, 28), dtype=np.uint8)
PHOTO = RANDOM.integers(256, size=(3, 30, 50), dtype=np.uint8)
ROWS = [
    {"epoch": 1, "train_loss": 2.1, "train_accuracy": 0.3, "validation_accuracy": None, "lr": 0.1},
    {"epoch": 2, "train_loss": float("nan"), "train_accuracy": 0.5, "validation_accuracy": 0.45, "lr": 0.1},
]

# Each picture: how it is drawn, and words that a reader must find on it, English and Chinese.
PICTURES: dict[str, tuple[Draw, list[str], list[str]]] = {
    "training curves": (
        lambda path, **options: plots.training_curves(ROWS, path, test_accuracy=0.4567, **options),
        ["Training", "epoch", "loss (cross-entropy)", "accuracy", "training", "validation", "test 0.4567"],
        ["训练过程", "轮次", "损失（交叉熵）", "准确率", "训练", "验证", "测试 0.4567"],
    ),
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
    "speeds": (
        lambda path, **options: plots.training_speeds(
            {"nin_d2l": {"first": (50.0, 45.0, 52.0), "second": (3000.0, 2900.0, 3100.0)}}, {"nin_d2l": 4000.0}, path, **options
        ),
        [
            "How fast the networks learn",
            "nin_d2l",
            "first",
            "50",
            "3,000 (60.0 times)",
            "bound",
            "4,000",
            "images per second, of the step alone",
        ],
        ["各网络的训练速度", "上限", "3,000（60.0 倍）", "每秒训练图片数"],
    ),
}


@pytest.fixture
def chinese_font() -> None:
    if style._chinese_family() is None:
        pytest.skip("no font with Chinese characters is installed")


def texts_of(path: Path) -> str:
    words = ["".join(element.itertext()) for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]
    return re.sub(r"\s+", " ", " | ".join(words))


# A character that no font has is a warning of matplotlib's, and a warning is an error here: what is written can be read.
@pytest.mark.usefixtures("chinese_font")
@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("picture", list(PICTURES))
def test_a_picture_has_its_words(picture: str, language: str, tmp_path: Path) -> None:
    draw, english, chinese = PICTURES[picture]
    path = tmp_path / "drawn.svg"
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        draw(path, language=language)
    found = texts_of(path)
    for words in english if language == "en" else chinese:
        assert words in found
    assert bool(re.search("[一-鿿]", found)) == (language == "zh" or picture == "sheet")


@pytest.mark.parametrize("picture", [name for name in PICTURES if name != "sheet"])
def test_a_picture_is_a_file_of_the_kind_its_name_says(picture: str, tmp_path: Path) -> None:
    draw, _, _ = PICTURES[picture]
    path = tmp_path / "folder to be made" / "drawn.png"
    draw(path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
        corner = np.asarray(image.convert("RGB"))[[0, -1]]
    assert (corner[:, [0, -1]] == 255).all()  # nothing is cut off into the corners, and the ground is white
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize(("suffix", "magic"), [(".pdf", b"%PDF"), (".jpg", b"\xff\xd8"), (".PNG", b"\x89PNG")])
def test_other_suffixes(suffix: str, magic: bytes, tmp_path: Path) -> None:
    path = tmp_path / f"curves{suffix}"
    plots.training_curves(ROWS, path)
    assert path.read_bytes().startswith(magic)


def test_an_unknown_suffix_is_refused_with_those_accepted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ends in '\.gif'; accepted: \.png, \.pdf, \.svg, \.jpg"):
        plots.training_curves(ROWS, tmp_path / "curves.gif")
    with pytest.raises(ValueError, match=r"ends in ''; accepted"):
        plots.training_curves(ROWS, tmp_path / "curves")


def test_where_nothing_can_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError, match="is a file, and no folder to write into"):
        plots.require_drawable(tmp_path / "file" / "folder" / "curves.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ValueError, match=r"is a folder; give the name of a file in it, such as .*picture\.png"):
        plots.require_drawable(tmp_path / "folder.png")
    plots.require_drawable(tmp_path / "to be made" / "curves.png")


def test_a_drawing_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "curves.png"
    path.write_bytes(b"old")
    # A full disk: the file is begun and cannot be finished.
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", full_disk)
    with pytest.raises(OSError, match="No space left"):
        plots.training_curves(ROWS, path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def full_disk(figure: object, path: Path, **options: object) -> None:
    path.write_bytes(b"half")
    raise OSError(28, os.strerror(28))


def test_an_unknown_language_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="language is 'fr'; accepted: 'en', 'zh'"):
        plots.training_curves(ROWS, tmp_path / "curves.png", language="fr")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "torchnin\[plot\]"'):
        plots.training_curves(ROWS, tmp_path / "curves.png")


def test_without_a_chinese_font_english_is_drawn_and_a_note_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    latin = [font for font in font_manager.fontManager.ttflist if font.name.startswith("DejaVu")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", latin)
    monkeypatch.setattr(font_manager, "findSystemFonts", list)
    style._say_once.cache_clear()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        for _ in range(2):
            plots.training_curves(ROWS, tmp_path / "zh.svg", language="zh")
        plots.picture_sheet([PICTURE], ["外套 $1"], tmp_path / "names.svg")
    assert "loss (cross-entropy)" in texts_of(tmp_path / "zh.svg")
    assert "□□ $1" in texts_of(tmp_path / "names.svg")
    said = [record.getMessage() for record in caplog.records]
    assert [sentence.split(":")[0] for sentence in said] == ["pictures are drawn in English", "Chinese names are drawn as squares"]
    assert all("apt-get install fonts-wqy-microhei" in sentence for sentence in said)


@pytest.mark.usefixtures("chinese_font")
def test_a_font_installed_after_matplotlib_made_its_list_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    family = style._chinese_family()
    others = [font for font in font_manager.fontManager.ttflist if font.name not in style._CHINESE_FAMILIES]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", others)
    assert style._chinese_family() in style._CHINESE_FAMILIES
    assert family in style._CHINESE_FAMILIES


def test_drawing_leaves_no_global_state_behind() -> None:
    code = (
        "import sys, tempfile, torchnin.plots as plots\n"
        "assert 'matplotlib' not in sys.modules, 'imported before it is needed'\n"
        "import matplotlib\n"
        "settings = lambda: [dict.__getitem__(matplotlib.rcParams, key) for key in matplotlib.rcParams]\n"
        "before = settings()\n"
        "plots.training_curves([{'epoch': 1, 'train_loss': .9}], tempfile.mkdtemp() + '/a.png')\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
        "assert settings() == before\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)


def test_nothing_to_draw_is_said() -> None:
    with pytest.raises(ValueError, match="no epochs to draw"):
        plots.training_curves([], "curves.png")
    with pytest.raises(ValueError, match="0 pictures and 0 captions"):
        plots.picture_sheet([], [], "sheet.png")
    with pytest.raises(ValueError, match="2 pictures and 1 captions"):
        plots.picture_sheet([PICTURE, PICTURE], ["one"], "sheet.png")


def test_every_edge_of_the_data_is_drawn(tmp_path: Path) -> None:
    path = tmp_path / "drawn.pdf"
    plots.training_curves([{"epoch": 1}], path)  # nothing was measured
    plots.training_curves([{"epoch": epoch, "train_loss": 1 / epoch} for epoch in range(1, 200)], path)
    zero = np.zeros((1, 28, 28))
    plots.class_maps_over_picture(PICTURE, zero, ["dead"], [0.1], [0.0], path)
    plots.class_maps_over_picture(PICTURE[:, :1, :1], zero[:, :1, :1] + 1, ["one pixel"], [1.0], [1.0], path)
    plots.class_maps_over_picture(np.zeros((4, 9, 40), np.uint8), np.ones((5, 9, 40)), "abcde", [0.1] * 5, [1.0] * 5, path)
    plots.feature_maps([np.zeros((1, 1, 1)), np.zeros((17, 1, 90))], path)
    plots.confusion_matrix(np.ones((3, 3), int), [f"{index} {'long name ' * 9}" for index in range(3)], path)
    plots.confusion_matrix(np.ones((121, 121), int), [str(index) for index in range(121)], path)
    plots.reliability_diagram([None], [None], [0], path)


def test_names_that_are_no_utf8_are_drawn(tmp_path: Path) -> None:
    names = [os.fsdecode(b"caf\xe9"), "other"]
    drawings: list[Callable[[Path], None]] = [
        lambda path: plots.class_maps_over_picture(PICTURE, np.zeros((2, 28, 28)), names, [0.5, 0.5], [0.0, 0.0], path),
        lambda path: plots.feature_maps([np.zeros((2, 7, 7))], path, class_names=names),
        lambda path: plots.pixel_mlp(PICTURE, (1, 2), [((0, 0), [("conv", np.ones(2))])], path, class_names=names),
        lambda path: plots.confusion_matrix(np.eye(2, dtype=int), names, path, title=names[0]),
        lambda path: plots.mistakes([PICTURE], names[:1], names[1:], [0.5], path),
        lambda path: plots.class_map_lives([{"name": names[0], "steps": [0, 1], "accuracies": [0, 1], "dead": [[0], [1]]}], names, path),
    ]
    for draw in drawings:
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            draw(tmp_path / "drawn.svg")
        assert "caf?" in texts_of(tmp_path / "drawn.svg")


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


def test_characters_without_a_shape_are_told_in_one_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    style._say_once.cache_clear()
    for _ in range(2):
        with style.drawing(tmp_path / "a.png", width=2, height=2, title="shoe \U0001f45f and hat \U0001f3a9"):
            pass
    (record,) = caplog.records
    assert "drawn as empty boxes" in record.message
    assert not recwarn
