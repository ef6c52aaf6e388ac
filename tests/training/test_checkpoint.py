import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from torchnin import TrainingError
from torchnin.training.checkpoint import Checkpoint, has_checkpoint, read_checkpoint, write_checkpoint


def checkpoint(step: int) -> Checkpoint:
    tensors = {"a": torch.full((3, 4), float(step)), "b": torch.tensor(step, dtype=torch.int32), "c": torch.rand(2, 3, 4, 5)}
    tensors["c"] = tensors["c"].to(memory_format=torch.channels_last)
    return Checkpoint(tensors=tensors, progress={"step": step, "rows": [{"loss": 0.1 + 0.2}]})


def test_what_is_written_is_read_back_to_the_bit(tmp_path: Path) -> None:
    written = checkpoint(7)
    write_checkpoint(tmp_path, written)
    read, broken = read_checkpoint(tmp_path)
    assert broken == []
    assert read.progress == written.progress
    assert all(torch.equal(read.tensors[name], value) for name, value in written.tensors.items())
    assert read.tensors["b"].dtype == torch.int32


def test_two_are_kept_and_nothing_else_lies_there(tmp_path: Path) -> None:
    assert not has_checkpoint(tmp_path)
    for step in (1, 9, 10, 100):
        write_checkpoint(tmp_path, checkpoint(step))
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [f"step-{step:09d}.{suffix}" for step in (10, 100) for suffix in ("json", "safetensors")]
    assert has_checkpoint(tmp_path)


def test_no_pickle(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(1))
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".safetensors"}


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty", "gone", "json empty", "json of something else", "checksum"])
def test_a_broken_one_is_passed_over(tmp_path: Path, how: str) -> None:
    write_checkpoint(tmp_path, checkpoint(5))
    write_checkpoint(tmp_path, checkpoint(6))
    tensors, document = tmp_path / "step-000000006.safetensors", tmp_path / "step-000000006.json"
    data = bytearray(tensors.read_bytes())
    match how:
        case "truncated":
            tensors.write_bytes(data[:-7])
        case "flipped":
            data[-3] ^= 4
            tensors.write_bytes(data)
        case "empty":
            tensors.write_bytes(b"")
        case "gone":
            tensors.unlink()
        case "json empty":
            document.write_text("")
        case "json of something else":
            document.write_text("[1]")
        case "checksum":
            document.write_text(json.dumps({**json.loads(document.read_text()), "sha256": "0" * 64}))
    read, broken = read_checkpoint(tmp_path)
    assert read.progress["step"] == 5
    assert len(broken) == 1
    assert "step-000000006" in broken[0]
    assert broken[0].endswith("the checkpoint before it is used")


def test_not_one_bit_of_a_checkpoint_may_change(tmp_path: Path) -> None:
    """Also not of its plain values, which would still be read: another step, another learning rate."""
    write_checkpoint(tmp_path, checkpoint(5))
    write_checkpoint(tmp_path, checkpoint(6))
    document, tensors = tmp_path / "step-000000006.json", tmp_path / "step-000000006.safetensors"
    for path in (document, tensors):
        data = path.read_bytes()
        for place in range(len(data)):
            for bit in range(8) if path is document else [place % 8]:
                path.write_bytes(bytes([*data[:place], data[place] ^ (1 << bit), *data[place + 1 :]]))
                read, broken = read_checkpoint(tmp_path)
                assert (read.progress["step"], len(broken)) == (5, 1), (path.name, place, bit)
        path.write_bytes(data)
    assert read_checkpoint(tmp_path)[0].progress["step"] == 6


def test_checkpoints_of_versions_without_that_checksum_are_read(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, checkpoint(6))
    document = tmp_path / "step-000000006.json"
    values = json.loads(document.read_text())
    assert list(values) == ["whole", "sha256", "progress"]
    del values["whole"]
    document.write_text(json.dumps(values))
    read, broken = read_checkpoint(tmp_path)
    assert (read.progress, broken) == (checkpoint(6).progress, [])


def test_a_broken_one_takes_no_place_of_a_whole_one(tmp_path: Path) -> None:
    """Going on from step 5, the broken step 60 is of a future that never comes; two whole ones are to be kept all the same."""
    write_checkpoint(tmp_path, checkpoint(5))
    write_checkpoint(tmp_path, checkpoint(60))
    (tmp_path / "step-000000060.safetensors").write_bytes(b"")
    for step in (8, 9):
        write_checkpoint(tmp_path, checkpoint(step))
    assert sorted(path.name for path in tmp_path.glob("*.json")) == ["step-000000008.json", "step-000000009.json"]
    assert not (tmp_path / "step-000000060.safetensors").exists()
    assert read_checkpoint(tmp_path)[1] == []


