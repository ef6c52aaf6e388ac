"""The short form of benchmarks/faults/kill.py: the command is killed inside its writes and gone on with."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).parents[2] / "benchmarks" / "faults" / "kill.py"


@pytest.mark.skipif(not sys.platform.startswith("linux") or shutil.which("gcc") is None, reason="needs Linux and gcc")
def test_killed_inside_its_writes_a_training_ends_with_the_bits_of_one_that_was_not(tmp_path: Path) -> None:
    results = tmp_path / "kill.json"
    command = [sys.executable, str(DRIVER), "sweep", "--first", "13", "--stride", "50", "--results", str(results)]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=1800, check=False, env=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = json.loads(results.read_text())["parts"]["sweep"]
    assert found["wrong"] == []
    # Before two calls that change a file and half-way through them, one of them in a checkpoint; after each it was gone on with.
    assert found["kills"] == found["inside_writes"] == found["compared"] == 4
    assert any("checkpoint" in place for place in found["where"])
