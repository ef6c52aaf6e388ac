"""Several processes train one network together: what one would have learned, written once, and an end for all when one ends."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import torchnin

# In double precision nothing but the order of sums can differ, so that any real difference shows. Batch normalisation, dropout,
# augmentation, thinning, Muon, clipping, the running mean, held-out pictures, and a last batch of 2 pictures for 3 processes.
LEARN = """
import dataclasses, json, os, sys
import torch
torch.set_num_threads(1)
import torchnin
from torchnin.training import monitor

data, out, seen, after_step = sys.argv[1], sys.argv[2], [], monitor.Monitor.after_step

def noted(self, logits, loss, *rest):
    seen.append(float(loss))
    after_step(self, logits, loss, *rest)

monitor.Monitor.after_step = noted
torch.manual_seed(7)
network = torchnin.NiN(dataclasses.replace(torchnin.model_entry("nin_small").config, dropout=0.3)).double()
network.register_forward_pre_hook(lambda module, pictures: (pictures[0].double(),))
augmentation = torchnin.data.Augmentation(flip=True, shift=2, erase=0.5)
recipe = dataclasses.replace(torchnin.named_recipe("fast"), num_epochs=3, batch_size=26, min_batches=0, min_steps=0)
recipe = dataclasses.replace(recipe, ema_decay=0.9, clip_norm=1.0, augmentation=augmentation)
resume = os.path.exists(out)
torchnin.train(network, data, recipe, out=out, name="double", seed=3, validation=0.1, resume=resume, device="cpu", quiet=True)
if os.environ.get("RANK", "0") == "0":
    print(json.dumps(seen))
if "RANK" in os.environ:
    weights = torch.cat([value.flatten() for value in network.state_dict().values()])
    print(float(weights.double().abs().sum()).hex(), file=sys.stderr)
"""
# Levelled class maps, which another machine computes otherwise: here by a hundredth, so that it shows in the running mean of the weights.
LEVEL = (
    LEARN.replace("dropout=0.3)", "dropout=0.3, batch_norm=False, class_map_relu=True)")
    .replace('named_recipe("fast"), num_epochs=3', 'named_recipe("steady"), num_epochs=1')
    .replace(
        "torch.manual_seed(7)",
        """
from torchnin.training import loop
level = loop.level_class_maps
def off(*arguments):
    weights = level(*arguments)
    weights.data.mul_(1 + 0.01 * int(os.environ.get("RANK", "0")))
    return weights
loop.level_class_maps = off
torch.manual_seed(7)
""",
    )
)
# The command, which signals itself, or its parent, after a step, where it is the process of the given rank.
COMMAND = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from torchnin.commands.main import main
from torchnin.training import monitor

rank, number, step, parent = (int(text) for text in sys.argv[1:5])
seen, after_step = [], monitor.Monitor.after_step

def counted(self, *arguments):
    after_step(self, *arguments)
    seen.append(1)
    if len(seen) == step and os.environ["RANK"] == str(rank):
        os.kill(os.getppid() if parent else os.getpid(), number)

monitor.Monitor.after_step = counted
main(sys.argv[5:])
"""
FEW = ("--num-epochs", "2", "--batch-size", "32", "--lr", "0.02", "--shift", "1", "--validation", "0.1", "--model", "nin_small")


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def launched(arguments: Sequence[object], count: int) -> list[subprocess.Popen[str]]:
    """So many processes with the environment that torchrun sets, and no torchrun."""
    shared = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    command = [sys.executable, *(str(argument) for argument in arguments)]
    return [
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]


