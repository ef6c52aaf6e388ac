"""The page's words: every one that is asked for is there, in both languages, with the same places to fill in."""

import re
from pathlib import Path

import torchnin

PAGE = Path(torchnin.__file__).parent / "web" / "page"
ENTRY = re.compile(r'^  (\w+): \[\s*"((?:[^"\\]|\\.)*)",\s*"((?:[^"\\]|\\.)*)",?\s*\],$', re.MULTILINE)
WORDS = {key: (english, chinese) for key, english, chinese in ENTRY.findall((PAGE / "words.js").read_text(encoding="utf-8"))}
USERS = "".join(path.read_text(encoding="utf-8") for path in PAGE.iterdir() if path.suffix in (".js", ".html") and path.name != "words.js")


def test_both_languages_fill_in_the_same() -> None:
    assert len(WORDS) == len(re.findall(r"^  \w+: \[", (PAGE / "words.js").read_text(encoding="utf-8"), re.MULTILINE))
    for key, pair in WORDS.items():
        places = [set(re.findall(r"\{(\w+)\}", text)) for text in pair]
        assert places[0] == places[1], key
        assert all(pair), key


def test_every_word_that_is_asked_for_is_there_and_none_is_left_over() -> None:
    asked = set(re.findall(r'say\("(\w+)"|data-say(?:-label)?="(\w+)"', USERS))
    assert {first or second for first, second in asked} <= WORDS.keys()
    composed = {"norm", "relu"} | {key for key in WORDS if key.startswith(("pool_", "stage_"))}
    named = set(re.findall(r'"(\w+)"', USERS)) | composed
    assert WORDS.keys() - named == set()


def test_nothing_comes_from_elsewhere_and_nothing_stands_inline() -> None:
    addresses = set(re.findall(r"""https?://[^"'\s)]+""", USERS))
    assert addresses <= {"http://www.w3.org/2000/svg"}
    for path in PAGE.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son\w+=", text), path.name


def test_no_browser_restores_what_the_page_begins_with() -> None:
    """Firefox keeps over a reload what was chosen, unless it is told not to, and the scripts would not know."""
    for name in re.findall(r'<input type="(?:radio|range)"[^>]*>', (PAGE / "index.html").read_text(encoding="utf-8")):
        assert 'autocomplete="off"' in name, name
