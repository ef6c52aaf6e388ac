"""Steps that are recorded: on a GPU a CUDA graph, here a stand-in that keeps to the same rules."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from torchnin import Augmentation, DatasetSplits, DivergenceError, NiN, NiNConfig, Preprocessing, Recipe, Run, named_recipe, train
from torchnin.data import Batch
from torchnin.device import DeviceChoice
from torchnin.training import loop, step
from torchnin.training.gradient import BatchGradient
from torchnin.training.monitor import Finite, Monitor
from torchnin.training.optimisation import WeightMean, make_optimizers
from torchnin.training.processes import Processes
from torchnin.training.step import Step, recorder
from torchnin.training.thinning import Thinning


class Tape:
    """Keeps to the rules of a CUDA graph: recording does nothing, and what is recorded begins no random numbers and waits for nothing."""

    def __init__(self) -> None:
        self.recordings, self.launches = 0, 0

    def __call__(self, work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
        self.recordings += 1

        def launch() -> None:
            self.launches += 1
            with pytest.MonkeyPatch.context() as patch:
                for name in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
                    patch.setattr(torch.Tensor, name, waits)
                patch.setattr(torch, "manual_seed", begins)
                work()

        return launch


def waits(*_: Any) -> None:
    raise AssertionError("a recorded step waits for the device")


def begins(*_: Any) -> None:
    raise AssertionError("a recorded step begins random numbers")


@pytest.fixture
def tape(monkeypatch: pytest.MonkeyPatch) -> Tape:
    tape = Tape()
    monkeypatch.setattr(loop, "recorder", lambda device, alone: tape)
    monkeypatch.setattr(loop, "_LOOK_EVERY", 4)
    return tape


RECIPES: dict[str, dict[str, Any]] = {
    "d2l": {"recipe": "d2l"},
    "steady": {"recipe": "steady"},
    "steady, weighed and smoothed": {"recipe": "steady", "class_weights": True, "label_smoothing": 0.05},
    "fast, erased": {"recipe": "fast", "augmentation": Augmentation(flip=True, erase=0.5)},
    "fast, a running mean": {"recipe": "fast", "ema_decay": 0.9, "augmentation": Augmentation(shift=2), "class_weights": True},
}


def a_recipe(recipe: str, **changes: Any) -> Recipe:
    return dataclasses.replace(named_recipe(recipe), num_epochs=3, batch_size=32, image_size=None, min_steps=0, min_batches=0, **changes)


def trained(tiny: NiNConfig, few: DatasetSplits, recipe: Recipe, out: Path, **options: Any) -> Run:
    torch.manual_seed(0)
    return train(NiN(tiny), few, recipe, out=out, seed=1, device="cpu", **options)


def rows(run: Run) -> list[dict[str, Any]]:
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    return [{key: value for key, value in json.loads(line).items() if "second" not in key} for line in lines]


@pytest.mark.parametrize("name", RECIPES)
def test_recorded_steps_are_those_that_are_not_recorded(
    name: str, tape: Tape, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = a_recipe(**RECIPES[name])
    recorded = trained(tiny, few, recipe, tmp_path / "recorded")
    assert (tape.recordings, tape.launches) == (1, 27)  # of 30 steps three are done before
    monkeypatch.setattr(step, "_STEPS_BEFORE_RECORDING", 1000)
    plain = trained(tiny, few, recipe, tmp_path / "plain")
    assert tape.recordings == 1
    assert rows(recorded) == rows(plain)
    assert_same_weights(recorded, plain)


def test_short_of_memory_the_recorded_step_is_given_up_before_a_batch_is_taken_apart(
    tape: Tape, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(a_recipe("steady"), num_epochs=11)
    looks: list[int] = []

    def full(_module: torch.nn.Module, _inputs: Any) -> None:
        looks.append(1)
        if len(looks) == 100:  # the one step that is not recorded, as channels are looked at in it
            raise torch.OutOfMemoryError("the device is full")

    torch.manual_seed(0)
    network = NiN(tiny)
    network.register_forward_pre_hook(full)
    run = train(network, few, recipe, out=tmp_path / "short", seed=1, device="cpu")
    assert (tape.recordings, tape.launches, len(looks)) == (1, 96, 111)
    monkeypatch.setattr(step, "_STEPS_BEFORE_RECORDING", 1000)
    plain = trained(tiny, few, recipe, tmp_path / "plain")
    assert [row["findings"] for row in run.metrics] == [row["findings"] for row in plain.metrics]  # no word of memory
    assert rows(run) == rows(plain)


def assert_same_weights(found: Run, expected: Run) -> None:
    theirs = expected.classifier.network.state_dict()
    for key, value in found.classifier.network.state_dict().items():
        assert torch.equal(value, theirs[key]), key


class Devices(TorchDispatchMode):
    """Notes what is asked of another device than the given one, or with values from one."""

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device, self.asked, self.elsewhere = device, 0, []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        self.asked += 1
        if any(isinstance(value, torch.Tensor) and value.device != self.device for value in tree_leaves((args, kwargs, made))):
            self.elsewhere.append(str(func))
        return made


def without_generator(draw: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    return lambda *args, generator, **options: draw(*args, **options)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recorded_step_takes_nothing_from_the_host(name: str, tiny: NiNConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Tensors without values, on a device that is not the host; to read a value there is an error.
    device, recipe = torch.device("meta"), a_recipe(**RECIPES[name])
    monkeypatch.setattr("torch.nn.utils.clip_grad._device_has_foreach_support", lambda device: True)
    # There are no generators for it.
    for draw in (torch.rand, torch.randint):
        monkeypatch.setattr(torch, draw.__name__, without_generator(draw))
    choice = DeviceChoice(device=device, dtype=torch.float32, memory_format=torch.channels_last, reasons={})
    network = choice.place(NiN(tiny)).train()
    thinning = Thinning(320, recipe.thinning, 3, 0, device) if recipe.thinning else None
    monitor = Monitor(network, [str(number) for number in range(10)], [32] * 10, 0, device)
    a_generator = torch.Generator()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "Generator", lambda device: a_generator)
        gradient = BatchGradient(
            network,
            recipe=recipe,
            preprocessing=Preprocessing(channels=1, height=28, width=28, mean=(0.3,), std=(0.3,)),
            seed=0,
            choice=choice,
            monitor=monitor,
            thinning=thinning,
            class_weights=torch.ones(10, device=device) if recipe.class_weights else None,
            processes=Processes(),
            pieces=1,
            on_out_of_memory="stop",
            compile=False,
            say=print,
        )
    monkeypatch.setattr(gradient, "draw", lambda step: None)
    recorded: list[Callable[[], None]] = []

    def record(work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
        recorded.append(work)
        return work

    step = Step(
        network,
        recipe,
        30,
        gradient=gradient,
        optimizers=make_optimizers(network, recipe),
        mean=WeightMean(network, recipe.ema_decay) if recipe.ema_decay else None,
        thinning=thinning,
        monitor=monitor,
        finite=Finite(network, recipe, 30, tmp_path),
        sums=torch.zeros(3, dtype=torch.float64, device=device),
        look_every=50,
        record=record,
    )
    places = torch.zeros(32, dtype=torch.int64, device=device)
    batch = Batch(pictures=torch.zeros(32, 1, 28, 28, dtype=torch.uint8, device=device), labels=places, indices=places, part=slice(0, 32))
    for number in range(1, 5):
        step(batch, number, 1.0)
    assert len(recorded) == 1
    with Devices(device) as devices:
        step(batch, 5, 1.0)
    assert devices.asked > 100
    assert not devices.elsewhere


def test_the_last_batch_of_an_epoch_may_be_smaller(tape: Tape, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    recipe = dataclasses.replace(a_recipe("fast"), batch_size=48)
    trained(tiny, few, recipe, tmp_path / "run")
    assert (tape.recordings, tape.launches) == (1, 3 * 6 - 3)  # 320 pictures are six batches of 48 and one of 32


@pytest.mark.parametrize("name", RECIPES)
def test_the_first_step_is_that_of_a_processor(
    name: str, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = dataclasses.replace(a_recipe(**RECIPES[name]), num_epochs=1, batch_size=320)
    plain = trained(tiny, few, recipe, tmp_path / "plain")
    monkeypatch.setattr(loop, "recorder", lambda device, alone: Tape())
    on_device = trained(tiny, few, recipe, tmp_path / "rates on the device")
    for key, value in on_device.classifier.network.state_dict().items():
        assert torch.allclose(value, plain.classifier.network.state_dict()[key], rtol=1e-5, atol=1e-6), key


def test_an_interrupted_one_goes_on_bit_for_bit(tape: Tape, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    recipe = a_recipe("fast", ema_decay=0.9, augmentation=Augmentation(flip=True, erase=0.3))
    whole = trained(tiny, few, recipe, tmp_path / "whole")
    steps = Step.__call__

    def stop(self: Step, batch: Batch, step: int, lr_scale: float) -> None:
        if step == 13:
            raise KeyboardInterrupt
        steps(self, batch, step, lr_scale)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "__call__", stop)
        with pytest.raises(KeyboardInterrupt):
            trained(tiny, few, recipe, tmp_path / "cut")
    again = trained(tiny, few, recipe, tmp_path / "cut", resume=True)
    assert tape.recordings == 3
    assert_same_weights(again, whole)


def test_a_training_that_goes_back_is_recorded_anew(tape: Tape, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    steps = Step.__call__

    def break_once(self: Step, batch: Batch, step: int, lr_scale: float) -> None:
        if step == 17 and lr_scale == 1.0:
            raise DivergenceError("the loss is nan at step 18; stopped", 18)
        steps(self, batch, step, lr_scale)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "__call__", break_once)
        run = trained(tiny, few, a_recipe("fast"), tmp_path / "run", on_collapse="recover")
    assert tape.recordings == 2
    assert {finding["kind"] for row in rows(run) for finding in row["findings"]} == {"not finite", "recovered"}


@pytest.mark.parametrize("reason", ["CUDA out of memory. Tried to allocate 2 GiB", "operation not permitted when stream is capturing"])
def test_where_recording_fails_steps_go_on_one_by_one(
    reason: str, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
        raise RuntimeError(reason + "\nmore about it")

    monkeypatch.setattr(loop, "recorder", lambda device, alone: fails)
    with pytest.warns(UserWarning, match=rf"steps cannot be recorded here \({re.escape(reason)}\)") as said:
        run = trained(tiny, few, a_recipe("fast"), tmp_path / "run")
    assert len(said) == 1
    monkeypatch.setattr(step, "_STEPS_BEFORE_RECORDING", 1000)
    assert_same_weights(run, trained(tiny, few, a_recipe("fast"), tmp_path / "plain"))


def test_memory_that_is_short_while_recording_does_not_make_the_pieces_smaller(
    tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
        def fails(self: BatchGradient, batch: Batch, step: int) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BatchGradient, "_learn", fails)
            work()
        raise AssertionError("it went on")

    monkeypatch.setattr(loop, "recorder", lambda device, alone: short)
    with pytest.warns(UserWarning, match="steps cannot be recorded here"):
        run = trained(tiny, few, a_recipe("fast"), tmp_path / "run")
    assert not any(row["findings"] for row in rows(run))


def test_numbers_that_are_not_finite_are_found(tape: Tape, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    with pytest.raises(DivergenceError, match="at step"):
        trained(tiny, few, dataclasses.replace(a_recipe("d2l"), lr=1e18), tmp_path / "run")


def test_nothing_is_recorded_where_there_is_no_way_of_it() -> None:
    assert recorder(torch.device("cpu"), True) is None
    assert recorder(torch.device("mps"), True) is None
    assert recorder(torch.device("cuda"), False) is None
    assert recorder(torch.device("cuda"), True) is not None
