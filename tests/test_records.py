"""From finished runs to a record, from a record to weights that ship with their card, and what is refused on the way."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

import torchnin
from torchnin import Recipe, Run
from torchnin.models import shipped

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS / "records"), str(BENCHMARKS)]
import record  # noqa: E402
import ship  # noqa: E402

import records  # noqa: E402

del sys.path[:2]

ARGUMENTS = "fashion-mnist-sample --num-epochs 1 --image-size 14"
TOY = records.Record(arguments=ARGUMENTS, num_seeds=3)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Two seeds of a small training, as `nin train` makes them."""
    folder, argv = tmp_path_factory.mktemp("runs") / "toy", sys.argv
    try:
        for seed in (0, 1):
            sys.argv = ["nin", "train", *ARGUMENTS.split(), "--seed", str(seed), "--out", f"{folder}/seed-{seed}"]
            torchnin.train(
                "nin_small",
                "fashion-mnist-sample",
                Recipe(num_epochs=1, batch_size=512, lr=0.1, image_size=14),
                seed=seed,
                out=folder / f"seed-{seed}",
                quiet=True,
            )
    finally:
        sys.argv = argv
    return [Run(folder / f"seed-{seed}") for seed in (0, 1)]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for module in (record, ship):
        monkeypatch.setattr(module, "RESULTS", tmp_path)
    return tmp_path


def keep(results: Path, document: dict[str, Any]) -> None:
    (results / "toy.json").write_text(json.dumps(document))


def test_what_a_command_chooses_does_not_depend_on_its_order() -> None:
    asked = records.choices(["--num-epochs", "40", "--no-flip"])
    assert asked == {"data": "fashion-mnist", "num-epochs": "40", "no-flip": ""}
    assert records.choices(["fashion-mnist", "--no-flip", "--num_epochs=40", "--seed", "3", "--out", "here", "--json"]) == asked
    assert records.choices(["mnist", "--num-epochs", "40"]) != asked


def test_the_study_of_steady_trains_as_the_command_does() -> None:
    study = ["benchmarks/every_seed/cure.py", "--out", "here", "--seeds", "4", "--only", "steady"]
    made = records.made_by({"command": study})
    assert made == records.choices(["fashion-mnist", "--model", "nin_d2l", "--image-size", "224"])
    assert records.made_by({"command": [*study, "--first-seed", "4"]}) == made
    assert records.made_by({"command": [*study, "--image-size", "112"]}) == {**made, "image-size": "112"}
    for other in ([*study, "--share", "0.5"], [*study[:-1], "without clipping"], study[:-2], ["cure.py", "train"]):
        with pytest.raises(ValueError, match="a record is made by nin train"):
            records.made_by({"command": other})


def test_every_record_is_a_training_that_can_begin() -> None:
    for each in records.RECORDS.values():
        assert each.arguments.split()[0] in torchnin.data.CATALOG
        assert not {"--seed", "--seeds", "--out", "--data-dir"} & set(each.arguments.split())
        assert each.num_seeds >= 1


def test_seeds_are_added_one_by_one(runs: list[Run], results: Path) -> None:
    one = record.recorded("toy", TOY, runs[:1], shared=True)
    assert (one["num_seeds"], one["planned_seeds"], one["standard_deviation"]) == (1, 3, None)
    keep(results, one)
    both = record.recorded("toy", TOY, runs[1:], shared=False)
    accuracies = [run.result["test_accuracy"] for run in runs]
    assert [row["test_accuracy"] for row in both["seeds"]] == accuracies
    assert both["mean_test_accuracy"] == pytest.approx(sum(accuracies) / 2)
    assert both["standard_deviation"] == pytest.approx(abs(accuracies[0] - accuracies[1]) / 2**0.5)
    assert both["min_test_accuracy"] == min(accuracies)
    row = both["seeds"][1]
    assert {"seconds", "epochs", "num_parameters", "dead_class_maps", "processor", "git_commit", "versions", "date"} <= row.keys()
    assert (row["seed"], row["other_work_meanwhile"], both["seeds"][0]["other_work_meanwhile"]) == (1, False, True)
    keep(results, both)
    assert record.recorded("toy", TOY, [], shared=False) == both


