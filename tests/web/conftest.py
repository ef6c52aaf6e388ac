"""A running service to ask."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import httpx
import pytest

from torchnin import Classifier
from torchnin.web import ServiceSettings, create_app, listen, make_server


@contextmanager
def _service(classifier: Classifier, settings: ServiceSettings | None = None) -> Iterator[httpx.Client]:
    """The service on a free port of this machine; gives a client of it."""
    settings = settings or ServiceSettings()
    started = threading.Event()
    server = make_server(create_app(classifier, settings), settings.limits, lambda address: started.set())
    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            assert started.wait(120)
            with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=600, trust_env=False) as client:
                yield client
        finally:
            server.should_exit = True
            thread.join()


def _wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Until a condition holds; a test that would wait for ever fails instead."""
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, f"not so within {seconds:g} seconds"
        time.sleep(0.01)


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    """Waits until a condition holds, and fails where it does not come to that within `seconds`, 60 by default."""
    return _wait_until


@pytest.fixture(scope="session")
def service() -> Callable[..., AbstractContextManager[httpx.Client]]:
    """Starts the service for a classifier on a free port of this machine; gives a client of it."""
    return _service
