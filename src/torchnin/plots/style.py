"""What all pictures share: words in two languages, fonts, colours, a plain look, and saving whole or not at all."""

import logging
import os
import textwrap
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from torchnin.files import replace, require_place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Language = Literal["en", "zh"]

SUFFIXES = (".png", ".pdf", ".svg", ".jpg", ".jpeg")
"""File names that the pictures may end in."""

# Okabe and Ito's colours (jfly.uni-koeln.de/color), which the colour-blind tell apart; the first three differ in print too.
BLUE, ORANGE, BLACK, GREEN, GREY = "#0072B2", "#E69F00", "#000000", "#009E73", "#8C8C8C"
SEQUENTIAL = "cividis"  # lightness rises evenly, and it looks the same to the colour-blind
DIVERGING = "PuOr"  # orange below zero, purple above; both get darker, so drawings tell the sign by solid and dashed lines as well
SHARES = "Blues"

_DPI = 160
_TITLE_SIZE, _TEXT_SIZE, SMALL = 12, 9, 7.5
_PAD = 0.07  # inches around what is drawn: Chinese letters reach further down than the layout reckons with
_SECOND_HALF = "\ue000"  # no character: it stands for the second column that a Chinese one takes while lines are broken

_WORDS: dict[str, tuple[str, str]] = {
    "accuracies": ("Test accuracy over the runs", "多次运行的测试准确率"),
    "accuracy": ("accuracy", "准确率"),
    "activation": ("activation", "激活值"),
    "calibration": ("Reliability of the probabilities", "概率的可靠性"),
    "ceiling": ("a class lost for each dead map", "每张死图失去一个类别"),
    "changes": ("The same seeds with one thing changed", "同样的种子，只改一处"),
    "channel": ("channel", "通道"),
    "class_map": ("class map (its mean is the logit)", "类别图（均值即 logit）"),
    "class_maps": ("Class maps over the picture", "图片上的类别图"),
    "confidence": ("confidence", "置信度"),
    "bound": ("bound", "上限"),
    "bin": ("at the mean confidence", "位于平均置信度处"),
    "confusion": ("Confusion matrix, in pictures", "混淆矩阵（图片数）"),
    "curves": ("Training", "训练过程"),
    "convolution": ("convolution (after it, ReLU)", "卷积层（其后为 ReLU）"),
    "dead_maps": ("dead class maps", "死掉的类别图数"),
    "differs": ("share that differs between pictures", "随图片而变的部分所占比例"),
    "epoch": ("epoch", "轮次"),
    "error": ("expected calibration error {error:.4f}", "期望校准误差 {error:.4f}"),
    "feature_maps": ("Feature maps after each block (channels x rows x columns)", "各个块之后的特征图（通道 x 行 x 列）"),
    "ideal": ("perfectly calibrated", "完全校准"),
    "images_per_second": ("training images per second, of the step alone", "每秒训练图片数（仅训练步）"),
    "known_bins": ("{name}: {count} runs, in bins", "{name}：{count} 次运行，按区间"),
    "known_runs": (
        "{name}: {count} runs, {low:.3f} to {high:.3f}, median {median:.3f}",
        "{name}：{count} 次运行，{low:.3f} 至 {high:.3f}，中位数 {median:.3f}",
    ),
    "lives": ("Accuracy on training batches, and which class maps are dead (dark)", "训练批次上的准确率，以及哪些类别图已死（深色）"),
    "loss": ("loss (cross-entropy)", "损失（交叉熵）"),
    "mistakes": ("Most confident mistakes", "最有把握的错误"),
    "num_pictures": ("pictures", "图片数"),
    "num_seeds": ("seeds", "种子数"),
    "observed": ("observed", "实际"),
    "part": ("block {number}: {shape}", "块 {number}：{shape}"),
    "part_of": ("block {number}: {shape}, the first {shown} channels", "块 {number}：{shape}，前 {shown} 个通道"),
    "picture": ("picture, in pixels", "图片（像素）"),
    "pixel_mlp": (
        "The MLP at pixel ({x}, {y}): channels before and after each 1x1 convolution",
        "像素 ({x}, {y}) 处的 MLP：每个 1x1 卷积前后的通道",
    ),
    "place": ("block {number}, row {row}, column {column}", "块 {number}，第 {row} 行，第 {column} 列"),
    "predicted": ("predicted class", "预测类别"),
    "price": ("What a dead class map costs", "一张死掉的类别图的代价"),
    "probability": ("probability {probability:.3f}, mean {logit:.2f}", "概率 {probability:.3f}，均值 {logit:.2f}"),
    "recall": ("recall of the class", "该类别的召回率"),
    "relative_gradient": ("gradient that reaches its map (median map = 1)", "到达其类别图的梯度（中位的图 = 1）"),
    "seen": (
        "{values} values in each map; each sees up to {seen} of the {given} pixels that the network was given",
        "每张类别图有 {values} 个值；每个值最多看到网络输入的 {given} 像素中的 {seen} 像素",
    ),
    "share": ("share of the true class", "占真实类别的比例"),
    "speeds": ("How fast the networks learn", "各网络的训练速度"),
    "start": ("Before the first step", "第一步之前"),
    "step": ("step", "步"),
    "taken": ("{label}\ntaken for {predicted}\nprobability {confidence:.3f}", "{label}\n误认为 {predicted}\n概率 {confidence:.3f}"),
    "test": ("test", "测试"),
    "times": ("{rate:,.0f}  ({times:.1f} times)", "{rate:,.0f}（{times:.1f} 倍）"),
    "train": ("training", "训练"),
    "true": ("true class", "真实类别"),
    "validation": ("validation", "验证"),
}

