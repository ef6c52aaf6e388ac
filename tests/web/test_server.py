"""How the service ends; what is in flight then is in tests/commands/test_serve.py."""

import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from time import monotonic, sleep

import httpx
import pytest

from torchnin import Run
from torchnin.web import server


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
