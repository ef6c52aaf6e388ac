"""What is computed in C: compiled when the package is built, for a few kinds of processors, of which the best that is here is loaded.

Where that was not done, for want of a compiler, or the processor is of no such kind, torch does it all. Nothing in C knows Python or
torch: it is given addresses, and the functions of the OpenMP library that torch uses, so that two crews of threads do not share the cores.
"""

import ctypes
import functools
import platform
import sys
from pathlib import Path
from typing import Any

import torch

# What there is for x86 processors, by what torch says of theirs, the best first; elsewhere one file.
_KINDS = {"AVX512": ("x86-64-v4", "x86-64-v3"), "AVX2": ("x86-64-v3",)}
_MATRICES = "amx"
_PLAIN = "plain"


def file_for(kind: str) -> Path:
    """Where the functions for a kind of processor lie: `x86-64-v3`, `x86-64-v4`, `amx`, or elsewhere `plain`."""
    return Path(__file__).with_name(f"{kind}.so")


def kinds() -> tuple[str, ...]:
    """The kinds that this processor can run, the best first."""
    if platform.machine() != "x86_64":
        return (_PLAIN,)
    found = _KINDS.get(torch.backends.cpu.get_cpu_capability(), ())
    # A private name: where it is absent we cannot know, and do without.
    has_matrices = found == _KINDS["AVX512"] and getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
    return (_MATRICES, *found) if has_matrices else found


@functools.cache
def compiled() -> str | None:
    """The kind that is loaded; None where there is none."""
    return next((kind for kind in kinds() if load(kind) is not None), None)


def has_matrices() -> bool:
    """Whether what is loaded uses matrix units."""
    return compiled() == _MATRICES


def advice() -> str | None:
    """What to do about files that are missing where they could be; None where they are there, or nothing can be done."""
    if compiled() is not None or not sys.platform.startswith("linux") or not kinds():
        return None
    return (
        "training takes torch's own ways, which for small networks take a quarter longer to two and a half times as long: "
        "the C files of the others are not compiled here; with a C compiler (apt-get install gcc) install torchnin once more"
    )


@functools.cache
def load(kind: str) -> ctypes.CDLL | None:
    """The functions for a kind of processor, which share their work among the threads that torch has; None where that cannot be."""
    if not file_for(kind).exists():
        return None
    try:
        # What torch itself is bound to; a second OpenMP library would bring threads of its own to the same cores.
        openmp = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libtorch_cpu.so"))
        crew = [getattr(openmp, name) for name in ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")]
        library = ctypes.CDLL(str(file_for(kind)))
        library.set_up.restype = None
        library.set_up(*(ctypes.cast(function, ctypes.c_void_p) for function in crew))
        return library if kind != _MATRICES or library.matrices() else None
    except (OSError, AttributeError):
        return None


def function(name: str, *arguments: Any) -> Any:
    """A function of what is loaded, which takes arguments of such types of ctypes and returns whether memory did not suffice."""
    kind = compiled()
    assert kind is not None
    found = getattr(load(kind), name)
    found.argtypes = arguments
    return found
