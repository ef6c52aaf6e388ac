import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from torchnin import Run
from torchnin.commands.output import note, result, table, to_json


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_name_that_is_no_utf_8_is_printed_as_an_escape(encoding: str, trained: Run, pictures: Path) -> None:
    odd, later = os.fsencode(pictures) + b"/caf\xe9.png", pictures / "ümlaut \N{GRINNING FACE}.png"
    for path in (odd, os.fsencode(later)):
        os.link(pictures / "2.png", path)
    command = [sys.executable, "-c", "from torchnin.commands.main import main; main()", "predict", str(trained.path), odd, str(later)]
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "PYTHONIOENCODING": encoding}
    found = {}
    for form in ("--json", "--csv", "--top=1"):
        ran = subprocess.run([*command, form], capture_output=True, env=environment, timeout=600, check=False)
        assert (ran.returncode, ran.stderr) == (0, b""), ran.stderr
        found[form] = ran.stdout.decode(encoding).splitlines()
    assert [os.fsencode(json.loads(line)["path"]) for line in found["--json"]] == [odd, os.fsencode(later)]
    for form, lines in (("--csv", found["--csv"][1:]), ("--top=1", found["--top=1"])):
        assert [line.startswith(str(pictures)) for line in lines] == [True, True], form
        assert "caf\\udce9.png" in lines[0]


def test_letters_stand_in_json_as_they_are_where_the_stream_takes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    for encoding, found in (("utf-8", '"外套"'), ("UTF8", '"外套"'), ("ascii", r'"\u5916\u5957"'), ("gbk", r'"\u5916\u5957"')):
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding=encoding))
        assert to_json("外套") == found


def test_a_result_is_the_text_or_one_json_document_and_notes_stand_beside_it(capsys: pytest.CaptureFixture[str]) -> None:
    result({"a": [1, 2]}, "a: 1 and 2", False)
    note("beside")
    assert capsys.readouterr() == ("a: 1 and 2\n", "beside\n")
    result({"a": [1, 2]}, "a: 1 and 2", True)
    assert json.loads(capsys.readouterr().out) == {"a": [1, 2]}
    with pytest.raises(ValueError, match="not JSON compliant"):
        result([float("nan")], "", True)


def test_columns_stand_in_line() -> None:
    lines = table(("name", "number"), [("short", "1"), ("a longer one", "1,000,000")], right=frozenset({1})).splitlines()
    assert lines == ["name             number", "short                 1", "a longer one  1,000,000"]
    assert table(("one", "two"), [("a", "")]) == "one  two\na"
    lines = table(("network", "input"), [("runs/裤子", "1x28x28"), ("runs/ที่นี่", "1x28x28")]).splitlines()
    assert lines == ["network    input", "runs/裤子  1x28x28", "runs/ที่นี่    1x28x28"]
