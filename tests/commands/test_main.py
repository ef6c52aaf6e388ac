import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import torchnin
from torchnin import Run
from torchnin.commands.doctor import _version
from torchnin.commands.main import _COMMANDS, main
from torchnin.models import native


def test_no_argument_is_a_call_for_help(nin: Callable[..., Any]) -> None:
    answer = nin()
    assert answer.code == 0
    for command in ("models", "summary", "datasets", "train", "evaluate", "predict", "explain", "doctor"):
        assert command in answer.out


def test_the_version(nin: Callable[..., Any]) -> None:
    assert nin("--version") == (0, f"torchnin {torchnin.__version__}\n", "")


def test_an_unknown_command_is_a_wrong_call(nin: Callable[..., Any]) -> None:
    answer = nin("trian")
    assert answer.code == 2
    assert answer.out == ""
    assert "train" in answer.err


def test_the_traceback_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHNIN_DEBUG", "1")
    with pytest.raises(ValueError, match="no network is named 'x'"):
        main(["summary", "x"])


def test_a_reader_that_leaves_is_no_error(trained: Run) -> None:
    command = f"{sys.executable} -c 'from torchnin.commands.main import main; main()' models | head -1; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=600, check=False)
    assert ran.stdout.splitlines()[-1] == "0"
    assert ran.stderr == ""


@pytest.mark.parametrize("said", ["DefaultCPUAllocator: can't allocate memory: you tried to allocate 14155776 bytes", None])
def test_memory_that_is_short(said: str | None, nin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> None:
        raise RuntimeError(said) if said else MemoryError

    monkeypatch.setattr(torchnin, "summarize", short)
    assert nin("models") == (1, "", "nin: out of memory; what was saved stays as it is\n")


def test_models(nin: Callable[..., Any]) -> None:
    rows = json.loads(nin("models", "--json").out)
    assert {row["name"]: row["num_parameters"] for row in rows}["nin_d2l"] == 1_992_166
    assert [row["name"] for row in rows] == list(torchnin.list_models())
    text = nin("models").out
    assert "1,992,166" in text
    assert "762,297,352" in text


def test_summary(nin: Callable[..., Any], trained: Run) -> None:
    document = json.loads(nin("summary", "nin_d2l", "--json").out)
    assert json.dumps(document).count("762297352") >= 1
    assert nin("summary", trained.path).code == 0
    for arguments, said in (
        (("nin_d2",), "did you mean nin_d2l"),
        (("nin_d2l", "--input", "1x20x20"), "the smallest is"),
        (("nin_d2l:head=fc", "--input", "1x96x96"), "--input 1x96x96: this network's fully connected head takes class maps of 5x5"),
        (("nin_d2l", "--input", "3x224x224"), "3 channels; nin_d2l takes 1"),
        (("nin_d2l", "--input", "big"), "'big' is no picture shape"),
        (("nin_d2l", "--dropout", "2"), "dropout is 2.0"),
        ((trained.path, "--dropout", "0.1"), "is a trained network; leave out --dropout"),
    ):
        answer = nin("summary", *arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert said in answer.err


def test_datasets(nin: Callable[..., Any], tmp_path: Path) -> None:
    rows = json.loads(nin("datasets", "--json").out)
    assert {row["name"]: row["found"] for row in rows}["fashion-mnist-sample"] == "inside the package"
    assert "inside the package" in nin("datasets").out
    answer = nin("datasets", "--data-dir", tmp_path / "nothing")
    assert (answer.code, answer.out) == (2, "")
    assert f"data_dir: expected a folder, found nothing at {tmp_path / 'nothing'}" in answer.err


def test_doctor(nin: Callable[..., Any], tmp_path: Path) -> None:
    document = json.loads(nin("doctor", "--json").out)
    assert document["device"] == "cpu" or document["device"].startswith("cuda")
    assert document["reasons"].keys() == {"device", "dtype", "memory_format"}
    assert document["cache"] == str(tmp_path / "torchnin-home")
    assert document["native"] == native.compiled()
    assert "torch" in nin("doctor").out


def test_doctor_says_what_would_make_training_faster(nin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "compiled", lambda: None)
    monkeypatch.setattr(native, "kinds", lambda: ("plain",))
    monkeypatch.setattr(native.sys, "platform", "linux")
    assert "compiled for: training takes torch's own ways" in nin("doctor").out
    monkeypatch.setattr(native, "kinds", lambda: ())
    assert "compiled for: none for this system" in nin("doctor").out


def test_doctor_knows_a_module_that_another_package_brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "just_a_folder").mkdir()
    (tmp_path / "from_nowhere.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert _version("numpy", "numpy") == np.__version__
    assert _version("numpy-of-others", "numpy") == f"{np.__version__} (numpy)"
    assert _version("from-nowhere", "from_nowhere") == "of unknown version"
    assert _version("just-a-folder", "just_a_folder") is None
    assert _version("not-here", "not_here") is None


def test_an_empty_argument_is_refused(nin: Callable[..., Any]) -> None:
    for call in (("predict", "fashion-mnist-small", ""), ("train", "--out", "")):
        answer = nin(*call)
        assert (answer.code, answer.out) == (2, "")
        assert "an argument is empty" in answer.err


def test_every_command_of_the_help_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--help"])
    names = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("  nin ")]
    assert len(names) == 11
    for name in names:
        with pytest.raises(SystemExit) as done:
            main([name, "--help"])
        assert done.value.code == 0
        assert capsys.readouterr().out.startswith(f"usage: nin {name} ")


def test_no_help_imports_torch() -> None:
    code = (
        "import contextlib, sys\n"
        "from torchnin.commands.main import main\n"
        "for name in sys.argv[1:]:\n"
        "    with contextlib.suppress(SystemExit):\n"
        "        main([name, '--help'])\n"
        "    assert 'torch' not in sys.modules, name\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, *_COMMANDS], capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr
