"""The house's floors: who may use whom, by HOUSE.md. A line that breaks the rule is named."""

import ast
import itertools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import torchnin

PACKAGE = Path(torchnin.__file__).parent
FLOORS = {
    **dict.fromkeys(("models", "data", "device", "plots", "files", "names", "values", "version"), 0),
    **dict.fromkeys(
        ("evaluation", "explanation", "export", "exported", "inference", "occlusion", "onnx_network", "prediction", "saved"), 1
    ),
    "classifier": 2,
    "training": 3,
    **dict.fromkeys(("commands", "web", "integrations", "__main__"), 4),
}
# What every room may use: plain files, names resolved on first use, numbers of any library and the version are no rooms.
COMMON = {"files", "names", "values", "version"}
FILES = sorted(PACKAGE.rglob("*.py"))
# What tests/ mirrors no file of, and why; neither are packages' own files, which name what lies in them.
NOT_MIRRORED = {
    "__main__.py": "calls the command",
    "version.py": "a number",
    "data/errors.py": "what others raise",
    "data/progress.py": "a type, and a function that does nothing",
    "training/errors.py": "what others raise",
    "data/sample/make_sample.py": "makes the sample, as tests/data/test_load.py does anew",
}


def imports(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Line, absolute name and whether it stands inside a function, of every import outside `if TYPE_CHECKING`."""
    module = ("torchnin", *path.relative_to(PACKAGE).with_suffix("").parts)
    package = module[:-1]

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[int, str, bool]]:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            name = ".".join((*base, *(node.module or "").split("."))).rstrip(".")
            # `from torchnin import data` names a room, `from torchnin.data import x` a name in it.
            yield from ((node.lineno, f"{name}.{alias.name}" if name == "torchnin" else name, inside) for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def ours() -> list[tuple[str, int, str, str, bool]]:
    """(file, line, room that imports, room that is imported, inside a function) for each import of our own, once a line."""
    found = set()
    for path in FILES:
        for line, name, inside in imports(path):
            parts = name.split(".")
            if parts[0] == "torchnin" and path != PACKAGE / "__init__.py":
                used = parts[1] if len(parts) > 1 else ""
                found.add((str(path.relative_to(PACKAGE)), line, room_of(path), used, inside))
    return sorted(found)


def test_every_room_has_a_floor() -> None:
    rooms = {room_of(path) for path in FILES} - {"__init__"}
    assert rooms <= FLOORS.keys(), f"rooms without a floor in HOUSE.md: {sorted(rooms - FLOORS.keys())}"


def test_every_source_file_has_a_test_file_of_its_name() -> None:
    sources = {path.relative_to(PACKAGE).as_posix() for path in FILES if path.name != "__init__.py"}
    assert sources >= NOT_MIRRORED.keys()
    tests = Path(__file__).parent
    expected = {name: (tests / name).with_name(f"test_{Path(name).name}") for name in sorted(sources - NOT_MIRRORED.keys())}
    wrong = [f"{name}: there is no {path.relative_to(tests.parent)}" for name, path in expected.items() if not path.is_file()]
    assert not wrong, "\n".join(wrong)


def test_the_tree_names_every_file_of_a_room_whose_files_it_names() -> None:
    text = (Path(__file__).parents[1] / "ARCHITECTURE.md").read_text(encoding="utf-8")
    tree = text.partition("    src/torchnin/\n")[2].partition("\n    benchmarks/")[0].splitlines()
    told: dict[str, set[str]] = {}
    room = ""
    for line in tree:
        name = line.split()[0]
        if line.startswith(" " * 8) and name.endswith(".py"):
            told.setdefault(room, set()).add(name)
        elif not line.startswith(" " * 8):
            room = name.rstrip("/")
    assert {"models", "data", "training"} <= told.keys()
    for room, names in told.items():
        assert names == {path.name for path in (PACKAGE / room).glob("*.py")} - {"__init__.py"}, room


def test_nothing_is_imported_from_a_floor_above() -> None:
    wrong = []
    for file, line, room, used, _ in ours():
        # The commands use the package by its public names, which stand above everything but the commands themselves.
        floor = FLOORS.get(used, 3.5)
        if used != room and floor > FLOORS[room]:
            wrong.append(f"{file}:{line}: {room} (floor {FLOORS[room]}) imports {used or 'torchnin'} (floor {floor:g})")
    assert not wrong, "\n".join(wrong)


def test_rooms_of_the_ground_floor_know_nothing_of_each_other() -> None:
    wrong = [
        f"{file}:{line}: {room} imports {used}" for file, line, room, used, _ in ours() if FLOORS[room] == 0 and used not in {room, *COMMON}
    ]
    assert not wrong, "\n".join(wrong)


def test_within_a_floor_imports_go_one_way() -> None:
    used_by = {(room, used) for _, _, room, used, _ in ours() if room != used}
    reached = set(used_by)
    for middle, first, last in itertools.product(FLOORS, repeat=3):
        if (first, middle) in reached and (middle, last) in reached:
            reached.add((first, last))
    circles = [(file, line, room, used) for file, line, room, used, _ in ours() if room != used and (used, room) in reached]
    assert not circles, f"imports in a circle: {circles}"


def test_nothing_of_ours_is_imported_late() -> None:
    wrong = [f"{file}:{line}: {used} is imported inside a function" for file, line, _, used, inside in ours() if inside]
    wrong += [
        f"{path.relative_to(PACKAGE)}: importlib.import_module"
        for path in FILES
        # Packages resolve their names on first use, and the entry point imports the one command that is called.
        if path not in (PACKAGE / "names.py", PACKAGE / "commands" / "main.py") and "import_module" in path.read_text(encoding="utf-8")
    ]
    assert not wrong, "\n".join(wrong)


def test_torchvision_stays_in_the_integrations() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in FILES
        for line, name, _ in imports(path)
        if name.split(".")[0] in ("torchvision", "timm", "fastai") and room_of(path) != "integrations"
    ]
    assert not wrong, "\n".join(wrong)


def test_progress_and_command_line_stay_upstairs() -> None:
    wrong = [
        f"{path.relative_to(PACKAGE)}:{line}: {name}"
        for path in FILES
        for line, name, _ in imports(path)
        if name.split(".")[0] in ("rich", "tyro") and FLOORS.get(room_of(path), 0) < 3
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_is_imported_that_windows_lacks() -> None:
    """But where the line asks for the system first."""
    lacking = {"fcntl", "grp", "posix", "pty", "pwd", "readline", "resource", "syslog", "termios", "tty", "uvloop"}
    wrong = []
    for path in FILES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        asked = [node for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test).startswith("sys.platform ")]
        lines = {line for node in asked for line in range(node.lineno, node.end_lineno + 1)}
        wrong += [f"{path}:{line}: {name}" for line, name, _ in imports(path) if name in lacking and line not in lines]
    assert not wrong, "\n".join(wrong)


def test_the_walk_finds_what_it_is_there_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models").mkdir()
    broken = tmp_path / "models" / "broken.py"
    broken.write_text(
        "import os\n\ndef f():\n    from torchnin.training import train\n\nfrom ..data.batches import Batches\nfrom torchnin import plots\n"
    )
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path)
    assert list(imports(broken)) == [
        (1, "os", False),
        (4, "torchnin.training", True),
        (6, "torchnin.data.batches", False),
        (7, "torchnin.plots", False),
    ]


@pytest.mark.parametrize(
    "code",
    [
        "import torchnin; dir(torchnin)",
        "import sys; from torchnin.commands.main import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "import sys; from torchnin.commands.main import main\ntry: main(['train', '--help'])\nexcept SystemExit: pass",
        "import sys; from torchnin.commands.main import main\ntry: main(['--version'])\nexcept SystemExit: pass",
    ],
)
def test_no_torch_before_it_is_needed(code: str) -> None:
    code += (
        "\nimport sys; heavy = {'torch', 'numpy', 'PIL', 'matplotlib'} & set(sys.modules); sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False)
    assert ran.returncode == 0, ran.stderr


def test_what_cannot_be_known_is_not_taken_for_nothing() -> None:
    """From Python 3.14 on pathlib says that there is nothing where a folder may not be entered; torchnin.files says that it may not."""
    asked = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}: {node.func.attr}"
        for path in FILES
        if room_of(path) not in ("models", "files")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in ("exists", "is_file", "is_dir")
        if ast.unparse(node.func.value) != "entry"  # os.scandir's
    ]
    assert not asked
