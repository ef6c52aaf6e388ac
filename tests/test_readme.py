"""The pages say what the recorded results say."""

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
specification = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
tables = importlib.util.module_from_spec(specification)
specification.loader.exec_module(tables)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_tables_are_made_of_the_recorded_results(language: str) -> None:
    page = tables.PAGES[language].read_text(encoding="utf-8")
    assert tables.filled(page, language) == page, "run python benchmarks/tables.py"


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_page_stays_short_and_its_links_lead_somewhere(language: str) -> None:
    page = tables.PAGES[language].read_text(encoding="utf-8")
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
        for path in tables.PAGES.values()
    ]
    assert commands[0] == commands[1]
