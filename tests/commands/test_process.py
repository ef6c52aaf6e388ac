import os
import platform
import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
from torchnin.commands.process import set_up_process
if sys.argv[1] == "set up":
    set_up_process()
import numpy as np
for _ in range(3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(40 * 2**20, np.uint8)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str, **environment: str) -> int:
    """Page faults that 40 MiB cost which were had and freed before."""
    command = [sys.executable, "-c", _FAULTS, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment}).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are left as they are")
def test_freed_memory_is_kept_for_the_next_step() -> None:
    assert faults("as it is") > 10 * faults("set up") + 100
    # Whoever sets the allocator's own variables means them.
    assert faults("set up", MALLOC_ARENA_MAX="2") > 100


def test_a_spin_count_that_is_set_stays() -> None:
    show = "import os; from torchnin.commands.process import set_up_process; set_up_process(); print(os.environ['GOMP_SPINCOUNT'])"
    environment = {name: value for name, value in os.environ.items() if name != "GOMP_SPINCOUNT"}
    for given, expected in (({}, "5000"), ({"GOMP_SPINCOUNT": "7"}, "7")):
        ran = subprocess.run([sys.executable, "-c", show], capture_output=True, text=True, check=True, env=environment | given)
        assert ran.stdout.strip() == expected
