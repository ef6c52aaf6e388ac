import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from torchnin import Run
from torchnin.web.queue import BatchingQueue

PICTURE = (Path(__file__).parents[2] / "docs" / "pictures" / "ankle-boot.png").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_a_stop_finishes_what_is_in_flight_and_ends_with_0(trained: Run, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "torchnin", "serve", str(trained.path), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={**os.environ, "TORCHNIN_TOKEN": "secret"}) as process:
        assert process.stderr is not None
        said = process.stderr.readline()
        found = re.search(r"answers at http://127\.0\.0\.1:(\d+)/", said)
        assert found, said + process.stderr.read()
        where = ("127.0.0.1", int(found[1]))
        with socket.create_connection(where, timeout=600) as connection, socket.create_connection(where, timeout=60) as quiet:
            head = f"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer secret\r\nContent-Length: {len(PICTURE)}\r\n\r\n"
            connection.sendall(head.encode() + PICTURE[:50])
            quiet.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            while b"ok" not in quiet.recv(1000):
                pass  # once this is answered, the request before it has arrived
            fresh, silent = (socket.create_connection(where, timeout=60) for _ in range(2))
            process.send_signal(number)
            assert quiet.recv(1000) == b""  # connections that have asked before and ask nothing now are closed at once
            with fresh, silent:
                fresh.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
                told = b"".join(iter(lambda: fresh.recv(1000), b""))
                assert told.startswith(b"HTTP/1.1 200"), told  # it has only just connected
                assert silent.recv(1000) == b""
            connection.sendall(PICTURE[50:])
            answer = b""
            while piece := connection.recv(10_000):
                answer += piece
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200"), answer
        assert json.loads(body)["label"] == trained.classifier.predict(PICTURE).label
        rest = process.stderr.read()
        assert (process.wait(30), rest) == (0, "stopped\n")


def test_wrong_calls(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for arguments, said in (
            ((tmp_path / "missing",), "there is no such folder"),
            ((trained.path, "--host", "0.0.0.0"), "which others may reach; give --token"),
            ((trained.path, "--host", "nowhere.invalid", "--no-auth"), "'nowhere.invalid', which is no address"),
            ((trained.path, "--token", "secret", "--no-auth"), "give one of them"),
            ((trained.path, "--token", "  "), "the token must be"),
            ((trained.path, "--port", "70000"), "--port is 70000"),
            ((trained.path, "--port", taken.getsockname()[1]), "cannot listen on 127.0.0.1 port"),
            ((trained.path, "--allow-origin", "*"), "'*' is no origin"),
            ((trained.path, "--allow-host", "http://box.local"), "'http://box.local' names no host"),
            ((trained.path, "--allow-host", "*.local"), "'*.local' names no host"),
        ):
            answer = nin("serve", *arguments)
            assert (answer.code, answer.out) == (2, ""), arguments
            assert said in answer.err


def test_a_service_that_cannot_begin_ends_in_one_sentence(nin: Callable[..., Any], trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    async def start(self: BatchingQueue) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BatchingQueue, "start", start)
    answer = nin("serve", trained.path, "--port", "0")
    assert (answer.code, answer.out) == (1, "")
    assert answer.err == "nin: the service could not begin: [Errno 28] No space left on device\n"
