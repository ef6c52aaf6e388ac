"""Install torchnin and what it needs into the environment of the Python that runs this, every file checked against the hashes in `locked/`.

    python tools/install.py run      what `make run` needs
    python tools/install.py dev      what `make test` needs

pip checks hashes for all of a call or for none, and cannot for the project itself. So first torch: where the machine's package index offers
the build without CUDA that `locked/cpu.txt` knows, that one, a tenth of the size; else PyPI's. Then everything else that is locked; the
CUDA libraries, where this torch asks for them; and at last the project, built in this environment.

With OWN_TORCH=1 torch is whatever build of the right version the machine's own package index offers (ROCm, another CUDA, another
Python's CPU build), without a hash: for machines where PyPI's is of no use.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKED = ROOT / "locked"
_ASKED = """
import importlib.metadata, json
from pip._vendor.packaging.requirements import Requirement
asked = [Requirement(text) for text in importlib.metadata.requires("torch") or ()]
print(json.dumps([each.name for each in asked if each.marker is None or each.marker.evaluate({"extra": ""})]))
"""


def pip(*arguments: str, or_not: bool = False) -> None:
    """Run pip in this environment; `or_not`, its failure is none."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    ran = subprocess.run(command, cwd=ROOT, check=False, stderr=subprocess.DEVNULL if or_not else None)
    if ran.returncode and not or_not:
        sys.exit(ran.returncode)


def wants_cuda() -> bool:
    """Whether the installed torch asks for CUDA's libraries."""
    ran = subprocess.run([sys.executable, "-c", _ASKED], capture_output=True, text=True, check=True)
    return any(re.match(r"nvidia-|cuda-|triton$", name) for name in json.loads(ran.stdout))


def main() -> None:
    """Install."""
    if sys.argv[1:] not in (["run"], ["dev"]):
        sys.exit("python tools/install.py run|dev")
    locked = ("install", "--quiet", "--require-hashes", "--no-deps")
    if os.environ.get("OWN_TORCH") == "1":
        pip("install", "--quiet", "--constraint", "constraints.txt", "torch")
        pip(*locked, "--requirement", f"locked/{sys.argv[1]}.txt")
    else:
        pip(*locked, "--requirement", "locked/cpu.txt", or_not=True)
        pip(*locked, "--requirement", "locked/torch.txt", "--requirement", f"locked/{sys.argv[1]}.txt")
        if wants_cuda():
            pip(*locked, "--requirement", "locked/cuda.txt")
    pip("install", "--quiet", "--no-deps", "--no-build-isolation", "--editable", ".")
    # timm asks for torchvision, whose names the tests bring themselves: it comes after the check, or is there from the time before.
    if importlib.util.find_spec("timm") is None:
        pip("check")
    if sys.argv[1] == "dev":
        pip(*locked, "--requirement", "locked/timm.txt")


if __name__ == "__main__":
    main()
