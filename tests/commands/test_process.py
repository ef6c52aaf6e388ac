import ctypes
import os
import subprocess
import sys

import pytest

_KEPT = """
import ctypes, sys
from torchnin.commands.process import set_up_process
if sys.argv[1] == "set up":
    set_up_process()
class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]
libc.mallinfo2.restype = Info
libc.free(libc.malloc(40 << 20))
print(libc.mallinfo2().fordblks >> 20)
"""


def kept(how: str, **environment: str) -> int:
    """MiB that the allocator holds on to of 40 MiB that were had and freed."""
    command = [sys.executable, "-c", _KEPT, how]
    own = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env=own | environment).stdout)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="other allocators are left as they are")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    assert kept("as it is") < 40 <= kept("set up")
    # Whoever sets the allocator's own variables means them.
    assert kept("set up", MALLOC_ARENA_MAX="2") < 40


def test_a_spin_count_that_is_set_stays() -> None:
    show = "import os; from torchnin.commands.process import set_up_process; set_up_process(); print(os.environ['GOMP_SPINCOUNT'])"
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    for given, expected in (({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        ran = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True, env=environment | given)
        assert ran.stdout.strip() == expected


def test_matplotlib_keeps_its_fonts_in_torchnins_own_cache() -> None:
    show = "import os; from torchnin.commands.process import set_up_process; set_up_process(); print(os.environ['MPLCONFIGDIR'])"
    own = {name: value for name, value in os.environ.items() if name != "MPLCONFIGDIR"}
    for given, expected in (({"TORCHNIN_HOME": "/there"}, "/there/matplotlib"), ({"MPLCONFIGDIR": "/mine"}, "/mine")):
        ran = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True, env=own | given)
        assert ran.stdout.strip() == expected


def test_a_cache_that_cannot_be_is_named_where_it_is_needed() -> None:
    # A user without a home, as a container's may be.
    without = "import os, pathlib; os.environ.pop('HOME', None); os.environ.pop('XDG_CACHE_HOME', None); pathlib.Path.home = none"
    home = f"def none(): raise RuntimeError\n{without}; os.environ.pop('TORCHNIN_HOME', None)"
    named = "import os; os.environ['TORCHNIN_HOME'] = '~nobody-of-that-name/cache'"
    for before, said in (
        (home, "there is no home folder to keep downloads in; set TORCHNIN_HOME"),
        (named, "~nobody-of-that-name/cache: "),
    ):
        for command, code in (("models", 0), ("datasets", 2)):
            run = f"{before}\nfrom torchnin.commands.main import main\nmain(['{command}'])"
            ran = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=False)
            assert ran.returncode == code, ran.stderr
            assert ran.stderr.startswith(f"nin: {said}" if code else ""), ran.stderr
            assert "Traceback" not in ran.stderr
