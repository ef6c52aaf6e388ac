"""Where memory is short, a batch is learned in pieces and stays the batch it was."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import torchnin
from torchnin import DatasetSplits, NiN, NiNConfig, Preprocessing, Recipe, Run, choose_device
from torchnin.data import Batches
from torchnin.training import OutOfMemoryError, TrainingError
from torchnin.training.checkpoint import read_checkpoint
from torchnin.training.gradient import BatchGradient
from torchnin.training.monitor import Monitor
from torchnin.training.processes import Processes

ONCE = Recipe(num_epochs=2, batch_size=40, lr=0.05, label_smoothing=0.1, augmentation=torchnin.data.Augmentation(shift=1))
# The command with as much more memory than it takes to begin as its first argument says, in MiB.
LIMITED = """
import resource, sys
import torch
torch.set_num_threads(1)
import torchnin.training
from torchnin.commands.main import main
from torchnin.training import loop

go = loop.Training.go

def limited(self):
    used = int(next(line for line in open("/proc/self/status") if line.startswith("VmSize")).split()[1]) * 1024
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]) * 2**20, before[1]))
    go(self)
    resource.setrlimit(resource.RLIMIT_AS, before)

loop.Training.go = limited
main(sys.argv[2:])
"""


def short_of_memory(config: NiNConfig, most: int) -> NiN:
    """A network that fits only so many pictures into memory."""

    def hook(_module: nn.Module, inputs: Any) -> None:
        if len(inputs[0]) > most and torch.is_grad_enabled():
            raise torch.OutOfMemoryError("the device is full")

    torch.manual_seed(1)
    network = NiN(config)
    network.register_forward_pre_hook(hook)
    return network


@pytest.fixture(scope="module")
def plain(tiny: NiNConfig) -> NiNConfig:
    """Without layers that see the batch, or draw."""
    return dataclasses.replace(tiny, batch_norm=False, dropout=0.0)


def losses(run: Run) -> list[float]:
    return [row["train_loss"] for row in run.metrics]


def test_the_batch_stays_what_it_was(plain: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    for number, recipe in enumerate((ONCE, dataclasses.replace(ONCE, class_weights=True, thinning=0.5, num_epochs=3))):
        whole, pieces = (
            torchnin.train(short_of_memory(plain, most), few, recipe, out=tmp_path / f"{most}-{number}", dtype="float32", quiet=True)
            for most in (10**9, 13)
        )
        assert losses(pieces) == pytest.approx(losses(whole), rel=1e-4)
        found = [finding for row in pieces.metrics for finding in row["findings"] if finding["kind"] == "out of memory"]
        # 40 do not fit, nor 20; 10 do. Each halving is said once.
        assert [finding["step"] for finding in found] == [1, 1]
        assert "with 20 pictures at once (the device is full): from here on each batch is learned in pieces of 10" in found[1]["message"]
        assert "a step is still one of 40" in found[1]["message"]


@pytest.mark.parametrize("pieces", [1, 3])
def test_rare_classes_weigh_as_torch_weighs_them(pieces: int, plain: NiNConfig, few: DatasetSplits) -> None:
    torch.manual_seed(0)
    choice, weights, preprocessing = choose_device("cpu", "float32"), torch.rand(10) + 0.5, Preprocessing.of(few.train)
    network = choice.place(NiN(plain)).train()
    gradient = BatchGradient(
        network,
        recipe=Recipe(label_smoothing=0.1),
        preprocessing=preprocessing,
        seed=0,
        choice=choice,
        monitor=Monitor(network, few.class_names, [32] * 10, 0, choice.device),
        thinning=None,
        class_weights=weights,
        processes=Processes(),
        pieces=pieces,
        on_out_of_memory="stop",
        compile=False,
        say=print,
    )
    batch = next(Batches(few.train, batch_size=40, device=choice.device, seed=0).epoch())
    _, loss = gradient(batch, 0)
    expected = nn.functional.cross_entropy(network(preprocessing(batch.pictures)), batch.labels, weights, label_smoothing=0.1)
    torch.testing.assert_close(loss, expected.detach())
    for parameter, slope in zip(network.parameters(), torch.autograd.grad(expected, list(network.parameters())), strict=True):
        torch.testing.assert_close(parameter.grad, slope, rtol=1e-4, atol=1e-6)


def test_compiled_it_learns_the_same_and_goes_on_alike(tmp_path: Path) -> None:
    """In a process of its own: the checks of shapes that these tests run with cannot be compiled."""
    code = (
        "import functools, sys, torch, torchnin\n"
        "from torchnin import Augmentation, Recipe, load_dataset, train\n"
        "torch.compile, calls = functools.partial(torch.compile, backend='aot_eager'), []\n"
        "sample = load_dataset('fashion-mnist-sample')\n"
        "train_, test = sample.train, sample.test\n"
        "data = load_dataset(((train_.images[:440], train_.labels[:440]), (test.images[:50], test.labels[:50])))\n"
        "recipe = Recipe(num_epochs=2, batch_size=8, lr=.001, muon_lr=.001, thinning=.3, augmentation=Augmentation(shift=1))\n"
        "def trained(name, **how):\n"
        "    return train('nin_small', data, recipe, out=f'{sys.argv[1]}/{name}', dtype='float32', quiet=True, **how)\n"
        "plain, compiled, again = trained('plain'), trained('compiled', compile=True), trained('again', compile=True)\n"
        "assert compiled.config['options']['compile'] and not plain.config['options']['compile']\n"
        "for one, other, third in zip(plain.metrics, compiled.metrics, again.metrics, strict=True):\n"
        "    assert abs(one['train_loss'] - other['train_loss']) < 1e-3, (one, other)\n"
        "    assert other['train_loss'] == third['train_loss']\n"
        "    assert one['dead_channels'].keys() == other['dead_channels'].keys()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=600)


def test_what_cannot_be_compiled_is_trained_as_it_is(
    tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(network: nn.Module, **_: Any) -> Callable[[Tensor], Tensor]:
        def call(pictures: Tensor) -> Tensor:
            raise RuntimeError("no compiler was found\nand much more")

        return call

    plain = torchnin.train(tiny, few, ONCE, out=tmp_path / "plain", seed=1, quiet=True)
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.warns(UserWarning, match=r"cannot be compiled here \(no compiler was found\); it is trained as it is") as told:
        run = torchnin.train(tiny, few, ONCE, out=tmp_path / "run", seed=1, quiet=True, compile=True)
    assert len([warning for warning in told if "compiled" in str(warning.message)]) == 1
    assert losses(run) == losses(plain)


def test_normalisation_is_said_to_see_less(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    run = torchnin.train(short_of_memory(tiny, 20), few, ONCE, out=tmp_path / "run", quiet=True)
    assert run.metrics[0]["findings"][0]["message"].endswith("; batch normalisation sees 20 at a time")


def test_a_resumed_run_keeps_the_pieces_and_the_bits(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    whole = torchnin.train(short_of_memory(tiny, 20), few, ONCE, out=tmp_path / "whole", seed=2, quiet=True)

    def interrupts(_module: nn.Module, _inputs: Any) -> None:
        calls.append(1)
        if len(calls) == 25:
            os.kill(os.getpid(), 2)

    calls: list[int] = []
    network = short_of_memory(tiny, 20)
    network.register_forward_pre_hook(interrupts)
    with pytest.raises(torchnin.Interrupted):
        torchnin.train(network, few, ONCE, out=tmp_path / "run", seed=2, quiet=True)
    assert read_checkpoint(tmp_path / "run" / "checkpoint")[0].progress["pieces"] == 2
    # Any number of pictures fits now; the pieces stay, and with them the bits.
    resumed = torchnin.train(short_of_memory(tiny, 10**9), few, ONCE, out=tmp_path / "run", seed=2, resume=True, quiet=True)
    ours, theirs = (read_checkpoint(run.path / "checkpoint")[0].tensors for run in (resumed, whole))
    assert {name for name in ours if not torch.equal(ours[name], theirs[name])} == set()


def test_stopped_where_asked_and_gone_on_with_in_pieces(plain: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(OutOfMemoryError, match=r"with 40 pictures at once .* stopped, as asked: go on with --resume --accumulate 2"):
        torchnin.train(short_of_memory(plain, 20), few, ONCE, out=out, on_out_of_memory="stop", quiet=True)
    run = torchnin.train(short_of_memory(plain, 20), few, ONCE, out=out, on_out_of_memory="stop", accumulate=2, resume=True, quiet=True)
    assert len(run.metrics) == 2
    assert not [finding for row in run.metrics for finding in row["findings"] if finding["kind"] == "out of memory"]


def test_what_cannot_be_halved_is_said_so(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    with pytest.raises(OutOfMemoryError, match=r"with 3 pictures at once .* fewer would not do: take a smaller --image-size or network"):
        torchnin.train(short_of_memory(tiny, 0), few, ONCE, out=tmp_path / "run", quiet=True)
    assert issubclass(OutOfMemoryError, TrainingError)
    with pytest.raises(ValueError, match="accumulate is 0; it is a whole number of pieces, at least 1"):
        torchnin.train(tiny, few, ONCE, out=tmp_path / "other", accumulate=0, quiet=True)


def test_more_pieces_than_pictures_are_as_many_as_have_some(plain: NiNConfig, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    for network, most in ((plain, 40), (tiny, 20)):  # batch normalisation needs two
        asked, fitting = (
            torchnin.train(network, few, ONCE, out=tmp_path / f"{most}-{pieces}", accumulate=pieces, quiet=True) for pieces in (10**9, most)
        )
        assert losses(asked) == losses(fitting)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the limit is measured from /proc")
def test_a_real_limit(few_file: Path, tmp_path: Path) -> None:
    """A step with 320 pictures of 64 pixels takes more than so much; pieces of it do not."""
    options = ("--model", "nin_small", "--num-epochs", "1", "--batch-size", "320", "--image-size", "64", "--dtype", "float32", "--json")
    command = [sys.executable, "-c", LIMITED, "170", "train", few_file, "--out", tmp_path / "run", *options]
    ran = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "out of memory (epoch 1, step 1): out of memory at step 1, with 320 pictures at once" in ran.stderr
    assert json.loads(ran.stdout)["epochs"] == 1
