"""A running service to ask."""

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import httpx
import numpy as np
import pytest
from PIL import Image

from torchnin import Classifier, DatasetSplits, Run
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


@pytest.fixture(scope="module")
def client(trained: Run, service: Callable[..., AbstractContextManager[httpx.Client]]) -> Iterator[httpx.Client]:
    """Asks the service for the trained classifier, as it is by default."""
    with service(trained.classifier) as client:
        yield client


def _png(pixels: np.ndarray) -> bytes:
    kept = io.BytesIO()
    Image.fromarray(pixels).save(kept, "PNG")
    return kept.getvalue()


@pytest.fixture(scope="module")
def files(few: DatasetSplits) -> list[bytes]:
    """Pictures as files of PNG."""
    return [_png(picture[0]) for picture in few.test.images[:40]]
