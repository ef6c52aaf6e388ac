"""Write `locked/`: the hashes of every file that the set-up commands may install, for every system that PyPI has files for.

    pip install uv
    python tools/lock.py

Versions are those of `constraints.txt`; what has none there yet gets the newest, which is then written there. To move to newer versions,
change or delete lines of `constraints.txt` and run this again. Several files, because pip takes all or nothing of each:

    run.txt      what `make run` needs, torch aside
    dev.txt      what `make test` needs, torch aside
    torch.txt    torch as PyPI has it
    cuda.txt     what PyPI's torch for Linux needs beside it
    cpu.txt      PyTorch's builds without CUDA that are named below, for machines whose package index has them
    timm.txt     timm alone, for the tests: the torchvision that it asks for has no build without CUDA on PyPI
"""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKED = ROOT / "locked"
CONSTRAINTS = ROOT / "constraints.txt"
# The project is built in the environment itself: pip would fetch what builds it elsewhere without a look at hashes.
BUILD = ("editables", "hatchling")
# PyTorch publishes builds without CUDA beside PyPI, under the same version with +cpu behind it: hash and where it runs.
CPU_BUILDS = {
    "2.13.0": [
        (
            "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
            "python_version == '3.11' and sys_platform == 'linux' and platform_machine == 'x86_64'",
        )
    ]
}
_CUDA = re.compile(r"nvidia-|cuda-|triton$")
_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def key(name: str) -> str:
    """A package's name as PyPI compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def pins(text: str) -> dict[str, str]:
    """Versions by name."""
    return {key(name): version for name, version in _PIN.findall(text)}


def compiled(extra: str) -> dict[str, str]:
    """What `.[extra]` brings with it on any system, by name: its lines of a requirements file, hashes included."""
    # uv alone knows how to work out the versions for systems other than the one that it runs on.
    command = [sys.executable, "-m", "uv", "pip", "compile", "pyproject.toml", "-", "--extra", extra, "--universal", "--generate-hashes"]
    command += ["--python-version", "3.11", "--constraint", str(CONSTRAINTS), "--no-header", "--no-annotate", "--quiet"]
    text = subprocess.run(command, cwd=ROOT, input="\n".join(BUILD), capture_output=True, text=True, check=True).stdout
    blocks = re.split(r"\n(?=\S)", text.strip())
    return {key(re.split("==", block)[0]): block for block in blocks}


def main() -> None:
    """Write the files, and what is new into constraints.txt."""
    run, dev = compiled("plot"), compiled("dev")
    torch = dev.pop("torch")
    run.pop("torch")
    version = pins(torch)["torch"]
    cpu = "\n".join(f"torch=={version}+cpu ; {where} \\\n    --hash=sha256:{value}" for value, where in CPU_BUILDS.get(version, ()))
    cuda = {name: block for name, block in dev.items() if _CUDA.match(name)}
    files = {
        "run.txt": {name: block for name, block in run.items() if name not in cuda},
        "dev.txt": {name: block for name, block in dev.items() if name not in cuda},
        "torch.txt": {"torch": torch},
        "cuda.txt": cuda,
        "cpu.txt": {"torch": cpu},
        "timm.txt": {"timm": compiled("timm")["timm"]},
    }
    LOCKED.mkdir(exist_ok=True)
    for file, blocks in files.items():
        (LOCKED / file).write_text("# Written by tools/lock.py.\n" + "".join(f"{blocks[name]}\n" for name in sorted(blocks)))
    title, *lines = CONSTRAINTS.read_text().splitlines()
    known = pins("\n".join(lines))
    everything = {
        name: version
        for blocks in files.values()
        for block in blocks.values()
        for name, version in pins(block).items()
        if "+" not in version
    }
    lines += [f"{name}=={version}" for name, version in everything.items() if name not in known]
    CONSTRAINTS.write_text(
        "\n".join([title, *sorted((line for line in lines if key(line.split("==")[0]) in everything), key=str.lower)]) + "\n"
    )


if __name__ == "__main__":
    main()
