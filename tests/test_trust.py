"""What nobody has to trust: no file makes the program run code, no licence binds."""

import ast
import gzip
import os
import pickle
import re
import shutil
import subprocess
import sys
import tomllib
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torchnin import DataError, Run, TrainingError, load, load_dataset
from torchnin.data.readers.cifar import read_pickle
from torchnin.data.readers.idx import read_idx
from torchnin.training.checkpoint import read_checkpoint

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))

# What runs, or can be made to run, what a file says. Calls by their last two names, as they are written.
FORBIDDEN = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.loads", "dill.loads", "joblib.load", "marshal.loads", "shelve.open"),
    *("torch.jit.load", "torch.package.PackageImporter", "hub.load", "yaml.load", "yaml.unsafe_load", "os.system", "os.popen"),
    *("eval", "exec", "compile", "__import__", "archive.extractall", "archive.extract", "tar.extractall", "members.extractall"),
}

# What one process of ours says to another over a pipe that no file and no request reaches.
BETWEEN_OWN_PROCESSES = {("looker.py", "marshal.loads")}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ".".join(ast.unparse(node.func).split(".")[-2:]), node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT / "src")))
def test_no_call_runs_what_a_file_says(path: Path) -> None:
    for name, node in calls(path):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        where = f"{path}:{node.lineno}: {ast.unparse(node)[:80]}"
        assert name not in FORBIDDEN or (path.name, name) in BETWEEN_OWN_PROCESSES, where
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


_NO_SOCKET = """
import os, sys
def refuse(event, given):
    # Of this machine's own kind (AF_UNIX) there may be some; whatever leads to another machine ends the process at once.
    if event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.connect", "socket.bind", "socket.sendto"):
        print("SOCKET", event, given, file=sys.stderr, flush=True)
        os._exit(77)
sys.addaudithook(refuse)
import torchnin
for name in torchnin.__all__:
    getattr(torchnin, name)
import torchnin.integrations.hub, torchnin.integrations.sklearn
from torchnin.commands.main import main
run, data, picture = sys.argv[1:]
commands = [
    ["train", data, "--model", "nin_small", "--num-epochs", "1", "--batch-size", "160", "--out", run],
    ["predict", run, picture, "--json"],
    ["evaluate", run, data],
    ["explain", run, picture, "--out", run + "/e.png"],
    ["doctor"],
]
for words in commands:
    try:
        main(words)
    except SystemExit as ended:
        if ended.code:
            raise
"""


def test_nothing_asks_the_network(few_file: Path, tmp_path: Path) -> None:
    """Importing everything; training, predicting, evaluating, explaining on data that are there: no name looked up, no port taken."""
    small = np.load(few_file)
    Image.fromarray(small["x_test"][0, 0]).save(tmp_path / "boot.png")
    data = {key: small[key][:160] if key != "class_names" else small[key] for key in small}
    np.savez(tmp_path / "data.npz", **data)
    command = [sys.executable, "-c", _NO_SOCKET, *map(str, (tmp_path / "run", tmp_path / "data.npz", tmp_path / "boot.png"))]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert '"label"' in ran.stdout


def test_the_guard_would_have_seen_it(tmp_path: Path) -> None:
    """The same guard, in front of the one thing that does ask: a download."""
    fetching = _NO_SOCKET.partition("run, data")[0] + "main(['datasets', '--download', 'mnist', '--data-dir', sys.argv[1]])"
    environment = {**os.environ, "TORCHNIN_DATA_MIRROR": "http://127.0.0.1:9", "TORCHNIN_HOME": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", fetching, str(tmp_path)], capture_output=True, text=True, env=environment, timeout=600, check=False
    )
    assert ran.returncode == 77, ran.stderr[-2000:]
    assert "SOCKET" in ran.stderr