def test_a_run_made_in_python_is_recorded_beside_one_of_the_command(runs: list[Run], results: Path, tmp_path: Path) -> None:
    shutil.copytree(runs[1].path, tmp_path / "python")
    python = Run(tmp_path / "python")
    python.write_config(python.config | {"command": ["study.py", "1"]})
    with pytest.raises(ValueError, match=r"made by 'study.py 1', and a record is made by nin train"):
        record.recorded("toy", TOY, [python], shared=False)
    keep(results, record.recorded("toy", TOY, runs[:1], shared=False))
    assert record.recorded("toy", TOY, [python], shared=False)["num_seeds"] == 2
    python.write_config(python.config | {"recipe": python.config["recipe"] | {"lr": 3}})
    with pytest.raises(ValueError, match="its recipe is not that of the seeds recorded before"):
        record.recorded("toy", TOY, [python], shared=False)


def test_a_record_is_of_one_training(runs: list[Run], results: Path, tmp_path: Path) -> None:
    other = records.Record(arguments=f"{ARGUMENTS} --lr 3", num_seeds=1)
    with pytest.raises(ValueError, match=r"seed-0 was made with .*; the record toy is 'nin train .* --lr 3'"):
        record.recorded("toy", other, runs[:1], shared=False)
    keep(results, record.recorded("toy", TOY, runs[:1], shared=False))
    shutil.copytree(runs[1].path, tmp_path / "changed")
    changed = Run(tmp_path / "changed")
    changed.write_config(changed.config | {"recipe": changed.config["recipe"] | {"lr": 3}})
    with pytest.raises(ValueError, match="its recipe is not that of the seeds recorded before"):
        record.recorded("toy", TOY, [changed], shared=False)
    (results / "toy.json").unlink()
    with pytest.raises(ValueError, match="no run of toy has finished"):
        record.recorded("toy", TOY, [], shared=False)


def test_a_recorded_run_ships_with_its_card(runs: list[Run], results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keep(results, record.recorded("toy", TOY, runs, shared=True))
    weights = tmp_path / "weights"
    folder = ship.ship(runs[0], "toy", weights=weights)
    monkeypatch.setattr(shipped, "WEIGHTS", weights)
    facts = json.loads((folder / "card.json").read_text())
    classifier = torchnin.load("toy")
    report = classifier.evaluate(torchnin.load_dataset("fashion-mnist-sample").test)
    assert report.accuracy == facts["test"]["accuracy"] == facts["sample"]["accuracy"] == classifier.metadata["test_accuracy"]
    assert facts["as_trained"]["accuracy"] == runs[0].result["test_accuracy"]
    assert abs(report.accuracy - facts["as_trained"]["accuracy"]) <= 0.0002
    assert (folder / "model.safetensors").stat().st_size < 0.52 * facts["num_bytes_as_trained"]
    assert str(tmp_path) not in (folder / "config.json").read_text()
    text = (folder / "README.md").read_text(encoding="utf-8")
    for said in (
        f"**{report.accuracy:.2%}** of the 1,000 test pictures",
        f"nin train {ARGUMENTS}",
        f"2 seeds of 3 planned reach {runs[0].result['test_accuracy']:.2%}, {runs[1].result['test_accuracy']:.2%}",
        "Shipped is the first seed",
        json.loads((folder / "config.json").read_text())["weights_sha256"],
        "other work on the same machine",
        "## 中文说明",
        "licence: MIT",
        f"| Ankle boot | {' | '.join(str(count or '.') for count in report.confusion[9].tolist())} |",
    ):
        assert said in text, said
    assert ship.cards(weights) == {folder / "README.md": text}
    keep(results, record.recorded("toy", TOY, [], shared=True) | {"planned_seeds": 2})
    assert ship.cards(weights) != {folder / "README.md": text}


def test_what_is_not_fit_to_ship_is_refused_and_leaves_nothing(
    runs: list[Run], results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "weights"
    with pytest.raises(ValueError, match=r"toy\.json is missing; record the run first"):
        ship.ship(runs[0], "toy", weights=weights)
    keep(results, record.recorded("toy", TOY, runs[:1], shared=False))
    with pytest.raises(ValueError, match=r"seed-1 is not among the seeds of"):
        ship.ship(runs[1], "toy", weights=weights)
    monkeypatch.setattr(ship, "MAX_BYTES", 100_000)
    with pytest.raises(ValueError, match=r"the weights would take [0-9,]+ bytes, and 100,000 may ship"):
        ship.ship(runs[0], "toy", weights=weights)
    monkeypatch.setattr(ship, "MAX_POINTS", -1)
    with pytest.raises(ValueError, match=r"float16 changes the test accuracy .*--float32 ships"):
        ship.ship(runs[0], "toy", weights=weights)
    assert not weights.exists()


def test_the_cards_of_what_ships_say_what_is_recorded() -> None:
    for path, wanted in ship.cards().items():
        assert path.read_text(encoding="utf-8") == wanted, "run python benchmarks/records/ship.py --cards"
