"""The machine and the versions that a result was measured with."""

import os
import platform
from importlib.metadata import version
from pathlib import Path


def machine() -> dict[str, str | int | None]:
    """Processor, cores, system and versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n\n")[0].splitlines() if info.is_file() else []
    named = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    return {
        "processor": f"{named.get('model name', platform.processor())} (family {named.get('cpu family')}, model {named.get('model')})",
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torchnin", "torch", "numpy", "pillow", "safetensors")},
    }
