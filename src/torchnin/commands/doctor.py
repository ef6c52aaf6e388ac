"""`nin doctor`: what this machine is, what would be used on it, and why."""

import contextlib
import importlib.metadata
import importlib.util
import os
import platform
import sys
from typing import Any

import torchnin
from torchnin.commands.networks import Json
from torchnin.commands.output import result
from torchnin.files import cache_folder

# Of each extra the modules that it brings, by the names of their packages.
_EXTRAS = {
    "plot": {"matplotlib": "matplotlib"},
    "onnx": {"onnx": "onnx", "onnxruntime": "onnxruntime", "onnxscript": "onnxscript"},
    "web": {
        "starlette": "starlette",
        "uvicorn": "uvicorn",
        **({} if sys.platform == "win32" else {"uvloop": "uvloop"}),
        "httptools": "httptools",
        "python-multipart": "python_multipart",
        "prometheus-client": "prometheus_client",
    },
    "sklearn": {"scikit-learn": "sklearn"},
    "hub": {"huggingface-hub": "huggingface_hub"},
    "timm": {"timm": "timm"},
    "tensorboard": {"tensorboard": "tensorboard"},
}
_CORE = {
    "torch": "torch",
    "numpy": "numpy",
    "pillow": "PIL",
    "safetensors": "safetensors",
    "tyro": "tyro",
    "rich": "rich",
    "jaxtyping": "jaxtyping",
}


def doctor(*, as_json: Json = False) -> None:
    """Say which device, number format and memory layout would be used, and why; versions; data; extras."""
    native = torchnin.models.native
    choice = torchnin.choose_device()
    versions = {"torchnin": torchnin.__version__, "python": platform.python_version()}
    versions |= {name: _version(name, module) or "missing" for name, module in _CORE.items()}
    extras = {extra: {name: _version(name, module) for name, module in modules.items()} for extra, modules in _EXTRAS.items()}
    found = {status.name: status.found for status in torchnin.find_datasets()}
    document: dict[str, Any] = {
        **choice.to_dict(),
        "native": native.compiled(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "versions": versions,
        "extras": extras,
        "cache": str(cache_folder()),
        "datasets": found,
    }
    lines = [
        str(choice),
        f"compiled for: {native.compiled() or native.advice() or 'none for this system'}",
        f"threads: {document['threads']} on {document['cores']} cores, {document['platform']}",
        "versions: " + ", ".join(f"{name} {version}" for name, version in versions.items()),
        *(_line(extra, found_there) for extra, found_there in extras.items()),
        f"cache: {document['cache']}",
        *(f"dataset {name}: {place or 'not on this machine, would be downloaded'}" for name, place in found.items()),
    ]
    result(document, "\n".join(lines), as_json)


def _version(name: str, module: str) -> str | None:
    """The version of what brings an installed module, which may be another package; None where it is not installed."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:  # a folder of that name, as there may be one where one works, is no package
        return None
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(name)
    # As onnxruntime-gpu brings onnxruntime, and Pillow-SIMD brings PIL.
    others = importlib.metadata.packages_distributions().get(module, ())
    return next((f"{importlib.metadata.version(other)} ({other})" for other in others), "of unknown version")


def _line(extra: str, versions: dict[str, str | None]) -> str:
    missing = [name for name, version in versions.items() if version is None]
    if missing:
        return f"extra {extra}: not installed ({', '.join(missing)} missing; pip install 'torchnin[{extra}]')"
    return f"extra {extra}: " + ", ".join(f"{name} {version}" for name, version in versions.items())
