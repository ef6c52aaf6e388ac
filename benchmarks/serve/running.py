"""`nin serve` as a process of its own, and a client that keeps its connection: what the measurements here share."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from conditions import machine  # noqa: E402

RESULTS = HERE / "results"


class Running:
    """A service that answers."""

    def __init__(self, process: subprocess.Popen[bytes], address: str) -> None:
        self.process = process
        self.address = address
        self.port = int(address.rstrip("/").rpartition(":")[2])

    def processes(self) -> list[int]:
        """The service's process, and those that look for it."""
        children = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        return [self.process.pid, *(int(number) for file in children for number in file.read_text(encoding="utf-8").split())]

    def memory(self) -> float:
        """Memory of all its processes in MiB; what they share counts once."""
        rollups = [Path(f"/proc/{number}/smaps_rollup").read_text(encoding="utf-8") for number in self.processes()]
        return sum(int(re.search(r"Pss:\s+(\d+) kB", rollup)[1]) for rollup in rollups) / 1024  # type: ignore[index]

    def cpu_seconds(self) -> float:
        """Processor time that all its processes used so far."""
        stats = [Path(f"/proc/{number}/stat").read_text(encoding="utf-8") for number in self.processes()]
        return sum(int(ticks) for stat in stats for ticks in stat.rpartition(")")[2].split()[11:13]) / os.sysconf("SC_CLK_TCK")

    def metrics(self) -> dict[str, float]:
        """What `GET /metrics` says, by the name of the line."""
        with urllib.request.urlopen(f"{self.address}metrics") as answer:
            lines = [line for line in answer.read().decode().splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


@contextmanager
def running(classifier: str) -> Iterator[Running]:
    """Start `nin serve` on a free port, and stop it by SIGTERM at the end.

    Raises:
        RuntimeError: it did not start, or did not stop with exit code 0.
    """
    command = [sys.executable, "-m", "torchnin", "serve", classifier, "--port", "0"]
    # Into a file: what decoders say of broken pictures would fill a pipe that nobody reads.
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stderr=log)

        def said() -> str:
            return os.pread(log.fileno(), 10_000, 0).decode()

        while (found := re.search(r"http://\S+/", said())) is None:
            if process.poll() is not None:
                raise RuntimeError(f"the service did not start: {said()}")
            time.sleep(0.1)
        try:
            yield Running(process, found[0])
        finally:
            process.terminate()
            if process.wait(60) != 0:
                raise RuntimeError(f"the service ended with exit code {process.returncode}: {said()}")


class Connection:
    """One connection that is kept; asks and waits for the answer."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, port: int) -> "Connection":
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def post(self, body: bytes, declared: str = "image/png", path: str = "/v1/predict") -> tuple[int, Any]:
        """Status and document of the answer.

        Raises:
            asyncio.IncompleteReadError: the connection ended without one.
        """
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {declared}\r\nContent-Length: {len(body)}\r\n\r\n"
        self._writer.write(head.encode() + body)
        told = (await self._reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"\r\ncontent-length: (\d+)", told)
        assert length is not None
        return int(told[9:12]), json.loads(await self._reader.readexactly(int(length[1])))

    def close(self) -> None:
        """Close."""
        self._writer.close()


def record(name: str, document: dict[str, Any]) -> None:
    """Write `results/NAME.json`, with the machine and the versions."""
    RESULTS.mkdir(exist_ok=True)
    document = {**document, "machine": machine("starlette", "uvicorn", "uvloop", "httptools", "pillow")}
    (RESULTS / f"{name}.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