def ended(processes: list[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Exit code, standard output and standard error of each."""
    answers = []
    for process in processes:
        out, err = process.communicate(timeout=600)
        assert "Traceback" not in err, err
        answers.append((process.returncode, out, err))
    return answers


def torchrun(count: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", str(count), "--master-port", str(free_port()))
    command = [sys.executable, *launcher, *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def alone(few_file: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """The training of one process, and its loss in every step."""
    out = tmp_path_factory.mktemp("alone") / "run"
    ran = subprocess.run([sys.executable, "-c", LEARN, few_file, out], capture_output=True, text=True, timeout=600, check=True)
    return out, json.loads(ran.stdout)


def without_times(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key not in ("seconds", "images_per_second")} for row in rows]


def test_three_processes_learn_what_one_learns(alone: tuple[Path, list[float]], few_file: Path, tmp_path: Path) -> None:
    whole, losses = alone
    out = tmp_path / "run"
    answers = ended(launched(["-c", LEARN, few_file, out], 3))
    assert [code for code, _, _ in answers] == [0, 0, 0]
    assert [out for _, out, _ in answers][1:] == ["", ""]
    # Many steps, in which any real difference would grow.
    assert json.loads(answers[0][1]) == pytest.approx(losses, abs=1e-9)
    assert len({weights for _, _, weights in answers}) == 1
    ours, theirs = torchnin.Run(out), torchnin.Run(whole)
    for row, expected in zip(without_times(ours.metrics), without_times(theirs.metrics), strict=True):
        assert row == {key: pytest.approx(value, abs=1e-6) if isinstance(value, float) else value for key, value in expected.items()}
    assert {entry.name for entry in out.iterdir()} == {entry.name for entry in whole.iterdir()}
    assert ours.config["device"]["processes"] == 3
    for key, value in load_file(out / "classifier" / "model.safetensors").items():
        torch.testing.assert_close(value, load_file(whole / "classifier" / "model.safetensors")[key], rtol=1e-6, atol=1e-6)


def test_class_maps_are_levelled_alike(few_file: Path, tmp_path: Path) -> None:
    alone = subprocess.run(
        [sys.executable, "-c", LEVEL, few_file, tmp_path / "alone"], capture_output=True, text=True, timeout=600, check=True
    )
    answers = ended(launched(["-c", LEVEL, few_file, tmp_path / "run"], 2))
    assert [code for code, _, _ in answers] == [0, 0]
    assert json.loads(answers[0][1]) == pytest.approx(json.loads(alone.stdout), abs=1e-9)
    assert len({weights for _, _, weights in answers}) == 1


def test_a_killed_process_ends_all_with_a_sentence_and_another_number_goes_on(few_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    processes = launched(["-c", COMMAND, 1, signal.SIGKILL.value, 13, 0, "train", few_file, "--out", out, *FEW], 3)
    killed = processes[1]
    killed.wait(timeout=600)
    answers = ended(processes)
    assert [code for code, _, _ in answers] == [1, -9, 1]
    for number in (0, 2):
        assert f"nin: process {number + 1} of 3 on" in answers[number][2]
        assert "has lost the others: one of them ended or was killed" in answers[number][2]
        assert "go on from the last checkpoint with --resume" in answers[number][2]
    assert torchnin.Run(out).resumable
    assert len(torchnin.Run(out).metrics) == 1
    two = ended(launched(["-m", "torchnin", "train", "--resume", "--out", out, "--json"], 2))
    assert [code for code, _, _ in two] == [0, 0], two
    assert json.loads(two[0][1])["epochs"] == 2
    assert (two[1][1], two[1][2]) == ("", "")  # one display
    assert "processes 3, now 2: the same training up to rounding, not to the bit" in two[0][2]
    assert [row["epoch"] for row in torchnin.Run(out).metrics] == [1, 2]


def test_a_seed_that_diverges_in_its_last_step_ends_in_all_processes(few_file: Path, tmp_path: Path) -> None:
    burst = ("--num-epochs", "1", "--batch-size", "320", "--optimizer", "sgd", "--lr", "1e14", "--warmup", "0", "--dtype", "float32")
    command = ("-m", "torchnin", "train", few_file, "--seeds", "2", "--out", tmp_path / "study", "--json", *burst)
    answers = ended(launched(command, 2))
    assert [code for code, _, _ in answers] == [0, 0], answers
    assert ["diverged in its last steps" in row["failure"] for row in json.loads(answers[0][1])["seeds"]] == [True, True]


def test_told_to_stop_torchrun_leaves_a_checkpoint_that_one_process_goes_on_with(few_file: Path, tmp_path: Path, nin: Any) -> None:
    out = tmp_path / "run"
    script = tmp_path / "command.py"
    script.write_text(COMMAND)
    # The first process asks torchrun, its parent, to stop, as a scheduler would.
    stopped = torchrun(2, script, 0, signal.SIGTERM.value, 4, 1, "train", few_file, "--out", out, *FEW)
    assert stopped.returncode != 0
    assert stopped.stderr.count("everything is saved, go on with: torchrun ... -m torchnin train --resume --out") == 1, stopped.stderr
    at = int(max(path.stem for path in (out / "checkpoint").glob("*.json")).removeprefix("step-"))
    assert 4 <= at < 18
    answer = nin("train", "--resume", "--out", out)
    assert answer.code == 0, answer.err
    assert f"resuming {out} at step {at}" in answer.err
    assert len(torchnin.Run(out).metrics) == 2


def test_one_that_is_told_to_stop_stops_all(few_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    answers = ended(launched(["-c", COMMAND, 1, signal.SIGTERM.value, 3, 0, "train", few_file, "--out", out, *FEW], 2))
    assert [code for code, _, _ in answers] == [143, 143]
    assert [err.count("stopped at step 3 of 18") for _, _, err in answers] == [1, 0]
    assert torchnin.Run(out).resumable


def test_what_is_wrong_is_said_once(few_file: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for arguments, said in (
        (("train", few_file, "--out", tmp_path / "file"), "is a file; a run needs a folder"),
        (("train", few_file, "--no-such-option"), "Unrecognized options: --no-such-option"),
        (("train", few_file, "--device", "cuda:0"), "train on cpu, or on cuda, where each takes the GPU of its number"),
        (("train", few_file, "--compile", "--out", tmp_path / "run"), "compile is for one process"),
    ):
        answers = ended(launched(["-m", "torchnin", *arguments], 2))
        assert answers[0][0] == 2
        assert answers[1][0] in (1, 2)
        assert [err.count(said) for _, _, err in answers] == [1, 0], answers


def test_the_exit_code_is_the_errors_whatever_goes_wrong_at_the_end(few_file: Path) -> None:
    code = "import atexit, os, sys; atexit.register(os.abort); from torchnin.commands.main import main; main(sys.argv[1:])"
    answers = ended(launched(["-c", code, "train", few_file, "--device", "cuda:0"], 2))
    assert [code for code, _, _ in answers] == [2, 1], answers


def test_a_seed_after_the_other(few_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "study"
    short = ("--num-epochs", "1", "--batch-size", "80")
    answers = ended(launched(["-m", "torchnin", "train", few_file, "--seeds", 2, "--out", out, *short, "--json"], 2))
    assert [code for code, _, _ in answers] == [0, 0], answers
    assert json.loads(answers[0][1])["num_done"] == 2
    assert answers[1][1] == ""
    assert sorted(entry.name for entry in out.iterdir()) == ["seed-0", "seed-1", "summary.json"]


def test_processes_may_join_again_and_again(tmp_path: Path) -> None:
    script = tmp_path / "again.py"
    script.write_text(
        "from torchnin.training.processes import joined\n"
        "for _ in range(6):\n"
        "    with joined('cpu') as processes:\n"
        "        assert processes.highest(processes.rank) == 1\n"
        "        processes.wait()\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    subprocess.run(command, check=True, timeout=300, capture_output=True)
