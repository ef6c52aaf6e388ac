"""`nin doctor`: what this machine is, what would be used on it, and why."""

import importlib.metadata
import importlib.util
import os
import platform
from typing import Any

import torchnin
from torchnin.commands.networks import Json
from torchnin.commands.output import result

_EXTRAS = {"plot": ("matplotlib",)}
_CORE = ("torch", "numpy", "pillow", "safetensors", "tyro", "rich", "jaxtyping")


def doctor(*, as_json: Json = False) -> None:
    """Say which device, number format and memory layout would be used, and why; versions; data; extras."""
    choice = torchnin.choose_device()
    versions = {"torchnin": torchnin.__version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in _CORE}
    extras = {extra: all(importlib.util.find_spec(module) for module in modules) for extra, modules in _EXTRAS.items()}
    found = {status.name: status.found for status in torchnin.find_datasets()}
    document: dict[str, Any] = {
        **choice.to_dict(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "versions": versions,
        "extras": extras,
        "cache": str(torchnin.data.cache_folder()),
        "datasets": found,
    }
    lines = [
        str(choice),
        f"threads: {document['threads']} on {document['cores']} cores, {document['platform']}",
        "versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        *(f"extra {name}: {'installed' if there else f'not installed (pip install torchnin[{name}])'}" for name, there in extras.items()),
        f"cache: {document['cache']}",
        *(f"dataset {name}: {place or 'not on this machine, would be downloaded'}" for name, place in found.items()),
    ]
    result(document, "\n".join(lines), as_json)
