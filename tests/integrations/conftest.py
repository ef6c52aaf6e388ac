"""A stand-in for torchvision, which timm imports and of which there is no build without CUDA everywhere: names, and nothing behind them."""

import importlib.util
import sys
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


def stand_in() -> None:
    """Put the names where timm looks for torchvision, unless it is installed."""
    if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is not None:
        return
    modules = {"torchvision": Names("torchvision"), **{f"torchvision.{name}": Names(f"torchvision.{name}") for name in NAMES}}
    for name, module in modules.items():
        parent, _, own = name.rpartition(".")
        if parent:
            setattr(modules[parent], own, module)
    sys.modules.update(modules)


@pytest.fixture(scope="session", autouse=True)
def torchvision_or_its_names() -> None:
    stand_in()