def test_a_broken_one_that_was_passed_over_takes_no_place_of_a_whole_one_either(tmp_path: Path) -> None:
    """Gone on with from step 60, the next one to be written is newer than the broken step 120."""
    for step in (60, 120):
        write_checkpoint(tmp_path, checkpoint(step))
    (tmp_path / "step-000000120.safetensors").write_bytes(b"")
    read, _ = read_checkpoint(tmp_path)
    assert read.passed_over == ("step-000000120",)
    write_checkpoint(tmp_path, dataclasses.replace(checkpoint(150), passed_over=read.passed_over))
    assert sorted(path.stem for path in tmp_path.glob("*.json")) == ["step-000000060", "step-000000150"]
    assert sorted(path.stem for path in tmp_path.glob("*.safetensors")) == ["step-000000060", "step-000000150"]


def test_a_broken_one_that_is_written_anew_is_kept(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, dataclasses.replace(checkpoint(60), passed_over=("step-000000060",)))
    assert read_checkpoint(tmp_path)[0].progress["step"] == 60


def test_one_that_was_gone_back_to_leaves_that_of_its_step_whole_until_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = checkpoint(0)
    write_checkpoint(tmp_path, first)
    after = Checkpoint(tensors={"a": torch.ones(2)}, progress={**first.progress, "recoveries": 1})

    def full(path: Path, data: bytes) -> None:
        if path.suffix == ".json":
            raise OSError("disk full")
        path.write_bytes(data)

    with monkeypatch.context() as patched:
        patched.setattr("torchnin.training.checkpoint.write_atomically", full)
        with pytest.raises(OSError, match="disk full"):
            write_checkpoint(tmp_path, after)
    assert read_checkpoint(tmp_path)[0].progress == first.progress
    write_checkpoint(tmp_path, after)
    assert read_checkpoint(tmp_path)[0].progress == after.progress
    write_checkpoint(tmp_path, Checkpoint(tensors=after.tensors, progress={**after.progress, "step": 12}))
    assert read_checkpoint(tmp_path)[0].progress["step"] == 12


def test_none_at_all(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="holds no whole checkpoint to resume from; train anew with --overwrite"):
        read_checkpoint(tmp_path / "missing")
    write_checkpoint(tmp_path, checkpoint(5))
    (tmp_path / "step-000000005.safetensors").unlink()
    with pytest.raises(TrainingError, match="is broken"):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize("file", ["first", "second"])
def test_killed_while_writing_the_one_before_stays(tmp_path: Path, file: str) -> None:
    write_checkpoint(tmp_path, checkpoint(5))
    code = (
        "import os, signal, sys, pathlib, torch\n"
        "from torchnin.training.checkpoint import Checkpoint, write_checkpoint\n"
        "left, replace = [int(sys.argv[2])], os.replace\n"
        "def counted(*names):\n"
        "    left[0] -= 1\n"
        "    os.kill(os.getpid(), signal.SIGKILL) if not left[0] else replace(*names)\n"
        "os.replace = counted\n"
        "write_checkpoint(pathlib.Path(sys.argv[1]), Checkpoint(tensors={'a': torch.ones(3)}, progress={'step': 6}))\n"
    )
    number = {"first": "1", "second": "2"}[file]
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path), number], capture_output=True, timeout=600, check=False)
    assert ran.returncode == -9, ran.stderr
    read, broken = read_checkpoint(tmp_path)
    assert (read.progress["step"], broken) == (5, [])
    for step in (6, 7):
        write_checkpoint(tmp_path, checkpoint(step))
    assert len(os.listdir(tmp_path)) == 4  # and nothing that the kill left behind


def test_tensors_that_are_none_though_their_checksum_is_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found by fuzzing: safetensors' own error came through."""
    write_checkpoint(tmp_path, checkpoint(1))
    monkeypatch.setattr("torchnin.training.checkpoint._packed", lambda tensors: b"\xff" * 40)
    write_checkpoint(tmp_path, checkpoint(2))
    read, broken = read_checkpoint(tmp_path)
    assert read.progress["step"] == 1
    assert "step-000000002.json is broken" in broken[0]
