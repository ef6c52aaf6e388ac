"""A checkpoint's plain values are checked before a training goes on from them."""

import copy
import math
import re
from typing import Any

import pytest

from torchnin import NiNConfig, Recipe, train
from torchnin.data import DatasetSplits
from torchnin.training.checkpoint import read_checkpoint
from torchnin.training.progress import check_progress


@pytest.fixture(scope="module")
def progress(tiny: NiNConfig, few: DatasetSplits, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Of a training that recovers, at its end, with a finding."""
    out = tmp_path_factory.mktemp("runs") / "run"
    train(tiny, few, Recipe(num_epochs=2, batch_size=80), out=out, on_collapse="recover", quiet=True)
    found = read_checkpoint(out / "checkpoint")[0].progress
    found["findings"] = [{"kind": "dead channels", "epoch": 1, "step": 4, "message": "half of them"}]
    return found


def test_what_a_training_wrote_is_as_it_must_be(progress: dict[str, Any]) -> None:
    check_progress(progress)
    assert "good" in progress
    check_progress({key: value for key, value in progress.items() if key not in ("good", "pieces")})


def test_a_loss_of_any_finite_size_is_gone_on_from(progress: dict[str, Any]) -> None:
    changed = copy.deepcopy(progress)
    changed["rows"][1]["train_loss"] = 7.7e18  # which steps that are far too large come to, and come back from
    check_progress(changed)


@pytest.mark.parametrize(
    ("place", "value", "told"),
    [
        (("step",), None, "progress.step: expected a whole number of at least 0, found null"),
        (("step",), True, "progress.step: expected a whole number of at least 0, found true"),
        (("step",), 10**30, "progress.step: expected a whole number of at least 0, found 1000"),
        (("total_seconds",), math.nan, "progress.total_seconds: expected a number of at least 0, found NaN"),
        (("total_seconds",), math.inf, "progress.total_seconds: expected a number of at least 0, found Infinity"),
        (("rows",), {}, "progress.rows: expected a list, found {}"),
        (("rows", 1), 3, "progress.rows[1]: expected an object, found 3"),
        (("rows", 1), {}, "progress.rows[1]: expected the field 'epoch', found []"),
        (("rows", 0, "seconds"), "long", 'progress.rows[0].seconds: expected a number of at least 0, found "long"'),
        (("findings", 0, "epoch"), 0.5, "progress.findings[0].epoch: expected a whole number of at least 0, found 0.5"),
        (("monitor",), [], "progress.monitor: expected an object, found []"),
        (("monitor", "said"), [1], "progress.monitor.said[0]: expected text, found 1"),
        (("monitor", "dead_channels"), {"block 1": None}, "progress.monitor.dead_channels: expected an object of numbers of at least 0"),
        (("lr_scale",), "1", 'progress.lr_scale: expected a number above 0 and at most 1, found "1"'),
        (("pieces",), 0, "progress.pieces: expected a whole number of at least 1, found 0"),
        (("good",), 7, "progress.good: expected an object, found 7"),
        (("good", "recoveries"), -1, "progress.good.recoveries: expected a whole number of at least 0, found -1"),
    ],
)
def test_a_value_of_another_type_is_told_with_its_place(place: tuple[Any, ...], value: Any, told: str, progress: dict[str, Any]) -> None:
    changed = copy.deepcopy(progress)
    at = changed
    for key in place[:-1]:
        at = at[key]
    at[place[-1]] = value
    with pytest.raises(ValueError, match="^" + re.escape(told)):
        check_progress(changed)


def test_progress_that_is_none_at_all_is_told() -> None:
    with pytest.raises(ValueError, match="progress: expected an object, found null"):
        check_progress(None)
