"""The pages of docs/ say what the recorded results say, in both languages, and what can be counted at once is counted again."""

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import torchnin
from torchnin import create_model, summarize

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "benchmarks" / "exercises")]
import claims  # noqa: E402, I001
import docs_tables  # noqa: E402
import pages  # noqa: E402

del sys.path[:2]


@pytest.mark.parametrize("path", list(docs_tables.PAGES), ids=lambda path: path.name)
def test_tables_are_made_of_the_recorded_results(path: Path) -> None:
    language, makers = docs_tables.PAGES[path]
    page = path.read_text(encoding="utf-8")
    assert pages.filled(page, language, makers) == page, "run python benchmarks/docs_tables.py"


@pytest.mark.parametrize("path", list(docs_tables.PAGES), ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def test_a_page_leads_to_its_other_language() -> None:
    for chinese in (ROOT / "docs").glob("*.zh-CN.md"):
        english = chinese.with_name(chinese.name.replace(".zh-CN", ""))
        assert f"[中文]({chinese.name})" in english.read_text(encoding="utf-8"), english.name
        assert f"[English]({english.name})" in chinese.read_text(encoding="utf-8"), chinese.name


@pytest.mark.parametrize("name", ["exercises", "looking-inside"])
def test_both_pages_show_the_same_commands(name: str) -> None:
    pages = (ROOT / "docs" / f"{name}.md", ROOT / "docs" / f"{name}.zh-CN.md")
    english, chinese = ([line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("    ")] for page in pages)
    assert english
    assert english == chinese


@pytest.mark.parametrize("page", ["looking-inside.md", "looking-inside.zh-CN.md"])
def test_what_the_page_says_of_covers_is_what_was_measured(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    small, large, colour = (docs_tables.recorded("occlusion", "results", f"{name}.json") for name, _ in docs_tables.OCCLUDED)
    assert {found["num_pictures"] for found in (small, large, colour)} == {500}
    assert str(small["highest_value"][1][1]) == "400"
    assert "400" in text

    def holds(found: dict[str, Any], against: str) -> set[tuple[str, float]]:
        return {(cover["filling"], round(cover["share"], 2)) for cover in found["covers"] if cover[f"against_{against}"]["interval"][0] > 0}

    everywhere = {(filling, share) for filling in ("black", "mean", "blur") for share in (0.02, 0.05, 0.1)}
    assert holds(large, "random") == holds(large, "exchanged") == holds(colour, "random") == everywhere
    assert holds(small, "random") == {("black", share) for share in (0.02, 0.05, 0.1)}
    assert holds(small, "exchanged") == set()
    assert holds(colour, "exchanged") == {(filling, share) for filling, share in everywhere if share > 0.02}


@pytest.mark.parametrize("exercise", ["mlp_layers", "mlp_kernel_size", "head", "resources", "one_step"])
def test_the_recorded_counts_are_those_of_the_networks(exercise: str) -> None:
    for row in docs_tables.recorded("exercises", "results", f"{exercise}.json")["networks"]:
        name, _, changes = row["name"].partition(":")
        if "class_hidden" in changes:
            continue  # a word of the command alone; tests/commands/test_networks.py counts these
        fields = dict(change.split("=") for change in changes.split(",")) if changes else {}
        network = create_model(name, **{key: int(value) if value.isdigit() else value for key, value in fields.items()})
        table = summarize(network, (1, *row["input"]))
        found = (table.num_parameters, table.num_macs, table.predict_bytes, table.train_bytes)
        assert found == tuple(row[key] for key in ("num_parameters", "num_macs", "predict_bytes", "train_bytes")), row["name"]


@pytest.mark.parametrize("page", ["exercises.md", "exercises.zh-CN.md"])
def test_what_the_commands_call_class_hidden_is_in_python_as_the_page_says(page: str) -> None:
    (call,) = re.findall(r'`(create_model\("nin_d2l", class_block[^`]+)`', (ROOT / "docs" / page).read_text(encoding="utf-8"))
    network = eval(call, {"create_model": create_model, "torchnin": torchnin})
    (row,) = (row for row in docs_tables.recorded("exercises", "results", "one_step.json")["networks"] if "192-48" in row["name"])
    assert summarize(network, (1, 1, 224, 224)).num_parameters == row["num_parameters"]


def test_a_1x1_convolution_is_a_fully_connected_layer_at_every_pixel() -> None:
    found = claims.one_by_one()
    assert found["convolution_parameters"] == found["linear_parameters"] == 96 * 96 + 96
    assert found["largest_difference"] < 1e-5 * found["largest_value"]


def test_fully_connected_heads_hold_most_of_the_parameters() -> None:
    rows = {row["network"]: row for row in claims.connected_heads()["networks"]}
    # Known totals: Krizhevsky's AlexNet has 60,965,224 parameters, VGG-16 138,357,544.
    totals = {name: row["convolutions"] + row["fully_connected"] for name, row in rows.items()}
    assert (totals["AlexNet, 2012"], totals["VGG-16, 2014"], totals["nin_d2l"]) == (60_965_224, 138_357_544, 1_992_166)
    assert all(row["share"] > 0.89 for name, row in rows.items() if not name.startswith("nin"))


def test_dropout_takes_values_and_dropout2d_channels() -> None:
    state = torch.get_rng_state()
    element, channel = claims.dropout()["layers"]
    torch.set_rng_state(state)
    assert element["channels_wholly_zero"] == 0
    assert channel["channels_wholly_zero"] + channel["channels_untouched"] == 384
    assert element["value_of_the_rest"] == channel["value_of_the_rest"] == 2
    assert channel["deviation_of_a_channel"] == pytest.approx(5 * element["deviation_of_a_channel"], rel=0.05)  # 25 values in a channel


@pytest.mark.parametrize("command", ["repeatable/measure.py", "page_picture.py"])
def test_a_benchmark_that_takes_no_options_explains_itself_and_does_no_work(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if command == "page_picture.py":
        pytest.importorskip("playwright")
    path = ROOT / "benchmarks" / command
    monkeypatch.setattr("sys.argv", [str(path), "--help"])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert (end.value.code, f"python benchmarks/{command}" in capsys.readouterr().out) == (0, True)
