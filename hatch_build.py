"""Compiles the C files of the package, where there is a compiler; without one the package is the same, and trains more slowly.

    python hatch_build.py

does it in place, for a checkout that is used as it is; pip does it when it installs or builds the package.
"""

import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:  # compiling alone asks for nothing
    BuildHookInterface = object  # type: ignore[assignment,misc]

_FOLDER = Path("src/torchnin/models/native")
# The instructions that may be used, by the names of the files that torchnin.models.native looks for.
_V4 = ("-march=x86-64-v4",)
_KINDS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {"amx": (*_V4, "-mamx-tile", "-mamx-bf16", "-mavx512bf16"), "x86-64-v4": _V4, "x86-64-v3": ("-march=x86-64-v3",)},
    "aarch64": {"plain": ()},
}
_FLAGS = ("-O3", "-std=gnu11", "-fPIC", "-shared", "-fno-math-errno")


def compile_native(root: Path, into: Path | None = None, *, flags: tuple[str, ...] = ()) -> list[Path]:
    """Compile them for the kinds of processors that this machine's may be; those that its compiler can.

    Args:
        root: of the checkout.
        into: the folder of what is compiled; beside the sources by default.
        flags: more, for the compiler.

    Returns:
        The files; none on systems other than Linux, and without a compiler.
    """
    compiler = os.environ.get("CC") or next(filter(shutil.which, ("cc", "gcc", "clang")), None)
    if sys.platform != "linux" or compiler is None:
        return []
    folder, built = root / _FOLDER, []
    sources = [str(path) for path in sorted(folder.glob("*.c"))]
    for kind, asked in _KINDS.get(platform.machine(), {}).items():
        target = (into or folder) / f"{kind}.so"
        fresh = target.with_suffix(".new")  # whoever has the file of before loaded keeps it
        command = [*compiler.split(), *_FLAGS, *asked, *flags, *sources, "-lm", "-o", str(fresh)]
        if subprocess.run(command, capture_output=True, check=False).returncode == 0:
            fresh.replace(target)
            built.append(target)
        else:
            fresh.unlink(missing_ok=True)
            target.unlink(missing_ok=True)  # of other sources
    return built


class NativeBuildHook(BuildHookInterface):  # type: ignore[misc,valid-type,unused-ignore]
    """Puts what was compiled into a wheel, which is for this kind of machine then."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile; called by hatchling before it builds a wheel, or installs in place."""
        built = compile_native(Path(self.root))
        if not built:
            self.app.display_warning("no C compiler was found, or it could not: trainings on a processor will take longer")
        elif version != "editable":
            build_data["artifacts"] += [str(path.relative_to(self.root)) for path in built]
            build_data["pure_python"] = False
            build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")


if __name__ == "__main__":
    for file in compile_native(Path(__file__).parent):
        print(file.relative_to(Path(__file__).parent))
