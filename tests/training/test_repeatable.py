"""The same bits twice, and clocks that are set meanwhile."""

import itertools
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from torchnin import Augmentation, DatasetSplits, NiNConfig, Recipe, Run, train
from torchnin.training import train_seeds

# With everything that draws.
RECIPE = Recipe(
    num_epochs=3,
    batch_size=40,
    optimizer="muon",
    lr=0.05,
    keep_norms=True,
    thinning=0.5,
    ema_decay=0.9,
    augmentation=Augmentation(flip=True, shift=2, erase=0.5),
)


def without_times(run: Run) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")} for row in run.metrics]


def test_the_same_seed_gives_the_same_files(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    first, again = (train(tiny, few, RECIPE, out=tmp_path / name, seed=3, device="cpu", validation=0.1, quiet=True) for name in "ab")
    assert without_times(first) == without_times(again)
    assert (first.path / "classifier/model.safetensors").read_bytes() == (again.path / "classifier/model.safetensors").read_bytes()
    assert first.config["device"]["deterministic"] is True
    assert first.config["device"]["processes"] == 1


def test_it_is_asked_for_while_training_alone(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    seen = []
    for wanted in (None, False):
        train(
            tiny,
            few,
            Recipe(num_epochs=1, batch_size=80),
            out=tmp_path / str(wanted),
            device="cpu",
            deterministic=wanted,
            on_epoch=lambda _: seen.append((torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.deterministic)),
            quiet=True,
        )
    assert seen == [(True, True), (False, False)]
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.utils.deterministic.fill_uninitialized_memory is True


def test_a_run_that_goes_on_otherwise_says_so(
    tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = train(tiny, few, Recipe(num_epochs=1, batch_size=80), out=tmp_path / "run", device="cpu", quiet=True)
    (run.path / "result.json").unlink()
    run.write_config({**run.config, "versions": {**run.config["versions"], "torch": "2.4.0"}})
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        train(tiny, few, Recipe(num_epochs=1, batch_size=80), out=tmp_path / "run", device="cpu", resume=True)
    finally:
        torch.set_num_threads(before)
    changed = f"torch 2.4.0, now {torch.__version__}; threads {before}, now {before + 1}"
    assert f"begun with {changed}: the same training up to rounding, not to the bit" in capsys.readouterr().err


def test_a_clock_that_jumps_changes_nothing(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Summer time, a correction over the network, a dead battery: the wall clock leaps about by years."""
    plain = train(tiny, few, RECIPE, out=tmp_path / "plain", quiet=True)
    clock, begun = itertools.cycle((1e9, -5e8, 3e9, 0.0)), time.monotonic()
    monkeypatch.setattr(time, "time", lambda: next(clock))
    monkeypatch.setattr(time, "time_ns", lambda: int(next(clock)) * 10**9)
    leapt = train(tiny, few, RECIPE, out=tmp_path / "leapt", quiet=True)
    passed = time.monotonic() - begun
    assert without_times(leapt) == without_times(plain)
    assert all(0 < row["seconds"] <= passed for row in leapt.metrics)
    assert 0 < leapt.result["seconds"] <= passed
    assert leapt.result["images_per_second"] > 0


def test_a_study_takes_what_a_training_takes(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    summary = train_seeds(
        tiny, few, Recipe(num_epochs=1, batch_size=80), seeds=2, out=tmp_path, device="cpu", deterministic=False, accumulate=2, quiet=True
    )
    assert summary["num_done"] == 2
    assert Run(tmp_path / "seed-1").config["device"]["deterministic"] is False
