"""How a run was begun holds when it is resumed, until something else is given."""

import os
import shutil
import signal
from pathlib import Path

import pytest
import torch

from torchnin import CollapseError, Interrupted, NiNConfig, Recipe, Run, resume, train, train_seeds
from torchnin.data import DatasetSplits
from torchnin.training.log import Silent
from torchnin.training.options import Options

# It learns nothing, which the monitor says in the second of its epochs of 160 steps.
LAME = Recipe(num_epochs=3, batch_size=2, optimizer="sgd", lr=1e-30, warmup=0.0, initialisation="as built")


def interrupt(_run: Run) -> None:
    os.kill(os.getpid(), signal.SIGINT)


class Seen(Silent):
    """Notes whether torch was told to be repeatable when the training began."""

    repeatable: bool | None = None

    def begin(self, path: Path) -> None:
        self.repeatable = torch.are_deterministic_algorithms_enabled()


@pytest.fixture(scope="module")
def interrupted(tiny: NiNConfig, few_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that stops when learning collapses and is not repeatable, interrupted after its first epoch."""
    out = tmp_path_factory.mktemp("interrupted") / "run"
    options = {"on_collapse": "stop", "on_out_of_memory": "stop", "accumulate": 2, "deterministic": False, "device": "cpu"}
    with pytest.raises(Interrupted):
        train(tiny, str(few_file), LAME, out=out, quiet=True, on_epoch=interrupt, **options)
    return out


@pytest.fixture
def begun(interrupted: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(interrupted, tmp_path / "run"))


def test_what_a_run_was_begun_with_holds_when_it_goes_on(begun: Path) -> None:
    seen = Seen()
    with pytest.raises(
        CollapseError, match=r"stopped at step 300, as asked: the loss stands at .* go on all the same with .* --on-collapse warn"
    ):
        resume(begun, quiet=True, watcher=seen)
    assert seen.repeatable is False
    assert Run(begun).config["options"] == {
        "device": "cpu",
        "on_collapse": "stop",
        "on_out_of_memory": "stop",
        "accumulate": 2,
        "deterministic": False,
        "compile": False,
    }


def test_it_holds_too_where_the_arguments_are_given_again(begun: Path, tiny: NiNConfig, few_file: Path) -> None:
    with pytest.raises(CollapseError, match="stopped at step 300, as asked"):
        train(tiny, str(few_file), LAME, out=begun, quiet=True, resume=True)


def test_what_is_given_anew_holds_from_there_on(begun: Path, tiny: NiNConfig, few_file: Path) -> None:
    with pytest.raises(Interrupted):
        train(tiny, str(few_file), LAME, out=begun, quiet=True, resume=True, on_collapse="warn", deterministic=True, on_epoch=interrupt)
    seen = Seen()
    run = resume(begun, quiet=True, watcher=seen)
    assert run.finished
    assert "loss stuck" in {finding["kind"] for row in run.metrics for finding in row["findings"]}
    assert seen.repeatable is True
    assert run.config["options"]["on_out_of_memory"] == "stop"


def test_the_seeds_still_to_begin_are_trained_as_those_before(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    short = Recipe(num_epochs=1, batch_size=80)
    train_seeds(tiny, few, short, seeds=1, out=tmp_path, quiet=True, on_collapse="recover", accumulate=2)
    train_seeds(tiny, few, short, seeds=2, out=tmp_path, quiet=True, resume=True, on_out_of_memory="stop")
    first, second = (Run(tmp_path / f"seed-{number}").config["options"] for number in range(2))
    assert (first["on_collapse"], first["on_out_of_memory"], first["accumulate"]) == ("recover", "accumulate", 2)
    assert (second["on_collapse"], second["on_out_of_memory"], second["accumulate"]) == ("recover", "stop", 2)


def test_a_device_of_torch_is_taken_and_recorded_by_its_name(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    run = train(tiny, few, Recipe(num_epochs=1, batch_size=160), out=tmp_path / "run", quiet=True, device=torch.device("cpu"))  # type: ignore[arg-type]
    assert run.config["options"]["device"] == "cpu"


@pytest.mark.parametrize("value", [7, ["cpu"], None])
def test_what_a_broken_record_holds_is_refused_by_name(value: object) -> None:
    with pytest.raises(ValueError, match=r"device is .*; it is a name such as 'cpu', or 'auto'"):
        Options.of_run({"options": {"device": value}})


@pytest.mark.parametrize("name", ["on_collapse", "on_out_of_memory"])
def test_a_wrong_value_is_told_with_what_is_accepted(name: str, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"{name} is 'recovr'; accepted: .*'stop'"):
        train(tiny, few, out=tmp_path / "run", quiet=True, **{name: "recovr"})
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["resume", "overwrite", "quiet", "deterministic"])
def test_a_switch_is_true_or_false_and_no_text_that_looks_like_it(name: str, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    """`overwrite="no"` would replace a run."""
    with pytest.raises(ValueError, match=f"^{name} is 'no'; it is True or False"):
        train(tiny, few, out=tmp_path / "run", **{name: "no"})
    with pytest.raises(ValueError, match=f"^{name} is 'no'; it is True or False"):
        train_seeds(tiny, few, seeds=1, out=tmp_path / "study", **{name: "no"})
    assert not list(tmp_path.rglob("config.json"))
