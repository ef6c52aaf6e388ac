import errno
import io
import sys

import pytest

from torchnin.commands.progress import data_bar


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_being_done_is_said_in_its_own_words(
    terminal: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1" if terminal else "0")
    monkeypatch.setenv("COLUMNS", "120")
    with data_bar() as progress:
        progress("downloading train.gz", 500, 1000)
        progress("downloading train.gz", 1000, 1000)
        progress("reading pictures", 3, 7)
        progress("reading pictures", 7, 7)
    out, err = capfd.readouterr()
    assert out == ""
    if not terminal:
        assert err == "downloading train.gz\nreading pictures\n"
        return
    pictures = next(line for line in err.splitlines() if "reading pictures" in line)
    assert "7/7" in pictures
    assert "bytes" not in pictures
    assert "kB" in next(line for line in err.splitlines() if "downloading train.gz" in line)
    with data_bar() as progress:  # one may follow another
        progress("looking at pictures", 7, 7)


class Closed(io.StringIO):
    """A terminal that was closed."""

    def write(self, text: str) -> int:
        raise OSError(errno.EIO, "Input/output error")


def test_where_the_terminal_was_closed_the_data_is_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setattr(sys, "stderr", Closed())
    with data_bar() as progress:
        progress("reading pictures", 3, 7)
        progress("reading pictures", 7, 7)