def test_a_gzip_bomb_under_a_dataset_name_stops_at_its_declared_size(tmp_path: Path) -> None:
    """Half a gigabyte behind a header that declares ten pictures: refused without being unpacked."""
    bomb = tmp_path / "train-images-idx3-ubyte.gz"
    header = bytes((0, 0, 8, 3)) + b"".join(size.to_bytes(4, "big") for size in (10, 28, 28))
    with gzip.open(bomb, "wb", compresslevel=1) as packed:
        packed.write(header)
        for _ in range(32):
            packed.write(bytes(1 << 24))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"expected at most 7,856 decompressed bytes, found more \(stopped there\)"):
        read_idx(bomb, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


LOCKED = sorted((ROOT / "locked").glob("*.txt"))


def pinned(path: Path) -> dict[str, str]:
    pins = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;+]+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pins}


def test_the_hashes_are_those_of_the_pinned_versions() -> None:
    """locked/ and constraints.txt name the same packages in the same versions; tools/lock.py writes the one from the other."""
    locked: dict[str, str] = {}
    for path in LOCKED:
        for name, version in pinned(path).items():
            assert locked.setdefault(name, version) == version, f"{path.name}: {name}"
    assert locked == pinned(ROOT / "constraints.txt")
    assert {path.name for path in LOCKED} == {"cpu.txt", "timm.txt", "cuda.txt", "dev.txt", "run.txt", "torch.txt"}


@pytest.mark.parametrize("path", LOCKED, ids=lambda path: path.name)
def test_every_locked_file_has_its_hashes(path: Path) -> None:
    for block in re.split(r"\n(?=\S)", path.read_text(encoding="utf-8").strip())[1:]:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", block), block


def test_what_is_locked_is_all_that_the_project_asks_for() -> None:
    """With --no-deps nothing else comes, so each name in pyproject.toml has to be there."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]

    def names(requirements: list[str]) -> set[str]:
        return {re.sub(r"[-_.]+", "-", re.split(r"[\[<>=~! ;]", text)[0]).lower() for text in requirements} - {"torch", "torchnin"}

    always = names([*project["project"]["dependencies"], *project["build-system"]["requires"]])
    assert always | names(extras["plot"]) <= pinned(ROOT / "locked/run.txt").keys()
    assert pinned(ROOT / "locked/timm.txt").keys() == names(extras.pop("timm"))
    assert always.union(*map(names, extras.values())) <= pinned(ROOT / "locked/dev.txt").keys()


def test_the_oldest_versions_are_printed_for_every_requirement() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for extra, lines in project["optional-dependencies"].items() if extra != "dev" for line in lines]
    ran = subprocess.run([sys.executable, ROOT / "tools/lowest.py"], capture_output=True, text=True, timeout=600, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines() == [line.replace(">=", "==", 1) for line in (*project["dependencies"], *extras)]


def test_every_licence_lets_the_package_be_used_for_anything() -> None:
    ran = subprocess.run(
        [sys.executable, ROOT / "tools/licences.py", "hub", "onnx", "plot", "sklearn", "tensorboard", "web"],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "torch " in ran.stdout
    assert "safetensors " in ran.stdout


_ONNX = """
import sys
import numpy as np
import torchnin
classifier = torchnin.load("fashion-mnist-small", backend="onnxruntime")
classifier.predict(np.zeros((28, 28), np.uint8))
from torchnin.export.graph import require_exporter
require_exporter()
"""


def test_onnxruntime_reports_nothing(tmp_path: Path) -> None:
    """Its wheels send events to their makers, from threads of their own, and leave a number for the machine in the home folder."""
    pytest.importorskip("onnxruntime")
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "SYSTEMROOT")}
    env = {**kept, "HOME": str(tmp_path), "TORCHNIN_HOME": str(tmp_path / "torchnin")}  # it is silent by itself where CI is set
    ran = subprocess.run([sys.executable, "-c", _ONNX], env=env, capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert [path for path in tmp_path.rglob("*") if "Microsoft" in str(path)] == []
