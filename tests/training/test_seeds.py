"""A study over many seeds goes on where it stopped, and a seed that fails is counted, not raised."""

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torchnin import NiN, NiNConfig, Recipe
from torchnin.data import DatasetSplits, ImageDataset
from torchnin.training import Interrupted, Run, train, train_seeds
from torchnin.training.monitor import is_guessing
from torchnin.training.seeds import summarise

SHORT = Recipe(num_epochs=2, batch_size=80)


def test_a_study_that_was_interrupted_goes_on_with_the_same_call_and_resume(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    ended = []

    def interrupt(run: Run) -> None:
        ended.append(run.path.name)
        if ended == ["seed-0", "seed-0", "seed-1"]:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted, match=r"stopped in seed 1, with 1 of 3 seeds done; .* the same command and --resume"):
        train_seeds(tiny, few, SHORT, seeds=3, out=tmp_path, device="cpu", quiet=True, on_epoch=interrupt)
    so_far = json.loads((tmp_path / "summary.json").read_text())
    assert (so_far["num_seeds"], so_far["num_done"]) == (3, 1)

    ended.clear()
    summary = train_seeds(
        tiny, few, SHORT, seeds=3, out=tmp_path, device="cpu", quiet=True, resume=True, on_epoch=lambda run: ended.append(run.path.name)
    )
    assert ended == ["seed-1", "seed-2", "seed-2"]  # nothing is trained twice
    accuracies = [row["test_accuracy"] for row in summary["seeds"]]
    assert summary["num_done"] == 3
    assert summary["mean"] == pytest.approx(sum(accuracies) / 3)
    assert (summary["minimum"], summary["maximum"]) == (min(accuracies), max(accuracies))
    assert so_far["seeds"][0] == summary["seeds"][0]


@pytest.mark.parametrize("dtype", [None, "float32"])
def test_a_seed_that_a_study_goes_on_with_records_its_dtype_as_the_first_did(
    dtype: str | None, tiny: NiNConfig, few: DatasetSplits, tmp_path: Path
) -> None:
    short: dict[str, Any] = {"recipe": Recipe(num_epochs=1, batch_size=320), "out": tmp_path, "device": "cpu", "quiet": True}
    train_seeds(tiny, few, seeds=1, dtype=dtype, **short)
    train_seeds(tiny, few, seeds=2, resume=True, **short)
    first, second = (Run(tmp_path / name).config["device"] for name in ("seed-0", "seed-1"))
    assert second == first
    assert first["reasons"]["dtype"].startswith("asked for") == (dtype is not None)


def test_the_figures_of_a_study_by_hand() -> None:
    rows = [{"test_accuracy": accuracy, "failure": None} for accuracy in (0.9, 0.8, 0.4)] + [{"failure": "it diverged"}]
    summary = summarise(rows, 5)
    assert (summary["num_seeds"], summary["num_done"], summary["failures"]) == (5, 4, 1)
    assert (summary["minimum"], summary["median"], summary["maximum"]) == (0.4, 0.8, 0.9)
    assert summary["mean"] == pytest.approx(0.7)
    assert summary["standard_deviation"] == pytest.approx(0.07**0.5)  # of a sample: (.04 + .01 + .09) / 2
    assert summarise(rows[:1], 5)["standard_deviation"] is None


