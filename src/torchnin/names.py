"""Public names resolved on first use, so that a package imports of its parts what is asked for and no more."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def on_first_use(
    package: str, home: Mapping[str, Sequence[str]], rooms: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The `__getattr__` and the `__dir__` of a package whose public names lie in its modules.

    Args:
        package: the package's own name.
        home: by module, the names that are found there.
        rooms: subpackages and modules that are reached as attributes.
    """
    module_of = {name: module for module, names in home.items() for name in names}

    def resolve(name: str) -> Any:
        if name in rooms:
            return importlib.import_module(f"{package}.{name}")
        if name not in module_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(module_of[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *module_of, *rooms})

    return resolve, listed
