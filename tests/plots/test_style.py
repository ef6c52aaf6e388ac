"""What all pictures share: a file is written whole or not at all, and what is written can be read."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from matplotlib import font_manager

from torchnin import plots
from torchnin.plots import style

ROWS = [{"epoch": 1, "train_loss": 2.1}]
PICTURE = np.zeros((1, 28, 28), np.uint8)


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
        plots.training_curves(ROWS, tmp_path / "curves.png", language="fr")  # type: ignore[arg-type]


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "torchnin\[plot\]"'):
        plots.training_curves(ROWS, tmp_path / "curves.png")


def test_without_a_chinese_font_english_is_drawn_and_a_note_names_the_package(
    texts_of: Callable[[Path], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
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


def test_names_that_are_no_utf8_are_drawn(texts_of: Callable[[Path], str], tmp_path: Path) -> None:
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
