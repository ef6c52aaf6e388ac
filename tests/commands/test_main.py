import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import torchnin
from torchnin import Interrupted, Run
from torchnin.commands.main import _COMMANDS, main


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


def test_the_traceback_on_demand_changes_no_exit_code(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("TORCHNIN_DEBUG", "1")
    with pytest.raises(SystemExit) as done:
        main(["summary", "x"])
    said = capsys.readouterr().err
    assert done.value.code == 2
    assert said.startswith("Traceback (most recent call last):")
    assert said.splitlines()[-1].startswith("nin: no network is named 'x'")


def test_a_signal_has_its_exit_code_beside_a_traceback_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def stopped(*_: object) -> None:
        raise Interrupted("stopped at step 2 of 7", signal.SIGTERM)

    monkeypatch.setenv("TORCHNIN_DEBUG", "1")
    monkeypatch.setattr(torchnin, "summarize", stopped)
    with pytest.raises(SystemExit) as done:
        main(["models"])
    assert done.value.code == 143
    assert capsys.readouterr().err.endswith("nin: stopped at step 2 of 7\n")


def test_a_reader_that_leaves_is_no_error(trained: Run) -> None:
    command = f"{sys.executable} -c 'from torchnin.commands.main import main; main()' models | head -1; echo ${{PIPESTATUS[0]}}"
    ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, timeout=600, check=False)
    assert ran.stdout.splitlines()[-1] == "0"
    assert ran.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "unbuffered"), [(["--help"], ""), (["--help"], "1"), (["train", "--help"], "1"), (["models"], ""), (["models"], "1")]
)
def test_a_reader_that_was_never_there_is_none(arguments: list[str], unbuffered: str) -> None:
    ours, theirs = os.pipe()
    os.close(ours)
    command = [sys.executable, "-c", "from torchnin.commands.main import main; main()", *arguments]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    ran = subprocess.run(command, stdout=theirs, stderr=subprocess.PIPE, text=True, env=environment, timeout=600, check=False)
    os.close(theirs)
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.skipif(os.name == "nt", reason="processes there are begun otherwise")
@pytest.mark.parametrize(("arguments", "code"), [(["models", "--json"], 0), (["nosuch"], 2), (["predict", "nowhere", "nothing.png"], 2)])
@pytest.mark.parametrize("closed", [(1,), (2,), (1, 2)])
def test_streams_that_are_closed_take_everything(closed: tuple[int, ...], arguments: list[str], code: int) -> None:
    command = [sys.executable, "-m", "torchnin", *arguments]
    begin = f"import os; [os.close(number) for number in {closed}]; os.execv({sys.executable!r}, {command!r})"
    ran = subprocess.run([sys.executable, "-c", begin], capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == code, ran.stderr
    assert bool(ran.stdout) == (code == 0 and 1 not in closed)
    assert bool(ran.stderr) == (code == 2 and 2 not in closed)


def test_another_pipe_that_breaks_is_an_error(nin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))

    monkeypatch.setattr(torchnin, "summarize", broken)
    assert nin("models") == (1, "", f"nin: {os.strerror(errno.EPIPE)}\n")


def test_a_file_that_goes_away_meanwhile_is_said_as_other_errors_of_the_system_are(
    nin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "runs/first/metrics.jsonl")

    monkeypatch.setattr(torchnin, "summarize", gone)
    assert nin("models") == (1, "", f"nin: runs/first/metrics.jsonl: {os.strerror(errno.ENOENT)}\n")


@pytest.mark.parametrize("said", ["DefaultCPUAllocator: can't allocate memory: you tried to allocate 14155776 bytes", None])
def test_memory_that_is_short(said: str | None, nin: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def short(*_: object) -> None:
        raise RuntimeError(said) if said else MemoryError

    monkeypatch.setattr(torchnin, "summarize", short)
    assert nin("models") == (1, "", "nin: out of memory; what was saved stays as it is\n")


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
        shown = capsys.readouterr().out
        assert shown.startswith(f"usage: nin {name} ")
        assert "(default: None)" not in shown
        assert "(default: )" not in shown


def test_help_is_filled_whatever_line_its_words_stand_in_in_the_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    assert "own and is not what the classifier was trained on." in capsys.readouterr().out


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
