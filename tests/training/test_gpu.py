"""What a GPU does with a training and its classifier; skipped where none is present."""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from torchnin import Augmentation, Classifier, DatasetSplits, NiN, NiNConfig, Recipe, Run, named_recipe, train
from torchnin.data import Batch
from torchnin.training import step
from torchnin.training.step import Step

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is present"),
    # torch says so as soon as it is asked to notice what waits.
    pytest.mark.filterwarnings("ignore:Synchronization debug mode"),
]
if torch.cuda.is_available():
    # For --deterministic, which wants it before the GPU is used, as other tests do first.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

RECIPES: dict[str, dict[str, Any]] = {
    "d2l": {"recipe": "d2l"},
    "steady": {"recipe": "steady"},
    "fast, erased": {"recipe": "fast", "augmentation": Augmentation(flip=True, erase=0.5)},
    "fast, a running mean": {"recipe": "fast", "ema_decay": 0.9, "augmentation": Augmentation(shift=2), "class_weights": True},
}


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts the steps that are launched as a whole, in which nothing may wait for the GPU."""
    record, counted = step._cuda_graph, [0]

    def recorded(work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
        replay = record(work, generator)

        def launch() -> None:
            counted[0] += 1
            before = torch.cuda.get_sync_debug_mode()
            torch.cuda.set_sync_debug_mode("error")
            try:
                replay()
            finally:
                torch.cuda.set_sync_debug_mode(before)

        return launch

    monkeypatch.setattr(step, "_cuda_graph", recorded)
    return counted


def a_recipe(recipe: str, **changes: Any) -> Recipe:
    return dataclasses.replace(named_recipe(recipe), num_epochs=3, batch_size=32, image_size=None, min_steps=0, min_batches=0, **changes)


def learned(tiny: NiNConfig, few: DatasetSplits, recipe: Recipe, out: Path, **options: Any) -> Run:
    torch.manual_seed(0)
    return train(NiN(tiny), few, recipe, out=out, seed=1, **{"device": "cuda", "dtype": "float32", **options})


@contextlib.contextmanager
def stopped() -> Iterator[None]:
    """While open, a training is interrupted in its second epoch."""
    steps = Step.__call__

    def stop(self: Step, batch: Batch, number: int, lr_scale: float) -> None:
        if number == 13:
            raise KeyboardInterrupt
        steps(self, batch, number, lr_scale)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Step, "__call__", stop)
        yield


def losses(run: Run) -> list[float]:
    return [json.loads(line)["train_loss"] for line in (run.path / "metrics.jsonl").read_text().splitlines()]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return {name: value.cpu() for name, value in run.classifier.network.state_dict().items()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", RECIPES)
def test_steps_are_recorded(
    name: str, dtype: str, launches: list[int], tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where recording fails a warning says so, which would fail the test.
    recorded = learned(tiny, few, a_recipe(**RECIPES[name]), tmp_path / "recorded", dtype=dtype)
    assert launches == [27]  # of 30 steps three are done before
    monkeypatch.setattr(step, "_STEPS_BEFORE_RECORDING", 1000)
    plain = learned(tiny, few, a_recipe(**RECIPES[name]), tmp_path / "plain", dtype=dtype)
    assert losses(recorded) == pytest.approx(losses(plain), rel=0.02)  # a GPU's ways to convolve round in another order each time


def test_compiled_steps_are_recorded_too(few_file: Path, tmp_path: Path) -> None:
    """In a process of its own: the checks of shapes that these tests run with cannot be compiled. Where either fails a warning says so."""
    code = (
        "import sys, torchnin\n"
        "from torchnin.training.step import Step\n"
        "found, step = [], Step.__call__\n"
        "def noted(self, *arguments):\n"
        "    step(self, *arguments)\n"
        "    found.append(self._again is not None)\n"
        "Step.__call__ = noted\n"
        "recipe = torchnin.named_recipe('fast').changed(num_epochs=4, batch_size=32)\n"
        "plain, compiled = (\n"
        "    torchnin.train('nin_small', sys.argv[1], recipe, out=f'{sys.argv[2]}/{how}', device='cuda', quiet=True, compile=how)\n"
        "    for how in (False, True)\n"
        ")\n"
        "assert found == 2 * (3 * [False] + 37 * [True]), found\n"
        "for one, other in zip(plain.metrics, compiled.metrics, strict=True):\n"
        "    assert abs(one['train_loss'] - other['train_loss']) < 0.1, (one, other)\n"
    )
    subprocess.run([sys.executable, "-W", "error::UserWarning", "-c", code, few_file, tmp_path], check=True, timeout=600)


def test_the_same_bits_twice_where_asked_for(launches: list[int], tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    one, other = (learned(tiny, few, a_recipe("steady"), tmp_path / name, deterministic=True) for name in ("one", "other"))
    assert launches == [54]
    assert all(torch.equal(value, weights(other)[name]) for name, value in weights(one).items())


def test_an_interrupted_one_goes_on_bit_for_bit(launches: list[int], tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    recipe = a_recipe("fast", ema_decay=0.9, augmentation=Augmentation(flip=True, erase=0.3))
    whole = learned(tiny, few, recipe, tmp_path / "whole", deterministic=True)
    with stopped(), pytest.raises(KeyboardInterrupt):
        learned(tiny, few, recipe, tmp_path / "cut", deterministic=True)
    again = learned(tiny, few, recipe, tmp_path / "cut", deterministic=True, resume=True)
    assert all(torch.equal(value, weights(again)[name]) for name, value in weights(whole).items())


def test_it_learns_what_a_processor_learns(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    # Without random numbers, which are others on each device: no dropout, nothing augmented.
    config = dataclasses.replace(tiny, dropout=0.0)
    recipe = a_recipe("steady", augmentation=Augmentation())
    on_gpu, on_cpu = (learned(config, few, recipe, tmp_path / device, device=device) for device in ("cuda", "cpu"))
    assert losses(on_gpu)[0] == pytest.approx(losses(on_cpu)[0], rel=0.02)


def test_a_training_goes_on_on_the_other_device(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    for first, then in (("cuda", "cpu"), ("cpu", "cuda")):
        with stopped(), pytest.raises(KeyboardInterrupt):
            learned(tiny, few, a_recipe("fast"), tmp_path / first, device=first)
        assert len(losses(learned(tiny, few, a_recipe("fast"), tmp_path / first, device=then, resume=True))) == 3


def test_it_predicts_and_explains_what_a_processor_does(trained: Run, few: DatasetSplits) -> None:
    on_gpu, on_cpu = (Classifier.load(trained.path, device=device) for device in ("cuda", "cpu"))
    pixels = torch.from_numpy(few.test.images)
    assert torch.allclose(on_gpu.logits(pixels), on_cpu.logits(pixels), rtol=0.01, atol=0.01)  # products are rounded to TF32 there
    assert on_gpu.predict(few.test.images[0]).label == on_cpu.predict(few.test.images[0]).label
    assert on_gpu.evaluate(few.test).accuracy == pytest.approx(on_cpu.evaluate(few.test).accuracy, abs=0.02)
    maps = [classifier.explain(few.test.images[0]).class_maps for classifier in (on_gpu, on_cpu)]
    assert torch.allclose(torch.as_tensor(maps[0]).cpu(), torch.as_tensor(maps[1]), rtol=0.01, atol=0.01)
