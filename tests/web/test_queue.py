"""What happens when more arrives than can be looked at: batches, 503, 504, and a stop that loses nothing."""

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import torchnin
from torchnin import Run
from torchnin.web import Limits, ServiceSettings

Serve = Callable[..., AbstractContextManager[httpx.Client]]
WaitUntil = Callable[..., None]
PICTURE = (Path(__file__).parents[2] / "docs" / "pictures" / "ankle-boot.png").read_bytes()


class Halting:
    """A classifier whose network waits at a gate before it looks."""

    def __init__(self, run: Run) -> None:
        self.classifier = torchnin.load(run.path)
        self.gate = threading.Event()
        self.reached = threading.Event()

    @contextmanager
    def served(self, service: Serve, **limits: Any) -> Iterator[httpx.Client]:
        """The service, which from now on halts."""
        with service(self.classifier, ServiceSettings(limits=Limits(**limits))) as client:
            self.look_first(self._halt)
            yield client

    def look_first(self, at: Callable[[Sequence[np.ndarray]], None]) -> None:
        """From now on `at` sees the pictures of a batch before the network does."""
        probabilities = self.classifier._probabilities

        def after(decoded: Sequence[np.ndarray]) -> np.ndarray:
            at(decoded)
            return probabilities(decoded)

        self.classifier._probabilities = after  # type: ignore[method-assign]

    def _halt(self, _: Sequence[np.ndarray]) -> None:
        self.reached.set()
        assert self.gate.wait(30)


def ask(client: httpx.Client, path: str = "/v1/predict") -> httpx.Response:
    return client.post(path, content=PICTURE, headers={"Content-Type": "image/png"})


def number(client: httpx.Client, name: str) -> float:
    return next(float(line.split()[-1]) for line in client.get("/metrics").text.splitlines() if line.startswith(name + " "))


@contextmanager
def asking(client: httpx.Client, halting: Halting, count: int, wait_until: WaitUntil) -> Iterator[list[Future[httpx.Response]]]:
    """One request that the network is at, and `count` more that wait behind it."""
    with ThreadPoolExecutor(count + 1) as pool:
        requests = [pool.submit(ask, client)]
        assert halting.reached.wait(30)
        requests += [pool.submit(ask, client) for _ in range(count)]
        wait_until(lambda: number(client, "nin_waiting_pictures") >= len(requests))
        try:
            yield requests
        finally:
            halting.gate.set()


def test_what_arrives_meanwhile_goes_through_the_network_together(trained: Run, service: Serve, wait_until: WaitUntil) -> None:
    halting = Halting(trained)
    expected = trained.classifier.predict(PICTURE)
    with halting.served(service) as client:
        with asking(client, halting, 5, wait_until) as requests:
            assert client.get("/healthz").status_code == 200  # answered while the network is busy
            halting.gate.set()
            answers = [request.result() for request in requests]
        for answer in answers:
            assert answer.status_code == 200
            assert answer.json()["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        assert (number(client, "nin_batch_pictures_count"), number(client, "nin_batch_pictures_sum")) == (2, 6)
        assert number(client, 'nin_requests_total{path="/v1/predict",status="200"}') == 6


def test_a_full_queue_says_when_to_come_again(trained: Run, service: Serve, wait_until: WaitUntil) -> None:
    halting = Halting(trained)
    with halting.served(service, max_waiting=4, max_pictures=2) as client:
        with asking(client, halting, 3, wait_until) as requests:
            for path in ("/v1/predict", "/v1/explain"):
                refused = ask(client, path)
                assert (refused.status_code, refused.headers["Retry-After"]) == (503, "1")
                assert refused.json() == {"error": "4 pictures are waiting, which is as many as may; try again in a second"}
            halting.gate.set()
            assert [request.result().status_code for request in requests] == [200] * 4
        assert ask(client).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(trained: Run, service: Serve, wait_until: WaitUntil) -> None:
    halting = Halting(trained)
    with halting.served(service, answer_seconds=0.5) as client:
        with asking(client, halting, 1, wait_until) as requests:
            answers = [request.result() for request in requests]
        assert [answer.status_code for answer in answers] == [504, 504]
        assert answers[0].json() == {"error": "no answer within 0.5 seconds"}
        wait_until(lambda: ask(client).status_code == 200)  # the network may still be at the one that was given up
        # The one that nobody waited for any more was not looked at.
        assert number(client, "nin_batch_pictures_sum") == 2


def test_a_stop_answers_what_was_accepted(trained: Run, service: Serve, wait_until: WaitUntil) -> None:
    halting = Halting(trained)
    with ThreadPoolExecutor(4) as pool:
        with halting.served(service) as client:
            address = client.base_url.join("/v1/predict")
            options = {"content": PICTURE, "headers": {"Content-Type": "image/png"}, "timeout": 30, "trust_env": False}
            requests = [pool.submit(httpx.post, address, **options) for _ in range(4)]
            wait_until(lambda: number(client, "nin_waiting_pictures") >= 4)
            threading.Timer(0.5, halting.gate.set).start()  # after the server was told to stop
        assert [request.result().status_code for request in requests] == [200] * 4


def test_one_picture_that_breaks_the_network_takes_no_other_with_it(
    trained: Run, service: Serve, caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    halting = Halting(trained)

    def fail_on_black(decoded: Sequence[np.ndarray]) -> None:
        if not all(pixels.any() for pixels in decoded):
            raise RuntimeError("no")

    black = b"P5 28 28 255\n" + bytes(28 * 28)
    with halting.served(service) as client, asking(client, halting, 2, wait_until) as requests, ThreadPoolExecutor(1) as pool:
        halting.look_first(fail_on_black)
        broken = pool.submit(client.post, "/v1/predict", content=black, headers={"Content-Type": "image/x-portable-graymap"})
        wait_until(lambda: number(client, "nin_waiting_pictures") >= 4)
        halting.gate.set()
        assert [request.result().status_code for request in requests] == [200] * 3
        answer = broken.result()
    assert (answer.status_code, answer.json()) == (
        500,
        {"error": "the service failed at this picture (RuntimeError); its log says where"},
    )
    assert "could not be looked at" in caplog.text
