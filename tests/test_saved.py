"""A saved classifier's folder holds one classifier, whatever happens while it is written, and tells what is wrong with it."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from torchnin import Classifier, DataError, DatasetSplits, Run, load
from torchnin.saved import known_as, number_in, place_of, read_saved, record_of_data, without_places, write_saved


def test_half_the_file_and_almost_the_same_answers(trained: Run, few: DatasetSplits, tmp_path: Path) -> None:
    classifier = trained.classifier
    whole, half = classifier.save(tmp_path / "whole"), classifier.save(tmp_path / "half", half=True)
    sizes = [(folder / "model.safetensors").stat().st_size for folder in (whole, half)]
    assert 0.5 < sizes[1] / sizes[0] < 0.9  # the vectors stay as they are, and in so small a network they count
    again, pixels = load(half), torch.from_numpy(few.test.images)
    assert {tensor.dtype for tensor in again.network.state_dict().values()} == {torch.float32, torch.int64}
    assert torch.equal(again.network.body[0][1].running_var, classifier.network.body[0][1].running_var)
    assert 0 < (again.logits(pixels) - classifier.logits(pixels)).abs().max() < 0.01
    assert torch.equal(load(again.save(tmp_path / "again", half=True)).logits(pixels), again.logits(pixels))


def test_weights_too_large_for_float16_are_refused(trained: Run, tmp_path: Path) -> None:
    large = load(trained.classifier.save(tmp_path / "large"))
    large.network.body[0][0].weight.data[0, 0, 0, 0] = 1e6
    with pytest.raises(ValueError, match=r"body\.0\.0\.weight holds 1e\+06, and float16 ends at 65,504; save it without half"):
        large.save(tmp_path / "refused", half=True)
    assert not (tmp_path / "refused").exists()


def test_weights_that_were_changed_are_refused(saved: Path) -> None:
    weights = saved / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-2] ^= 1
    for changed in (bytes(data), bytes(data[:100]), b""):
        weights.write_bytes(changed)
        with pytest.raises(DataError, match=r"model\.safetensors is not the file that config\.json was written for: expected SHA-256 "):
            load(saved)


def test_a_format_to_come_is_told_by_its_name(trained: Run, tmp_path: Path) -> None:
    saved = trained.classifier.save(tmp_path / "saved")
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "format": "torchnin classifier 2"}))
    with pytest.raises(DataError, match="it is 'torchnin classifier 2', and this torchnin reads 'torchnin classifier 1'"):
        load(saved)


def test_a_folder_of_classifiers_names_them(trained: Run, tmp_path: Path) -> None:
    """As a study of several seeds is one."""
    for number in (10, 2):
        trained.classifier.save(tmp_path / f"seed-{number}")
    (tmp_path / "photos").mkdir()
    first, second = tmp_path / "seed-2", tmp_path / "seed-10"
    with pytest.raises(ValueError, match=re.escape(f"holds classifiers and is none itself; give one of them: {first}, {second}") + "$"):
        load(tmp_path)
    for number in (0, 1):
        trained.classifier.save(tmp_path / f"seed-{number}")
    with pytest.raises(ValueError, match=re.escape(f"seed-0, {tmp_path / 'seed-1'}, {first}, ...") + "$"):
        load(tmp_path)


class CutOff(BaseException):
    """Stands for a crash: nothing of the package may catch it."""


@pytest.fixture
def cut_off(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets the system's n-th rename from now on fail before it happens, as if the process had died there."""
    left, replace = [0], os.replace

    def counted(*names: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise CutOff
        replace(*names)

    monkeypatch.setattr(os, "replace", counted)
    return lambda number: left.__setitem__(0, number)


def versions(trained: Run, count: int) -> list[Classifier]:
    """Classifiers that tell themselves apart by their metadata and their first weight."""
    made = [load(trained.path) for _ in range(count)]
    for number, classifier in enumerate(made):
        classifier.metadata["version"] = number
        with torch.no_grad():
            next(classifier.network.parameters()).view(-1)[0] = number
    return made


def loaded_version(folder: Path) -> int:
    found = load(folder)
    assert next(found.network.parameters()).view(-1)[0] == found.metadata["version"]
    return int(found.metadata["version"])


def test_a_crash_while_saving_leaves_the_old_classifier_or_the_new_one(
    trained: Run, tmp_path: Path, cut_off: Callable[[int], None]
) -> None:
    """Saved over an old one, cut off before each of the three renames, then saved over that, cut off again, and at last in peace."""
    zero, one, two, three = versions(trained, 4)
    seen = set()
    for first, second in itertools.product((1, 2, 3), (1, 2, 3)):
        folder = zero.save(tmp_path / f"{first}-{second}")
        cut_off(first)
        with pytest.raises(CutOff):
            one.save(folder)
        after_first = loaded_version(folder)
        assert after_first == (1 if first == 3 else 0)
        cut_off(second)
        with pytest.raises(CutOff):
            two.save(folder)
        after_second = loaded_version(folder)
        assert after_second in (after_first, 2)
        seen.add((after_first, after_second))
        three.save(folder)
        assert loaded_version(folder) == 3
        assert {path.name for path in folder.iterdir()} == {"config.json", "model.safetensors"}
    assert seen == {(0, 0), (0, 2), (1, 1)}  # where the first was cut off last, the second has one rename more: to settle it


def test_a_first_save_that_is_cut_off_leaves_no_classifier_or_a_whole_one(
    trained: Run, tmp_path: Path, cut_off: Callable[[int], None]
) -> None:
    (zero,) = versions(trained, 1)
    for number in (1, 2, 3):
        cut_off(number)
        with pytest.raises(CutOff):
            zero.save(tmp_path / str(number))
        if number == 3:
            assert loaded_version(tmp_path / str(number)) == 0
        else:
            with pytest.raises(ValueError, match="holds no classifier"):
                load(tmp_path / str(number))


def test_loaded_while_it_is_saved_anew(trained: Run, tmp_path: Path) -> None:
    """One process saves again and again; what another loads meanwhile is always one classifier, never half of two."""
    code = (
        "import sys, torch, torchnin\n"
        "classifier, folder = torchnin.load(sys.argv[1]), sys.argv[1]\n"
        "for number in range(1, 10**6):\n"
        "    classifier.metadata['version'] = number\n"
        "    with torch.no_grad():\n"
        "        next(classifier.network.parameters()).view(-1)[0] = number\n"
        "    classifier.save(folder)\n"
        "    print(number, flush=True) if number == 1 else None\n"
    )
    folder = versions(trained, 1)[0].save(tmp_path / "c")
    with subprocess.Popen([sys.executable, "-c", code, folder], stdout=subprocess.PIPE, text=True) as saving:
        assert saving.stdout is not None
        try:
            assert saving.stdout.readline() == "1\n"
            seen: set[int] = set()
            while len(seen) < 5:
                seen.add(loaded_version(folder))
        finally:
            saving.kill()


def test_a_disk_that_fails_between_the_two_files_leaves_the_old_classifier(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zero, one = versions(trained, 2)
    folder = zero.save(tmp_path / "c")
    (tmp_path / "c" / "config.json.tmp").mkdir()  # so config.json cannot be written aside
    with pytest.raises(OSError, match=r"config\.json"):
        one.save(folder)
    assert loaded_version(folder) == 0
    assert not (folder / "model.safetensors.new").exists()


def test_what_cannot_be_written_leaves_the_saved_one_whole(saved: Path) -> None:
    other = load(saved)
    with torch.no_grad():
        next(other.network.parameters()).add_(1)
    for value, said in ((object(), "metadata 'trainer' is <object"), (float("nan"), "metadata 'trainer' is nan, which JSON cannot hold")):
        other.metadata["trainer"] = value
        with pytest.raises(ValueError, match=said):
            other.save(saved)
        with pytest.raises(ValueError, match=said):
            Classifier(other.network, other.preprocessing, other.class_names, metadata=other.metadata)
    load(saved)


def test_what_is_no_classifier_says_the_next_step(trained: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no such folder"):
        load(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"expected config\.json and model\.safetensors"):
        load(tmp_path)
    unfinished = tmp_path / "my run"
    shutil.copytree(trained.path, unfinished, ignore=shutil.ignore_patterns("classifier", "result.json"))
    with pytest.raises(ValueError, match=f"a run that has not finished: go on with nin train --resume --out '{unfinished}'"):
        load(unfinished)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    write_saved(tmp_path / "folder to be made", {"format": "torchnin classifier 1", "class_names": ["外套"]}, b"weights")
    config, weights = read_saved(tmp_path / "folder to be made")
    assert (config["class_names"], weights) == (["外套"], b"weights")
    (tmp_path / "folder to be made" / "config.json").write_text("{}")
    with pytest.raises(DataError, match=r"config\.json describes no classifier: 'weights_sha256'\. Save the classifier again"):
        read_saved(tmp_path / "folder to be made")


def test_a_runs_classifier_lies_below_it(trained: Run, saved: Path, tmp_path: Path) -> None:
    assert (place_of(trained.path), place_of(saved)) == (trained.path / "classifier", saved)
    (saved / "model.safetensors").rename(saved / "model.safetensors.new")  # as a crash leaves it
    assert place_of(saved) == saved
    (saved / "config.json").unlink()
    assert place_of(saved) is place_of(tmp_path / "nothing") is None


@pytest.mark.parametrize("missing", ["", "classifier", "checkpoint"])
def test_a_runs_folder_is_no_place_for_another_classifier(trained: Run, tmp_path: Path, missing: str) -> None:
    """Its config.json is the run's own, without which nothing resumes it."""
    run = tmp_path / "run"
    shutil.copytree(trained.path, run)
    if missing:
        shutil.rmtree(run / missing)
    before = sorted((path.name, path.read_bytes()) for path in run.iterdir() if path.is_file())
    with pytest.raises(ValueError, match="run is a run with a classifier of its own; save this one into another folder"):
        trained.classifier.save(run)
    assert sorted((path.name, path.read_bytes()) for path in run.iterdir() if path.is_file()) == before


def test_what_a_record_says_is_taken_where_it_is_of_its_kind() -> None:
    assert record_of_data({"data": {"name": "mnist"}}) == {"name": "mnist"}
    assert record_of_data({"data": "my photos"}) == record_of_data({}) == {}
    record = {"accuracy": 0.5, "epochs": 3, "text": "0.9", "truth": True}
    assert [number_in(record, key) for key in (*record, "missing")] == [0.5, 3, None, None, None]
    assert known_as({"name": "mnist", "published": True}) == known_as({"name": "mnist", "files": {"train": "0"}}) == "mnist"
    for data in ({"name": "mnist", "published": False}, {"name": "mnist", "files": {}}, {"name": "photos"}, {"name": ["mnist"]}, {}):
        assert known_as(data) is None, data


def test_no_place_of_this_machine_is_told() -> None:
    data = {"name": "/home/me/photos", "source": "/home/me/photos", "notes": ["of /home/me"], "skipped": [["/home/me/1.png", "broken"]]}
    told = without_places({"data": data, "seed": 3})
    assert told == {"data": {"name": "photos", "source": "another machine", "notes": [], "skipped": []}, "seed": 3}
    assert data["source"] == "/home/me/photos"
    begun = {"data": {"name": "few"}, "begun_from": {"name": "nin_small", "data": "/home/me/photos", "same_classes": True}}
    assert without_places(begun)["begun_from"] == {"name": "nin_small", "data": "photos", "same_classes": True}
    assert without_places({"begun_from": begun["begun_from"]})["begun_from"]["data"] == "photos"
    for known in ({"data": "mnist"}, {"data": None}, {}, "nothing"):
        assert without_places({"begun_from": known}) == {"begun_from": known}
    arrays = {"data": {"name": "few", "source": "arrays"}}
    assert without_places(arrays) == arrays
