"""What `nin` sets for its own process before anything heavy is imported; the Python library leaves its host's process alone."""

import contextlib
import ctypes
import os
import platform
import sys

from torchnin.files import cache_folder

# <malloc.h> of glibc
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4


def set_up_process(*, keep: bool = True) -> None:
    """Make threads wait without burning the cores, write nothing into the home folder, and, with `keep`, `keep_freed_memory`."""
    # Threads that wait for each other by spinning for long are ruinous as soon as anything else runs on the machine: one busy
    # process beside a training on two cores costs a factor of 8 to 14 with libgomp's default, and a factor of 1.5 with this.
    os.environ.setdefault("GOMP_SPINCOUNT", "5000")
    # Where matplotlib keeps its list of fonts, and would make folders in the user's home otherwise.
    with contextlib.suppress(ValueError):  # there is none; said where it is needed
        os.environ.setdefault("MPLCONFIGDIR", str(cache_folder() / "matplotlib"))
    if sys.platform == "win32":  # where torch brings Intel's library, whose threads spin for 200 ms (docs/lab-log.md)
        os.environ.setdefault("KMP_BLOCKTIME", "30us")
    if keep:
        keep_freed_memory()


def keep_freed_memory() -> None:
    """Have glibc's allocator, where it is not set otherwise, hold on to what is freed; what is large and used once is best behind it.

    By default it gives every large tensor back to the system and asks for it anew in the next step, page by page: a tenth to a
    sixth of the processor's time in a training step, at the same peak of memory.
    """
    if platform.libc_ver()[0] != "glibc" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_MAX, 0)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_TOP_PAD, 64 * 2**20)