# Families that hold simplified Chinese, and the files they come in, for fonts newer than matplotlib's list of fonts.
_CHINESE_FAMILIES = (
    "Noto Sans CJK SC",
    "Noto Sans SC",
    "Source Han Sans SC",
    "Source Han Sans CN",
    "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei",
    "PingFang SC",
    "Hiragino Sans GB",
    "Heiti SC",
    "STHeiti",
    "Microsoft YaHei",
    "SimHei",
    "Arial Unicode MS",
    "Droid Sans Fallback",
    "Noto Sans CJK JP",
    "Noto Sans CJK TC",
)
_CHINESE_FILES = (
    "notosanscjk",
    "notosanssc",
    "sourcehansans",
    "wqy-microhei",
    "wqy-zenhei",
    "pingfang",
    "msyh",
    "simhei",
    "droidsansfallback",
)


def words(language: str) -> Callable[..., str]:
    """The words of a language: `say("epoch")`, `say("part", number=1, shape="3x3")`.

    Where no installed font has Chinese characters, the words are English, and a note says so once.

    Raises:
        ValueError: the language is neither "en" nor "zh".
        ModuleNotFoundError: matplotlib is not installed.
    """
    if language not in ("en", "zh"):
        raise ValueError(f"language is {language!r}; accepted: 'en', 'zh'")
    _require_matplotlib()
    column = 1 if language == "zh" and _chinese_family() is not None else 0
    if language == "zh" and column == 0:
        _say_once(f"pictures are drawn in English: {_NO_FONT}")
    return lambda key, **values: _WORDS[key][column].format(**values)


def require_drawable(path: str | os.PathLike[str]) -> None:
    """Raise now what drawing into this file would raise later, after the work whose result is to be drawn.

    Raises:
        ValueError: the name ends in none of `SUFFIXES`, or is that of a folder.
        ModuleNotFoundError: matplotlib is not installed.
        OSError: nothing can be written into its folder, or that cannot be made.
    """
    suffix = Path(path).suffix
    if suffix.lower() not in SUFFIXES:
        raise ValueError(f"the picture's file {str(path)!r} ends in {suffix!r}; accepted: {', '.join(SUFFIXES)}")
    require_place(Path(path), "picture.png")
    _require_matplotlib()


def _require_matplotlib() -> None:
    try:
        import matplotlib.figure  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f'drawing needs matplotlib ({error}): pip install "torchnin[plot]"', name=error.name) from error


@contextmanager
def drawing(path: str | os.PathLike[str], *, width: float, height: float, title: str) -> Iterator["Figure"]:
    """A figure of `width` by `height` inches to draw on, saved at `path` when the block ends without an error.

    The folder is made where it is missing. An existing file is replaced at the end, and stays as it was if anything fails.

    Raises:
        What `require_drawable` raises.
    """
    require_drawable(path)
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    target = Path(path)
    figure = Figure(figsize=(width, height), dpi=_DPI, layout=ConstrainedLayoutEngine(w_pad=_PAD, h_pad=_PAD))
    figure.suptitle(wrapped(title, int(11 * width)), fontsize=_TITLE_SIZE)
    yield figure
    _set_texts(figure)
    target.parent.mkdir(parents=True, exist_ok=True)
    aside = target.with_name(f".{target.stem}.{os.getpid()}{target.suffix}")
    try:
        with _missing_shapes_said():
            figure.savefig(aside, facecolor="white")
        replace(aside, target)
    finally:
        aside.unlink(missing_ok=True)


def plain(axes: "Axes", *, xlabel: str = "", ylabel: str = "", title: str = "", grid: bool = True) -> "Axes":
    """The common look of a diagram: two spines, a faint grid behind the data, small text."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
    axes.set_xlabel(xlabel, fontsize=_TEXT_SIZE)
    axes.set_ylabel(ylabel, fontsize=_TEXT_SIZE)
    axes.set_title(title, fontsize=_TEXT_SIZE)
    if grid:
        axes.grid(color="#E3E3E3", linewidth=0.7)
        axes.set_axisbelow(True)
    return axes


def bare(axes: "Axes", title: str = "") -> "Axes":
    """Axes that hold a picture: no ticks, a thin frame."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=_TEXT_SIZE)
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)
        spine.set_color(GREY)
    return axes


