import csv
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from torchnin import DatasetSplits, Run


def test_a_line_of_json_a_picture(nin: Callable[..., Any], trained: Run, pictures: Path) -> None:
    answer = nin("predict", trained.path, pictures, "--json")
    assert (answer.code, answer.err) == (0, "")
    rows = [json.loads(line) for line in answer.out.splitlines()]
    assert {row["path"] for row in rows} == {str(pictures / name) for name in ("2.png", "10.png", "deeper/1.png")}
    for row in rows:
        assert list(row) == ["path", "label", "probability", "probabilities"]
        expected = trained.classifier.predict(row["path"])
        assert (row["label"], set(row["probabilities"])) == (expected.label, set(expected.probabilities))
        assert row["probability"] == pytest.approx(expected.probability, abs=1e-6)


def test_a_broken_picture_stands_in_its_place(nin: Callable[..., Any], trained: Run, pictures: Path) -> None:
    broken = pictures / "3.png"
    broken.write_bytes(b"\x89PNG no")
    answer = nin("predict", trained.path, pictures / "2.png", broken, pictures / "10.png", "--json")
    assert answer.code == 1
    rows = [json.loads(line) for line in answer.out.splitlines()]
    assert [row["path"] for row in rows] == [str(pictures / name) for name in ("2.png", "3.png", "10.png")]
    assert list(rows[1]) == ["path", "error"]
    assert "1 of 3 pictures could not be read" in answer.err
    plain = nin("predict", trained.path, broken)
    assert (plain.code, plain.out) == (1, "")
    assert f"{broken}: expected a picture" in plain.err


@pytest.mark.skipif(os.name == "nt", reason="no file has such a name there")
def test_a_line_break_in_a_name_breaks_no_line(nin: Callable[..., Any], trained: Run, pictures: Path) -> None:
    odd = (pictures / "2.png").rename(pictures / "2\n3.png")
    (pictures / "4\n5.png").write_bytes(b"no")
    answer = nin("predict", trained.path, pictures)
    assert rf"{pictures}/2\n3.png: " in answer.out
    assert len(answer.out.splitlines()) == 3
    assert rf"{pictures}/4\n5.png: expected a picture" in answer.err
    assert json.loads(nin("predict", trained.path, odd, "--json").out)["path"] == str(odd)


def test_files_of_folders_that_are_no_pictures_are_told_of_once(nin: Callable[..., Any], trained: Run, pictures: Path) -> None:
    for name in ("4.heic", "deeper/5.HEIC", "deeper/notes.txt", "Thumbs.db", ".hidden.heic"):
        (pictures / name).write_bytes(b"")
    for given, said in ((pictures, "2 .heic, 1 .txt."), (pictures / "dee*", "1 .heic, 1 .txt."), (pictures / "2.png", "")):
        answer = nin("predict", trained.path, given)
        assert answer.code == 0
        assert answer.err.strip().endswith(said)
        assert answer.err.count("were left out") == bool(said)


def test_lines_for_people(nin: Callable[..., Any], trained: Run, pictures: Path) -> None:
    answer = nin("predict", trained.path, pictures / "2.png", "--top", "2")
    best = list(trained.classifier.predict(pictures / "2.png").probabilities.items())[:2]
    assert answer.out == f"{pictures / '2.png'}: " + ", ".join(f"{name} {probability:.4f}" for name, probability in best) + "\n"


