"""How the service begins and ends; what is in flight then is in tests/commands/test_serve.py."""

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic, sleep

import httpx
import pytest

from torchnin import Run
from torchnin.web import Limits, create_app, listen, make_server, server
from torchnin.web.queue import BatchingQueue
from torchnin.web.server import StartError


def test_a_client_that_takes_no_answer_does_not_hold_up_the_end(
    trained: Run, service: Callable[..., AbstractContextManager[httpx.Client]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "_UNREAD_SECONDS", 1.0)
    with socket.socket() as deaf:
        with service(trained.classifier) as client:
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            deaf.connect(("127.0.0.1", client.base_url.port))
            deaf.sendall(b"GET /words.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 500)  # megabytes of answers, more than the system keeps
            sleep(2)
            begin = monotonic()
        assert monotonic() - begin < 25  # of the 50 seconds that what is in flight has


def test_a_service_that_cannot_begin_says_why_once(
    trained: Run, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def start(self: BatchingQueue) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(BatchingQueue, "start", start)
    told: list[str] = []
    stopping = make_server(create_app(trained.classifier), Limits(), told.append)
    with listen("127.0.0.1", 0) as listener, pytest.raises(StartError, match="the service could not begin: ") as raised:
        stopping.run([listener])
    assert "No space left" in str(raised.value)
    assert isinstance(raised.value.__cause__, OSError)  # where it came from
    assert (told, capfd.readouterr().err) == ([], "")
