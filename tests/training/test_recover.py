"""Recovering saves a training of the notebooks' recipe that collapses."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import torchnin
from torchnin.data import derived_seed
from torchnin.models import BlockConfig, ClassBlockConfig, NiNConfig
from torchnin.training import loop
from torchnin.training.errors import DivergenceError
from torchnin.training.log import Silent
from torchnin.training.optimisation import initialise
from torchnin.training.step import Step

# A NiN like the notebooks', ReLU on the class maps included, small enough for a test; with this seed its maps die.
NETWORK = NiNConfig(
    blocks=(
        BlockConfig(channels=(24, 24, 24), kernel_size=5, stride=2, padding=2),
        BlockConfig(channels=(48, 48, 48), kernel_size=3, padding=1),
    ),
    class_block=ClassBlockConfig(),
    in_channels=1,
    num_classes=10,
    image_size=28,
)
SEED = 2


@pytest.fixture(scope="module")
def recipe() -> torchnin.Recipe:
    return dataclasses.replace(torchnin.named_recipe("d2l"), image_size=None, num_epochs=6)


def kinds(run: torchnin.Run) -> list[str]:
    return [finding["kind"] for row in run.metrics for finding in row["findings"]]


def test_the_notebooks_recipe_collapses_and_recovering_saves_it(recipe: torchnin.Recipe, tmp_path: Path) -> None:
    warned = torchnin.train(NETWORK, "fashion-mnist-sample", recipe, seed=SEED, out=tmp_path / "warn", quiet=True)
    assert "dead class maps" in kinds(warned)
    assert warned.result["test_accuracy"] < 0.25
    saved = torchnin.train(NETWORK, "fashion-mnist-sample", recipe, seed=SEED, out=tmp_path / "recover", on_collapse="recover", quiet=True)
    assert "recovered" in kinds(saved)
    assert saved.result["dead_class_maps"] == 0
    assert (warned.result["recoveries"], saved.result["recoveries"]) == (0, kinds(saved).count("recovered"))
    assert saved.result["test_accuracy"] > warned.result["test_accuracy"] + 0.15
    assert [row["epoch"] for row in saved.metrics] == [1, 2, 3, 4, 5, 6]


def test_stopping_at_the_first_finding_leaves_a_run_that_can_be_resumed(recipe: torchnin.Recipe, tmp_path: Path) -> None:
    with pytest.raises(torchnin.CollapseError, match="as asked: the maps of"):
        torchnin.train(NETWORK, "fashion-mnist-sample", recipe, seed=SEED, out=tmp_path / "run", on_collapse="stop", quiet=True)
    run = torchnin.Run(tmp_path / "run")
    assert run.resumable
    assert not run.finished


def test_what_a_stopped_training_has_said_is_recovered_from_when_it_goes_on(recipe: torchnin.Recipe, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(torchnin.CollapseError):
        torchnin.train(NETWORK, "fashion-mnist-sample", recipe, seed=SEED, out=out, on_collapse="stop", quiet=True)
    run = torchnin.resume(out, on_collapse="recover", quiet=True)
    assert "recovered" in kinds(run)
    assert run.result["dead_class_maps"] == 0


def test_a_rate_that_bursts_recovers_with_smaller_ones(tmp_path: Path) -> None:
    recipe = dataclasses.replace(torchnin.named_recipe("d2l"), image_size=None, num_epochs=1, lr=1e30)
    with pytest.raises(torchnin.CollapseError, match=r"gave up after 6 recoveries: .* at step 1 ") as raised:
        torchnin.train(NETWORK, "fashion-mnist-sample", recipe, out=tmp_path / "run", on_collapse="recover", quiet=True)
    assert str(raised.value).endswith("; train anew with a lower --lr (now 1e+30)")
    found = [finding for row in torchnin.Run(tmp_path / "run").metrics for finding in row["findings"]]
    assert [(finding["kind"], finding["step"]) for finding in found] == [("not finite", 1), ("recovered", 1)] * 6 + [("not finite", 1)]


def test_a_burst_between_two_looks_is_gone_back_from(
    tiny: NiNConfig, few: torchnin.DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a GPU, where not every step is looked at: the state of step 100 is kept before step 101 is looked at.
    monkeypatch.setattr(loop.Training, "look_every", property(lambda _: 50, lambda _, __: None), raising=False)
    network, seen = torchnin.NiN(tiny), []

    def burst(module: torch.nn.Module, _inputs: object) -> None:
        seen.append(1)
        if len(seen) == 60:
            module.body[0][0].weight.data[0] = math.nan

    network.register_forward_pre_hook(burst)
    recipe = torchnin.Recipe(num_epochs=1, batch_size=2, lr=0.001)
    run = torchnin.train(network, few, recipe, out=tmp_path / "run", on_collapse="recover", quiet=True, device="cpu")
    assert "recovered" in kinds(run)
    assert run.finished


def test_weights_that_were_trained_are_not_drawn_anew(recipe: torchnin.Recipe, tmp_path: Path) -> None:
    torch.manual_seed(derived_seed(SEED, "weights"))
    network = torchnin.NiN(NETWORK)
    torch.manual_seed(derived_seed(SEED, "initialisation"))
    initialise(network, recipe)
    network.pretrained = True
    begun = dataclasses.replace(recipe, initialisation="as built", num_epochs=3)
    run = torchnin.train(network, "fashion-mnist-sample", begun, seed=SEED, out=tmp_path / "run", on_collapse="recover", quiet=True)
    said = [finding["message"] for row in run.metrics for finding in row["findings"]]
    assert any("a last block drawn anew" in message for message in said)
    assert not any("weights drawn anew" in message or "--recipe steady" in message for message in said)
    assert "begun_from" in run.config


def test_a_burst_that_is_found_on_saving_is_gone_back_from(
    tiny: NiNConfig, few: torchnin.DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_CHECKPOINT_SECONDS", 0.0)
    network, advance, steps = torchnin.NiN(tiny), Step.__call__, []

    def overflown(self: Step, *arguments: Any) -> None:
        advance(self, *arguments)
        steps.append(1)
        if len(steps) == 6:
            network.body[0][0].weight.data.fill_(math.inf)

    monkeypatch.setattr(Step, "__call__", overflown)
    recipe = torchnin.Recipe(num_epochs=1, batch_size=32, lr=0.001)
    run = torchnin.train(network, few, recipe, out=tmp_path / "run", on_collapse="recover", quiet=True, device="cpu")
    assert "recovered" in kinds(run)
    assert run.finished


def test_what_was_thrown_away_does_not_slow_the_images_per_second_that_are_shown(
    tiny: NiNConfig, few: torchnin.DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, steps = Step.__call__, []
    rates: list[int] = []

    def timed(self: Step, *arguments: Any) -> None:
        advance(self, *arguments)
        steps.append(1)  # a second each
        if len(steps) == 5:
            raise DivergenceError("the loss is nan at step 5", 5)

    class Rates(Silent):
        def step(self, step: int, loss: float, accuracy: float, images_per_second: float, dead_class_maps: Sequence[str] = ()) -> None:
            rates.append(round(images_per_second))

    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: float(len(steps))))
    monkeypatch.setattr(Step, "__call__", timed)
    recipe = torchnin.Recipe(num_epochs=1, batch_size=32, lr=0.001)
    torchnin.train(tiny, few, recipe, out=tmp_path / "run", on_collapse="recover", quiet=True, device="cpu", watcher=Rates())
    assert len(rates) > 5
    assert set(rates) == {32}


def test_a_recipe_that_says_nothing_but_epochs_learns_what_the_notebooks_does_not(tmp_path: Path) -> None:
    run = torchnin.train(NETWORK, "fashion-mnist-sample", torchnin.Recipe(num_epochs=4), seed=SEED, out=tmp_path / "run", quiet=True)
    assert run.result["dead_class_maps"] == 0
    assert run.result["test_accuracy"] > 0.6