def test_a_study_counts_on_from_numpys_numbers(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    numbers: dict[str, Any] = {"seed": np.int64(4), "seeds": np.int64(1)}
    assert train_seeds(tiny, few, Recipe(num_epochs=1, batch_size=80), out=tmp_path, quiet=True, **numbers)["seeds"][0]["seed"] == 4


def test_a_study_that_replaces_another_and_is_interrupted_holds_nothing_of_the_other(
    tiny: NiNConfig, few: DatasetSplits, tmp_path: Path
) -> None:
    train_seeds(tiny, few, SHORT, seeds=3, out=tmp_path, device="cpu", quiet=True)
    mine = tmp_path / "seed-mine" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("dear")
    (tmp_path / "seed-2" / "remarks.txt").write_text("dear")

    def interrupt(run: Run) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    other = dataclasses.replace(SHORT, lr=0.07)
    with pytest.raises(Interrupted):
        train_seeds(tiny, few, other, seeds=2, out=tmp_path, device="cpu", quiet=True, overwrite=True, on_epoch=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-0", "seed-2", "seed-mine"]
    assert [path.name for path in (tmp_path / "seed-2").iterdir()] == ["remarks.txt"]
    assert mine.read_text() == "dear"
    summary = train_seeds(tiny, few, other, seeds=2, out=tmp_path, device="cpu", quiet=True, resume=True)
    assert summary["num_done"] == 2
    assert {Run(tmp_path / f"seed-{seed}").config["recipe"]["lr"] for seed in range(2)} == {0.07}


@pytest.mark.parametrize("how", [{}, {"overwrite": True}, {"resume": True}])
def test_a_study_is_not_put_into_a_run(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path, how: dict[str, bool]) -> None:
    """Or the run's classifier would stand for the study that was to replace it."""
    train(tiny, few, SHORT, out=tmp_path, device="cpu", quiet=True)
    there = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(ValueError, match="holds a run, and a study takes a folder of its own"):
        train_seeds(tiny, few, SHORT, seeds=2, out=tmp_path, device="cpu", quiet=True, **how)
    assert sorted(path.name for path in tmp_path.iterdir()) == there


def test_what_is_no_study_is_left_as_it_is(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    own = tmp_path / "summary.json"
    own.write_text("mine")
    with pytest.raises(ValueError, match=r"already holds a study, or a summary\.json; --resume"):
        train_seeds(tiny, few, seeds=1, out=tmp_path)
    with pytest.raises(ValueError, match=r"summary\.json is a file; a study needs a folder, choose another --out"):
        train_seeds(tiny, few, seeds=1, out=own)
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
    assert own.read_text() == "mine"


def test_a_seed_that_diverges_is_a_row_with_its_reason(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    recipe = Recipe(num_epochs=1, batch_size=80, lr=1e30, warmup=0.0)
    summary = train_seeds(tiny, few, recipe, seeds=2, out=tmp_path, device="cpu", quiet=True)
    assert summary["failures"] == 2
    assert summary["mean"] is None
    assert all("learning rate" in row["failure"] for row in summary["seeds"])


def test_a_seed_that_diverges_in_its_last_step_is_a_row_too(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    # The weights are finite after the only step, and what they make of the test pictures is not.
    recipe = Recipe(num_epochs=1, batch_size=320, optimizer="sgd", lr=1e14, warmup=0.0, clip_norm=None)
    summary = train_seeds(tiny, few, recipe, seeds=2, out=tmp_path, device="cpu", dtype="float32", quiet=True)
    said = "the training diverged in its last steps: the logits of 100 of 100 pictures are not finite; train anew with a lower --lr"
    assert [row["failure"] for row in summary["seeds"]] == [f"{said} (now 1e+14)"] * 2
    assert not (tmp_path / "seed-0" / "classifier").exists()


def test_a_seed_that_has_collapsed_is_not_gone_on_with(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    trained: list[str] = []

    def note(run: Run) -> None:
        trained.append(run.path.name)

    def study(**options: Any) -> dict[str, Any]:
        return train_seeds(tiny, few, SHORT, seeds=2, out=tmp_path, device="cpu", quiet=True, on_epoch=note, **options)

    whole = study()
    row = {"seed": 1, "failure": "stopped at step 4, as asked"}
    (tmp_path / "seed-1" / "result.json").unlink()
    (tmp_path / "summary.json").write_text(json.dumps({**whole, "seeds": [whole["seeds"][0], row]}))
    trained.clear()
    summary = study(resume=True)
    # Whether the other seed of so short a training counts as failed, with a dead map, the machine's last bits decide.
    first = whole["seeds"][0]
    assert (summary["seeds"], summary["failures"], trained) == ([first, row], 1 + (first["failure"] is not None), [])
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert study(resume=True, on_collapse="warn") == whole  # something else is to be done about it


def test_what_was_told_of_later_seeds_is_kept_until_they_are_looked_at_again(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    def study(**options: Any) -> dict[str, Any]:
        return train_seeds(tiny, few, SHORT, seeds=3, out=tmp_path, device="cpu", quiet=True, **options)

    whole = study()
    row = {"seed": 2, "failure": "stopped at step 4, as asked"}
    (tmp_path / "seed-2" / "result.json").unlink()
    shutil.rmtree(tmp_path / "seed-1")
    (tmp_path / "summary.json").write_text(json.dumps({**whole, "seeds": [*whole["seeds"][:2], row]}))

    def interrupt(_run: Run) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        study(resume=True, on_epoch=interrupt)
    summary = study(resume=True)
    assert summary["seeds"][2] == row


@pytest.mark.parametrize(
    ("accuracy", "counts", "guessed"),
    [
        *((0.74, [500, 500], False), (0.5, [500, 500], True), (0.9, [900, 100], True), (0.97, [900, 100], False), (1.0, [100], False)),
        *((0.008, [20] * 1000, False), (0.0015, [20] * 1000, True)),
    ],
)
def test_an_accuracy_of_guessing_is_that_of_the_commonest_class(accuracy: float, counts: list[int], guessed: bool) -> None:
    assert is_guessing(accuracy, max(counts) / sum(counts), sum(counts)) == guessed


def test_weighed_classes_are_judged_by_the_mean_of_their_recalls(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Half of the common class looks like the rare one, which counts as much: the best answer is right for 55 pictures of 100.
    labels = np.repeat([0, 1], (90, 10))
    images = np.zeros((100, 1, 28, 28), dtype=np.uint8)
    images[45:, :, :14] = 255
    pictures = ImageDataset(images, labels, ("common", "rare"))
    data = DatasetSplits(name="overlapping", train=pictures, test=pictures, source="arrays")
    recipe = Recipe(num_epochs=8, batch_size=20, class_weights=True)
    (row,) = train_seeds("nin_small", data, recipe, seeds=1, out=tmp_path, device="cpu", dtype="float32")["seeds"]
    assert (row["test_accuracy"], row["test_balanced_accuracy"], row["failure"]) == (0.55, 0.75, None)
    assert "nothing was learned" not in capsys.readouterr().err


def test_a_study_that_goes_on_keeps_its_recipe_and_what_it_held_out(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    short = dataclasses.replace(SHORT, num_epochs=1)
    train_seeds(tiny, few, short, seeds=1, out=tmp_path, device="cpu", quiet=True, validation=0.25)
    train_seeds(tiny, few, seeds=2, out=tmp_path, quiet=True, resume=True)
    first, second = (Run(tmp_path / f"seed-{seed}").config for seed in (0, 1))
    for key in ("recipe", "validation", "options"):
        assert first[key] == second[key]


def test_a_study_that_goes_on_reads_its_folder_as_it_was_read_and_keeps_its_name(
    tiny: NiNConfig, few: DatasetSplits, tmp_path: Path
) -> None:
    for place in range(40):
        folder = tmp_path / "photos" / few.class_names[few.train.labels[place]]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(few.train.images[place, 0]).resize((70, 80)).save(folder / f"{place}.png")
    short: dict[str, Any] = {"data": tmp_path / "photos", "out": tmp_path / "study", "device": "cpu", "quiet": True}
    train_seeds(tiny, recipe=Recipe(num_epochs=1, batch_size=80, image_size=20), seeds=1, name="mine", **short)
    train_seeds(tiny, seeds=2, resume=True, **short)
    first, second = (Run(tmp_path / "study" / f"seed-{seed}").config for seed in (0, 1))
    assert second["data"] == first["data"]
    assert second["name"] == first["name"] == "mine"


def test_a_network_that_one_seed_would_hand_to_the_next_is_refused(tiny: NiNConfig, few: DatasetSplits, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="network is a NiN, whose weights one seed would hand to the next"):
        train_seeds(NiN(tiny), few, Recipe(num_epochs=1), seeds=2, out=tmp_path / "study")  # type: ignore[arg-type]
    assert not (tmp_path / "study").exists()