def show_picture(axes: "Axes", picture: np.ndarray, **options: Any) -> None:
    """A uint8 picture `(c, h, w)` in its own colours, pixels as squares: grey unless it has three channels."""
    if len(picture) == 3:
        axes.imshow(np.moveaxis(picture, 0, -1), interpolation="nearest", **options)
    else:
        axes.imshow(grey_of(picture), cmap="gray", vmin=0, vmax=255, interpolation="nearest", **options)


def grey_of(picture: np.ndarray) -> np.ndarray:
    """The lightness 0 to 255 of a uint8 picture `(c, h, w)`: ITU-R 601 luma of three channels, the mean of any other number."""
    weights = np.array([0.299, 0.587, 0.114]) if len(picture) == 3 else np.full(len(picture), 1 / len(picture))
    return np.tensordot(weights, picture.astype(np.float64), axes=1)


def wrapped(text: str, columns: int) -> str:
    """The text in lines of at most so many Latin letters, or half as many Chinese characters."""
    wide = "".join(f"{character}{_SECOND_HALF}" if _is_cjk(character) else character for character in text)
    return "\n".join(textwrap.fill(line, columns) for line in wide.split("\n")).replace(_SECOND_HALF, "")


def clipped(text: str, columns: int) -> str:
    """The text, an ellipsis for its middle where it is longer than so many Latin letters, or half as many Chinese ones.

    Its end is kept as well as its beginning: many classes differ there alone, such as `Cherry_(including_sour)___healthy`.
    """
    text = drawable(text)
    widths = np.cumsum([2 if _is_cjk(character) else 1 for character in text])
    if not len(text) or widths[-1] <= columns:
        return text
    head = columns // 2
    start = int(np.searchsorted(widths, widths[-1] - (columns - 1 - head))) + 1
    return f"{text[: int(np.searchsorted(widths, head, side='right'))]}…{text[start:]}"


def drawable(text: str) -> str:
    """The text with a question mark for each byte of a name that is no UTF-8 on the disk, for which no font has a shape."""
    return text.encode("utf-8", "replace").decode()


def _set_texts(figure: "Figure") -> None:
    """Take every text as it stands, and Chinese characters from a font that has them; Latin letters keep matplotlib's own.

    Names in Chinese, where no font has them, are shown as squares, one for each character, and a note says so once.
    """
    from matplotlib import rcParams
    from matplotlib.text import Text

    texts = [text for text in figure.findobj(Text) if isinstance(text, Text)]
    for text in texts:
        text.set_parse_math(False)  # a class may be named "$5 or $10"
        text.set_text(drawable(text.get_text()))
    if any(_is_cjk(character) for text in texts for character in text.get_text()):
        family = _chinese_family()
        if family is None:
            _say_once(f"Chinese names are drawn as squares: {_NO_FONT}")
        for text in texts:
            if family is None:
                text.set_text("".join("□" if _is_cjk(character) else character for character in text.get_text()))
            else:
                text.set_fontfamily([*rcParams["font.family"], family])


@contextmanager
def _missing_shapes_said() -> Iterator[None]:
    """While a figure is drawn: in place of matplotlib's warning of each character for which no font has a shape, one note for all."""
    with warnings.catch_warnings(record=True) as caught:
        yield
    for warning in caught:
        if "missing from font" in str(warning.message):
            _say_once("some characters are drawn as empty boxes: no font that is used has shapes for them, as for emoji")
        else:
            warnings.warn_explicit(warning.message, warning.category, warning.filename, warning.lineno)


def _is_cjk(character: str) -> bool:
    return "⺀" <= character <= "鿿" or "豈" <= character <= "﫿" or "＀" <= character <= "￯"


_NO_FONT = (
    "no installed font has Chinese characters; install one, for example `apt-get install fonts-wqy-microhei` (Debian, Ubuntu) "
    "or `dnf install google-noto-sans-cjk-fonts` (Fedora)"
)


@cache
def _say_once(sentence: str) -> None:
    """A note on standard error, or wherever the program that draws sends its log."""
    logging.getLogger("torchnin").warning(sentence)


def _chinese_family() -> str | None:
    """An installed font's family that has simplified Chinese, or None."""
    from matplotlib import font_manager

    if (family := _known_family()) is None:
        # matplotlib's list of fonts may be older than a font.
        for file in font_manager.findSystemFonts():
            if any(name in Path(file).name.lower() for name in _CHINESE_FILES):
                font_manager.fontManager.addfont(file)
        family = _known_family()
    return family


def _known_family() -> str | None:
    from matplotlib import font_manager

    known = {font.name for font in font_manager.fontManager.ttflist}
    return next((family for family in _CHINESE_FAMILIES if family in known), None)
