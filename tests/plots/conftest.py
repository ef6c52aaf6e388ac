"""What every picture is held to: its words in both languages, and a file of the kind that its name says."""

import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from torchnin.plots import style

CHINESE = re.compile("[一-鿿]")


@pytest.fixture
def chinese_font() -> None:
    if style._chinese_family() is None:
        pytest.skip("no font with Chinese characters is installed")


def _texts_of(path: Path) -> str:
    words = ["".join(element.itertext()) for element in ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")]
    return re.sub(r"\s+", " ", " | ".join(words))


@pytest.fixture(scope="session")
def texts_of() -> Callable[[Path], str]:
    """The words on a picture that was drawn as SVG with its letters as text."""
    return _texts_of


@pytest.fixture(params=["en", "zh"])
def has_its_words(
    request: pytest.FixtureRequest, chinese_font: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Callable[..., None]:
    """Draws a picture in a language, and looks for the words that a reader must find on it, English or Chinese."""

    def look(draw: Callable[..., None], english: list[str], chinese: list[str]) -> None:
        path, expected = tmp_path / "drawn.svg", english if request.param == "en" else chinese
        style._say_once.cache_clear()
        with matplotlib.rc_context({"svg.fonttype": "none"}):
            draw(path, language=request.param)
        assert not caplog.records  # nor was a character without a shape told of: what is written can be read
        found = _texts_of(path)
        for words in expected:
            assert words in found
        assert bool(CHINESE.search(found)) == bool(CHINESE.search("".join(expected)))

    return look


@pytest.fixture
def drawn_figure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., None]], Figure]:
    """Draws a picture, and gives the figure, laid out, to measure where its parts lie."""
    figures: list[Figure] = []
    monkeypatch.setattr(style, "_set_texts", figures.append)

    def look(draw: Callable[..., None]) -> Figure:
        draw(tmp_path / "drawn.png")
        FigureCanvasAgg(figures[-1]).draw()
        return figures[-1]

    return look


@pytest.fixture
def is_a_file_of_its_kind(tmp_path: Path) -> Callable[[Callable[..., None]], None]:
    """Draws a picture into a folder that is not there yet, and looks at the file."""

    def look(draw: Callable[..., None]) -> None:
        path = tmp_path / "folder to be made" / "drawn.png"
        draw(path)
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert min(image.size) > 300
            corner = np.asarray(image.convert("RGB"))[[0, -1]]
        assert (corner[:, [0, -1]] == 255).all()  # nothing is cut off into the corners, and the ground is white
        assert list(path.parent.iterdir()) == [path]

    return look
