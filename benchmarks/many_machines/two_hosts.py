"""A training over two hosts, each with a network of its own: two network namespaces with a cable between them.

    sudo python benchmarks/many_machines/two_hosts.py

Needs root and iproute2. Trains `nin_small` on the sample inside the package three times: in one process; on two hosts under
torchrun, a process on each; and on two hosts again, where the second one's process is killed in the middle and one process goes on
with what was saved. Writes `results/two_hosts.json`: the losses, the exit codes, the seconds from the kill to the end of all, and
what was said. The namespaces are taken down again.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torchnin

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from conditions import machine  # noqa: E402

RESULTS = HERE / "results"
HOSTS = {"torchnin-one": "10.77.0.1", "torchnin-two": "10.77.0.2"}
TRAIN = (
    "fashion-mnist-sample",
    "--recipe",
    "steady",
    "--num-epochs",
    "2",
    "--batch-size",
    "256",
    "--lr",
    "0.005",
    "--seed",
    "1",
    "--dtype",
    "float32",
)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


@contextlib.contextmanager
def two_hosts() -> Iterator[None]:
    """Two network namespaces, each with a loopback and one end of a cable."""
    one, two = HOSTS
    try:
        for host in HOSTS:
            ip("netns", "add", host)
        ip("link", "add", "cable-one", "netns", one, "type", "veth", "peer", "name", "cable-two", "netns", two)
        for (host, address), end in zip(HOSTS.items(), ("cable-one", "cable-two"), strict=True):
            ip("-n", host, "address", "add", f"{address}/24", "dev", end)
            ip("-n", host, "link", "set", end, "up")
            ip("-n", host, "link", "set", "lo", "up")
        yield
    finally:
        for host in HOSTS:
            subprocess.run(["ip", "netns", "delete", host], check=False)


def begin(host: str, number: int, out: str, log: Path) -> subprocess.Popen[bytes]:
    """One host's torchrun: the command of docs/many-machines.md, and the interface that gloo is to use."""
    launcher = ("--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(number), "--master-addr", HOSTS["torchnin-one"])
    command = [sys.executable, "-m", "torch.distributed.run", *launcher, "--master-port", "29400"]
    environment = {**os.environ, "GLOO_SOCKET_IFNAME": ("cable-one", "cable-two")[number]}
    return subprocess.Popen(
        ["ip", "netns", "exec", host, *command, "-m", "torchnin", "train", *TRAIN, "--out", out],
        stdout=subprocess.DEVNULL,
        stderr=log.open("wb"),
        env=environment,
    )


def losses(run: Path) -> list[float]:
    return [row["train_loss"] for row in torchnin.Run(run).metrics]


def child_of(process: subprocess.Popen[bytes]) -> int:
    """The training process that a torchrun started."""
    while True:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        if children:
            return int(children[0])
        time.sleep(0.2)


def measure(folder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "torchnin", "train", *TRAIN, "--out", str(folder / "alone")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with two_hosts():
        # The second host has no place for a run folder: only the first process writes.
        outs = [str(folder / "both"), "/proc/no-such-place"]
        hosts = [begin(host, number, outs[number], folder / f"both-{number}") for number, host in enumerate(HOSTS)]
        codes = [host.wait(timeout=1200) for host in hosts]
        print(f"two hosts ended with {codes}", flush=True)
        outs[0] = str(folder / "killed")
        hosts = [begin(host, number, outs[number], folder / f"killed-{number}") for number, host in enumerate(HOSTS)]
        victim = child_of(hosts[1])
        while len(losses(folder / "killed")) < 1:
            time.sleep(0.5)
        os.kill(victim, signal.SIGKILL)
        since = time.monotonic()
        killed = [host.wait(timeout=1200) for host in hosts]
        seconds = time.monotonic() - since
    command = [sys.executable, "-m", "torchnin", "train", "--resume", "--out", str(folder / "killed")]
    resumed = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
    said = [line for line in (folder / "killed-0").read_text().splitlines() if line.startswith("nin: ")]
    alone, both, gone_on = (losses(folder / name) for name in ("alone", "both", "killed"))
    return {
        "alone": alone,
        "two_hosts": {"exit_codes": codes, "train_loss": both, "apart": max(abs(a - b) for a, b in zip(alone, both, strict=True))},
        "killed": {"exit_codes": killed, "seconds_to_the_end_of_all": round(seconds, 1), "said": said},
        "resumed_by_one_process": {
            "exit_code": resumed,
            "train_loss": gone_on,
            "apart": max(abs(a - b) for a, b in zip(alone, gone_on, strict=True)),
        },
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    if shutil.which("ip") is None or os.geteuid() != 0:
        sys.exit("two_hosts: needs root and the command ip (iproute2)")
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder))
    document = {
        "command": ["nin", "train", *TRAIN],
        **found,
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
    }
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "two_hosts.json").write_text(json.dumps(document, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
