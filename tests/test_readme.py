"""The pages say what the recorded results say."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
import pages  # noqa: E402
import tables  # noqa: E402

del sys.path[0]


@pytest.mark.parametrize("path", list(tables.PAGES), ids=lambda path: path.name)
def test_tables_are_made_of_the_recorded_results(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert pages.filled(page, *tables.PAGES[path]) == page, "run python benchmarks/tables.py"


@pytest.mark.parametrize("path", list(tables.PAGES), ids=lambda path: path.name)
def test_a_page_stays_short_and_its_links_lead_somewhere(path: Path) -> None:
    page = path.read_text(encoding="utf-8")
    assert len(page.splitlines()) <= 200
    for target in re.findall(r"\]\(([^)#:]+)\)", page):
        assert (ROOT / target).exists(), target


def test_both_pages_show_the_same_commands() -> None:
    commands = [
        [
            re.sub(r"\s*#.*|--language zh", "", line).strip()
            for line in path.read_text(encoding="utf-8").splitlines()
            if line.startswith("    nin ")
        ]
        for path in tables.PAGES
    ]
    assert commands[0] == commands[1]
