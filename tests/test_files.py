import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from torchnin.files import (
    MAX_JSON_BYTES,
    exists,
    expanded,
    in_command,
    is_file,
    is_folder,
    lock,
    locked_folder,
    path_of,
    read_json,
    write_atomically,
    write_json,
)


def test_what_is_written_is_there_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_json_keeps_what_people_wrote(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "鞋", "tuple": (1, 2)})
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert "鞋" in text
    assert text.endswith("}\n")
    assert json.loads(text) == {"name": "鞋", "tuple": [1, 2]}


def test_a_folder_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        write_atomically(tmp_path / "file" / "a", b"x")
    with pytest.raises(OSError, match="missing"):
        write_atomically(tmp_path / "missing" / "a", b"x")


def test_a_full_disk_leaves_the_old_file_and_nothing_aside(tmp_path: Path) -> None:
    """A limit on the size of files stands for the disk: writing fails in the middle, as it does there."""
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    code = (
        "import resource, signal, sys, pathlib\n"
        "from torchnin.files import write_atomically\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "try:\n    write_atomically(pathlib.Path(sys.argv[1]), b'x' * 10000)\n"
        "except OSError as error:\n    print(error.errno, error.filename)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=600, check=True)
    # The path is in the error, so that the message names it: the system's own error for a failed write names nothing.
    assert ran.stdout.split() == [str(errno.EFBIG), str(path)]
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_ctrl_c_while_writing_leaves_the_old_file_and_nothing_aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(number: int) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_killed_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    code = (
        "import os, sys, pathlib, signal\n"
        "import torchnin.files as files\n"
        "os.fsync = lambda number: os.kill(os.getpid(), signal.SIGKILL)\n"
        "files.write_atomically(pathlib.Path(sys.argv[1]), b'new')\n"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, timeout=600, check=False)
    assert ran.returncode == -9
    assert path.read_bytes() == b"old"
    write_atomically(path, b"new")  # what was left aside is no obstacle
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.bin"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b'{"a": 1', "delimiter", id="cut off"),
        pytest.param(b"[1]", "a list", id="no object"),
        pytest.param(b"", "Expecting value", id="empty"),
        pytest.param(b'{"a": "\xff"}', "utf-8", id="no text"),
        pytest.param(b'{"a":' * 200_000, "nested too deeply", id="nested without end"),
        pytest.param(b'{"a": ' + b"9" * 10_000 + b"}", "digits", id="a number without end"),
        pytest.param(b" " * (MAX_JSON_BYTES + 1) + b"{}", "longer than", id="too long"),
    ],
)
def test_what_is_no_json_object_of_ours_is_a_value_error(data: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json")


def test_a_name_that_is_no_utf8_is_written_as_json_can(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {"name": name})
    assert "caf\\udce9" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"name": name}


LOCKING = """
import sys
from pathlib import Path
from torchnin.files import lock, locked_folder
path = Path(sys.argv[1])
if path.is_dir():
    with locked_folder(path) as alone:
        print(alone)
else:
    with path.open("a") as file:
        print(lock(file.fileno()))
"""


def asked_by_another_process(path: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", LOCKING, str(path)], capture_output=True, text=True, check=True, timeout=600
    ).stdout.strip()


def test_a_lock_keeps_other_processes_out(tmp_path: Path) -> None:
    with (tmp_path / "file").open("a") as file:
        assert lock(file.fileno())
        assert asked_by_another_process(tmp_path / "file") == "False"
    assert asked_by_another_process(tmp_path / "file") == "True"


def test_a_locked_folder_keeps_other_processes_out_and_stays_as_it_was(tmp_path: Path) -> None:
    with locked_folder(tmp_path) as alone:
        assert alone
        assert asked_by_another_process(tmp_path) == "False"
    assert asked_by_another_process(tmp_path) == "True"
    assert not list(tmp_path.iterdir())


def test_what_is_there(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.touch()
    link.symlink_to(link)
    found = {path: (exists(path), is_file(path), is_folder(path)) for path in (tmp_path, file)}
    assert found == {tmp_path: (True, False, True), file: (True, True, False)}
    for nothing in (tmp_path / "nothing", file / "below a file", link, Path("a zero\0among them")):
        assert [asked(nothing) for asked in (exists, is_file, is_folder)] == [False] * 3
    for asked in (exists, is_file, is_folder):
        with pytest.raises(OSError, match="too long"):
            asked(tmp_path / ("x" * 999))


def test_a_user_that_is_not_there_has_no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert expanded(Path("~/photos")) == path_of("~/photos", "data") == Path("/home/me/photos")
    with pytest.raises(ValueError, match=r"^~nobody-of-that-name/photos: ~nobody-of-that-name stands for a user's home, and there is none"):
        expanded(Path("~nobody-of-that-name/photos"))


def test_a_path_that_is_none_is_told_by_the_name_of_the_argument() -> None:
    assert path_of("a", "out") == path_of(Path("a"), "out") == Path("a")
    with pytest.raises(ValueError, match=r"^out is an empty path; the current folder is '\.'$"):
        path_of("", "out")
    with pytest.raises(TypeError, match=r"^out is of type int; accepted: a path$"):
        path_of(5, "out")


@pytest.mark.skipif(sys.platform == "win32", reason="shells of its own")
@pytest.mark.parametrize("name", ["runs/first", "my run", "it's mine", "$HOME", "衣服"])
def test_a_path_in_a_command_is_one_word_to_a_shell(name: str) -> None:
    assert subprocess.run(f"printf %s. {in_command(name)}", shell=True, capture_output=True, check=True).stdout.decode() == f"{name}."
