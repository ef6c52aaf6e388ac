"""The machine and the versions that a result was measured with."""

import os
import platform
from pathlib import Path
from typing import Any


def machine() -> dict[str, Any]:
    """Processor, cores, system and versions."""
    import torch

    import torchnin

    name = platform.processor()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = dict(line.split(":", 1) for line in info.read_text().split("\n\n")[0].splitlines() if ":" in line)
        named = {key.strip(): value.strip() for key, value in lines.items()}
        name = f"{named.get('model name', name)} (family {named.get('cpu family')}, model {named.get('model')})"
    choice = torchnin.choose_device().to_dict()
    return {
        "processor": name,
        "cores": os.cpu_count(),
        "computes": f"{choice['device']}, {choice['dtype']}, {choice['memory_format']}, {choice['threads']} threads",
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchnin": torchnin.__version__,
    }
