"""The pages of docs/ say what the recorded results say, in both languages, and what can be counted at once is counted again."""

import re
import sys
from pathlib import Path

import pytest
import torch

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


@pytest.mark.parametrize("name", ["exercises", "looking-inside"])
def test_both_pages_show_the_same_commands(name: str) -> None:
    pages = (ROOT / "docs" / f"{name}.md", ROOT / "docs" / f"{name}.zh-CN.md")
    english, chinese = ([line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("    ")] for page in pages)
    assert english
    assert english == chinese


@pytest.mark.parametrize("exercise", ["mlp_layers", "mlp_kernel_size", "head", "resources", "one_step"])
def test_the_recorded_counts_are_those_of_the_networks(exercise: str) -> None:
    for row in docs_tables.recorded("exercises", "results", f"{exercise}.json")["networks"]:
        name, _, changes = row["name"].partition(":")
        if "class_hidden" in changes:
            continue  # a word of the command alone; tests/commands/test_compare.py counts these
        fields = dict(change.split("=") for change in changes.split(",")) if changes else {}
        network = create_model(name, **{key: int(value) if value.isdigit() else value for key, value in fields.items()})
        table = summarize(network, (1, *row["input"]))
        found = (table.num_parameters, table.num_macs, table.predict_bytes, table.train_bytes)
        assert found == tuple(row[key] for key in ("num_parameters", "num_macs", "predict_bytes", "train_bytes")), row["name"]


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
