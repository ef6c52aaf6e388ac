"""The machine and the versions that a result was measured with."""

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any


def machine(*packages: str) -> dict[str, Any]:
    """Processor, cores, system, and the versions of Python, torch, torchnin and the packages named."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "torchnin", *packages)},
    }


def processor() -> str:
    """The processor's name, family and model, as Linux knows them."""
    info = Path("/proc/cpuinfo")
    if not info.is_file():
        return platform.processor()
    lines = info.read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    named = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return f"{named.get('model name', platform.processor())} (family {named.get('cpu family')}, model {named.get('model')})"


def computes(device: str = "auto", dtype: str = "auto") -> str:
    """What torchnin computes on and in, where it is asked for such a device and dtype."""
    import torchnin

    choice = torchnin.choose_device(device, dtype).to_dict()
    return f"{choice['device']}, {choice['dtype']}, {choice['memory_format']}, {choice['threads']} threads"