def test_wrong_calls(nin: Callable[..., Any], trained: Run, pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    for arguments, said in (
        ((tmp_path / "missing", pictures), "there is no such folder"),
        ((tmp_path / "none", pictures), "holds no classifier"),
        ((trained.path, tmp_path / "none"), "holds no pictures"),
        ((trained.path,), "no picture was named"),
        ((trained.path, pictures, "--top", "0"), "--top is 0"),
    ):
        answer = nin("predict", *arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert said in answer.err


def test_explain(nin: Callable[..., Any], trained: Run, pictures: Path, tmp_path: Path) -> None:
    out = tmp_path / "maps.png"
    answer = nin("explain", trained.path, pictures / "2.png", "--out", out, "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert document["classes"][0]["label"] == trained.classifier.predict(pictures / "2.png").label
    assert out.read_bytes().startswith(b"\x89PNG")


def test_quoted_patterns_and_folders_in_natural_order(
    nin: Callable[..., Any], trained: Run, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def paths(*arguments: object) -> list[str]:
        answer = nin("predict", trained.path, *arguments, "--json")
        assert answer.code == 0, answer.err
        return [json.loads(line)["path"] for line in answer.out.splitlines()]

    monkeypatch.chdir(pictures.parent)
    assert paths("pictures") == ["pictures/2.png", "pictures/10.png", "pictures/deeper/1.png"]
    assert paths("pictures/*.png") == ["pictures/2.png", "pictures/10.png"]
    assert paths("pictures/*") == ["pictures/2.png", "pictures/10.png", "pictures/deeper/1.png"]
    assert paths("pictures/**/*.png", "pictures/2.png") == [*paths("pictures"), "pictures/2.png"]
    assert sorted(paths("pictures/**")) == sorted(paths("pictures"))
    (pictures / "2.png").rename(pictures / "[2].png")
    assert paths("pictures/[2].png") == ["pictures/[2].png"]  # a file of that name is no pattern
    answer = nin("predict", trained.path, "pictures/*.jpg")
    assert (answer.code, answer.out) == (2, "")
    assert "nothing has a name like 'pictures/*.jpg'" in answer.err
    (pictures / "empty" / "deeper").mkdir(parents=True)
    for pattern in ("pictures/emp*", "pictures/empty/**"):
        answer = nin("predict", trained.path, pattern, "pictures", "--csv")
        assert (answer.code, answer.out) == (2, "")
        assert f"only folders have a name like {pattern!r}, and they hold no pictures; their names end in" in answer.err
    assert paths("pictures/*") == ["pictures/10.png", "pictures/[2].png", "pictures/deeper/1.png"]


def test_pictures_of_many_sizes_and_kinds_get_the_answers_they_get_alone(
    nin: Callable[..., Any], trained: Run, few: DatasetSplits, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    for number in range(40):
        side = (28, 20, 300, 64)[number % 4]  # 300 is resized as soon as it is decoded, the others together
        Image.fromarray(few.test.images[number, 0]).resize((side, side + number % 3)).convert(("L", "RGB")[number % 2]).save(
            folder / f"{number}.png"
        )
    answer = nin("predict", trained.path, folder, "--json")
    assert answer.code == 0, answer.err
    rows = [json.loads(line) for line in answer.out.splitlines()]
    assert [Path(row["path"]).name for row in rows] == [f"{number}.png" for number in range(40)]
    for row in rows:
        alone = trained.classifier.predict(row["path"])
        assert row["label"] == alone.label
        assert row["probabilities"] == pytest.approx(alone.probabilities, abs=1e-5)


def test_comma_separated_values(nin: Callable[..., Any], trained: Run, pictures: Path) -> None:
    broken = pictures / '2, a "broken" one.png'
    broken.write_bytes(b"no")
    answer = nin("predict", trained.path, pictures, "--csv", "--top", "2")
    assert answer.code == 1
    rows = list(csv.DictReader(io.StringIO(answer.out)))
    assert list(rows[0]) == ["path", "label", "probability", "label_2", "probability_2", "error"]
    by_path = {row["path"]: row for row in rows}
    assert len(rows) == 4
    assert by_path[str(broken)]["error"].startswith("expected a picture")
    assert by_path[str(broken)]["label"] == ""
    good = by_path[str(pictures / "2.png")]
    best = list(trained.classifier.predict(pictures / "2.png").probabilities.items())[:2]
    assert (good["label"], good["label_2"], good["error"]) == (best[0][0], best[1][0], "")
    assert float(good["probability"]) == pytest.approx(best[0][1], abs=1e-6)
    assert answer.err == "1 of 4 pictures could not be read\n"


def test_json_holds_all_classes_or_the_top_ones(nin: Callable[..., Any], trained: Run, pictures: Path) -> None:
    everything = json.loads(nin("predict", trained.path, pictures / "2.png", "--json").out)
    assert len(everything["probabilities"]) == 10
    few_classes = json.loads(nin("predict", trained.path, pictures / "2.png", "--json", "--top", "3").out)
    assert list(few_classes["probabilities"]) == list(everything["probabilities"])[:3]
    both = nin("predict", trained.path, pictures, "--json", "--csv")
    assert (both.code, both.out) == (2, "")


def test_on_a_terminal_a_bar_runs_on_standard_error_and_results_stay_clean(trained: Run, pictures: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    command = [
        sys.executable,
        "-c",
        "from torchnin.commands.main import main; main()",
        "predict",
        str(trained.path),
        str(pictures),
        "--json",
    ]
    with (tmp_path / "out.jsonl").open("w") as out:
        done = subprocess.run(command, stdout=out, stderr=theirs, env={**os.environ, "TERM": "xterm", "COLUMNS": "100"}, check=False)
    os.close(theirs)
    shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "3/3" in shown
    assert "pictures/s" in shown
    assert len([json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]) == 3
