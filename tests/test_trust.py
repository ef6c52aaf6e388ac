"""What nobody has to trust: no file makes the program run code, no licence binds."""

import ast
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from torchnin import DataError, Run, TrainingError, load, load_dataset
from torchnin.data.readers.cifar import read_pickle
from torchnin.training.checkpoint import read_checkpoint

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

# What runs, or can be made to run, what a file says. Calls by their last two names, as they are written.
FORBIDDEN = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.loads", "dill.loads", "joblib.load", "marshal.loads", "shelve.open"),
    *("torch.jit.load", "torch.package.PackageImporter", "hub.load", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen"),
    *("eval", "exec", "compile", "__import__", "archive.extractall", "archive.extract", "tar.extractall", "members.extractall"),
}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ".".join(ast.unparse(node.func).split(".")[-2:]), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_no_call_runs_what_a_file_says(path: Path) -> None:
    for name, node in calls(path):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        where = f"{path}:{node.lineno}: {ast.unparse(node)[:80]}"
        assert name not in FORBIDDEN, where
        assert not name.endswith((".extractall", ".unpack_archive")), where
        if name == "torch.load":
            assert keywords.get("weights_only") == "True", where
        if name == "np.load":
            assert keywords.get("allow_pickle", "False") == "False", where
        assert keywords.get("shell", "False") == "False", where
        assert keywords.get("allow_pickle", "False") == "False", where
        assert keywords.get("trust_remote_code", "False") == "False", where


def witness() -> None:
    """What the hostile pickles below call; it leaves a trace."""
    os.environ["TORCHNIN_WITNESS"] = "executed"


class Witness:
    """Its making, and its state, leave a trace too."""

    def __new__(cls, *_: object, **__: object) -> "Witness":
        witness()
        return object.__new__(cls)

    def __setstate__(self, state: object) -> None:
        witness()


NAME = __name__.encode()
FUNCTION, CLASS = b"c" + NAME + b"\nwitness\n", b"c" + NAME + b"\nWitness\n"


def short(text: bytes) -> bytes:
    return b"\x8c" + bytes([len(text)]) + text


# Every instruction of the pickle language that imports or calls something, in the shortest program in which it does.
HOSTILE = {
    "GLOBAL and REDUCE": FUNCTION + b")R.",
    "STACK_GLOBAL": b"\x80\x04" + short(NAME) + short(b"witness") + b"\x93)R.",
    "INST": b"(i" + NAME + b"\nwitness\n.",
    "OBJ": b"(" + FUNCTION + b"o.",
    "NEWOBJ": b"\x80\x02" + CLASS + b")\x81.",
    "NEWOBJ_EX": b"\x80\x04" + CLASS + b")}\x92.",
    "BUILD": b"\x80\x02cbuiltins\nobject\n)R0" + CLASS + b")R}(K\x01K\x02ub.",
    "a dict's entry": b"\x80\x02}U\x04data" + FUNCTION + b")Rs.",
    "under a list": b"\x80\x02](" + FUNCTION + b")Re.",
}


@pytest.fixture
def untouched(monkeypatch: pytest.MonkeyPatch) -> Callable[[], bool]:
    monkeypatch.delenv("TORCHNIN_WITNESS", raising=False)
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or sys.modules[witness.__module__])
    return lambda: "TORCHNIN_WITNESS" not in os.environ


@pytest.mark.parametrize("program", HOSTILE.values(), ids=HOSTILE)
def test_no_instruction_of_a_pickle_calls_anything(program: bytes, untouched: Callable[[], bool]) -> None:
    with pytest.raises(DataError, match="Nothing of it was executed"):
        read_pickle(program, "hostile")
    assert untouched()
    pickle.loads(program)  # the programs have teeth: Python's own reader is led by them
    assert not untouched()
    os.environ.pop("TORCHNIN_WITNESS")


@pytest.mark.parametrize("code", [b"P0\n.", b"Q.", b"\x82\x01.", b"\x83\x01\x00.", b"\x84\x01\x00\x00\x00.", b"\x97.", b"\x98."])
def test_what_a_pickle_asks_of_its_surroundings_is_refused(code: bytes) -> None:
    """Persistent names, extension codes, buffers from elsewhere."""
    with pytest.raises(DataError, match="Nothing of it was executed"):
        read_pickle(b"\x80\x05N" + code, "hostile")


def test_no_reader_takes_a_pickle_for_something_else(trained: Run, tmp_path: Path, untouched: Callable[[], bool]) -> None:
    """A pickle, bare or as torch.save packs it, in the place of every file that is read."""
    packed = tmp_path / "packed.pt"
    torch.save({"a": torch.ones(3)}, packed)
    for number, content in enumerate((HOSTILE["GLOBAL and REDUCE"], HOSTILE["NEWOBJ"], packed.read_bytes())):
        data = tmp_path / f"data-{number}"
        (data / "cifar-10-batches-py").mkdir(parents=True)
        for name in (*(f"data_batch_{batch}" for batch in range(1, 6)), "test_batch", "batches.meta"):
            (data / "cifar-10-batches-py" / name).write_bytes(content)
        with pytest.raises(DataError):
            load_dataset("cifar-10", data_dir=data, download=False)
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(DataError):
            load_dataset(str(tmp_path / "x.npz"))
        for name in ("model.safetensors", "config.json"):
            folder = shutil.copytree(trained.path / "classifier", tmp_path / f"{number}-{name}")
            (folder / name).write_bytes(content)
            with pytest.raises(DataError):
                load(folder)
        folder = shutil.copytree(trained.path / "checkpoint", tmp_path / f"{number}-checkpoint")
        for path in folder.iterdir():
            path.write_bytes(content)
        with pytest.raises(TrainingError, match="no whole checkpoint"):
            read_checkpoint(folder)
        assert untouched()


def test_an_array_of_objects_is_never_unpickled(tmp_path: Path, untouched: Callable[[], bool]) -> None:
    objects = np.empty(2, dtype=object)
    objects[:] = [Witness.__new__(Witness), 1]
    os.environ.pop("TORCHNIN_WITNESS")
    np.savez(tmp_path / "x.npz", x=np.zeros((2, 4, 4), np.uint8), y=objects)
    os.environ.pop("TORCHNIN_WITNESS", None)
    with pytest.raises(DataError, match="never unpickled"):
        load_dataset(str(tmp_path / "x.npz"))
    assert untouched()


def test_every_licence_lets_the_package_be_used_for_anything() -> None:
    ran = subprocess.run([sys.executable, ROOT / "tools/licences.py", "plot"], capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "torch " in ran.stdout
    assert "safetensors " in ran.stdout
