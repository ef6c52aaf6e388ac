"""A stand-in for torchvision, which timm imports and of which there is no build without CUDA everywhere: names, and nothing behind them."""

import importlib
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from types import ModuleType
from typing import Any, ClassVar

import pytest

NAMES = ("datasets", "models", "models.feature_extraction", "ops", "ops.misc", "transforms", "transforms.functional", "utils")
MODES = ("NEAREST", "BILINEAR", "BICUBIC", "BOX", "HAMMING", "LANCZOS")


class Names(ModuleType):
    """A module in which every name is an empty class."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        made = Enum(name, {mode: mode.lower() for mode in MODES}) if name == "InterpolationMode" else type(name, (), {})
        setattr(self, name, made)
        return made


@contextmanager
def torchvision_or_its_names() -> Iterator[None]:
    """While open, the names stand where timm looks for torchvision, unless it is installed.

    Not longer: others ask whether torchvision is there, and it is not.
    """
    if importlib.util.find_spec("torchvision") is not None:
        yield
        return
    modules = {"torchvision": Names("torchvision"), **{f"torchvision.{name}": Names(f"torchvision.{name}") for name in NAMES}}
    for name, module in modules.items():
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(modules[parent], own, module)
    sys.modules.update(modules)
    try:
        yield
    finally:
        for name in modules:
            del sys.modules[name]


@pytest.fixture(scope="session")
def timm() -> ModuleType:
    """timm, with our networks in its registry."""
    with torchvision_or_its_names():
        found: ModuleType = pytest.importorskip("timm")
        importlib.import_module("torchnin.integrations.timm")
        importlib.import_module("timm.optim")
    return found
