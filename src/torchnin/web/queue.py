"""Requests that arrive together go through the network together: a bounded queue, one thread that looks, a few that decode.

Nothing waits for company: the thread takes whatever has arrived while it was busy with the pictures before. Under load that
makes large batches by itself, and a lone request is answered at once.

Small pictures are decoded by the thread that looks. Large ones are decoded and resized beside it, so that they keep nobody
waiting. The event loop only hands over bytes and gets finished JSON back, once a batch.
"""

import asyncio
import dataclasses
import json
import logging
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, SimpleQueue
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from torchnin.classifier import Classifier
from torchnin.data import DataError
from torchnin.data.errors import TooManyPixelsError
from torchnin.data.pictures import open_quietly, quiet_pillow
from torchnin.prediction import Prediction
from torchnin.web.limits import Limits, RefusedError, busy

# Pictures that go through the network at once; more would only keep the first of them waiting.
_MOST_AT_ONCE = 64
# Pixels up to which a picture is decoded by the thread that looks.
_SMALL = 256 * 256
# Pixels above which pictures are decoded one at a time: one of 25 million takes half a gigabyte until it is resized.
_HUGE = 2048 * 2048
# Seconds between looks for requests whose time is over.
_TICK = 0.1

Outcome = bytes | RefusedError
"""What becomes of a picture: one JSON object as bytes, or why there is none."""


@dataclasses.dataclass(slots=True, eq=False)
class _Job:
    """A picture on its way, or other work for the thread that looks."""

    future: "asyncio.Future[Outcome]"
    body: bytes
    work: Callable[[Tensor], bytes] | None = None  # of the decoded picture; None: predict
    pixels: Tensor | None = None  # once it is decoded


class BatchingQueue:
    """Takes pictures from an event loop, and gives answers back to it.

    Args:
        classifier: what answers; only this queue's thread computes with its network.
        limits: how many pictures may wait, how large they may be and how long they may take.
        on_batch: told of every forward pass how many pictures it had.
    """

    def __init__(self, classifier: Classifier, limits: Limits, on_batch: Callable[[int], None] = lambda size: None) -> None:
        self._classifier = classifier
        self._limits = limits
        self._on_batch = on_batch
        self._arrived: SimpleQueue[_Job | None] = SimpleQueue()
        # Every job that is not answered, by its future, with the time at which it is given up; in the order of arrival. Only the
        # event loop touches it.
        self._open: dict[asyncio.Future[Outcome], float] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=self._look, name="look", daemon=True)
        self._decoders = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="decode")
        self._huge_decoder = ThreadPoolExecutor(1, thread_name_prefix="decode-huge")
        self._clock: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Pictures that are accepted and not yet answered."""
        return len(self._open)

    @property
    def alive(self) -> bool:
        """Whether the thread that looks is running."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to answer; called inside the event loop that will ask."""
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.create_task(self._give_up_late_ones())
        self._thread.start()

    async def stop(self) -> None:
        """Answer what was accepted, then end the threads."""
        while self._open:
            await asyncio.sleep(0.01)
        self._arrived.put(None)
        if self._clock is not None:
            self._clock.cancel()
        for pool in (self._decoders, self._huge_decoder):
            pool.shutdown(wait=False, cancel_futures=True)
        await asyncio.to_thread(self._thread.join, _TICK * 20)

    def predict(self, pictures: Sequence[bytes]) -> "list[asyncio.Future[Outcome]]":
        """Predictions for the files of one request; each future ends in a JSON object or in a refusal, never in an exception.

        Raises:
            RefusedError: 503, there is no room for all of them.
        """
        return [self._submit(_Job(future, body)) for future, body in zip(self._room(len(pictures)), pictures, strict=True)]

    def run(self, picture: bytes, work: Callable[[Tensor], bytes]) -> "asyncio.Future[Outcome]":
        """Other work with the network, between two batches: `work` gets what `Classifier.decode` gives.

        Raises:
            RefusedError: 503, there is no room.
        """
        return self._submit(_Job(self._room(1)[0], picture, work))

    def _room(self, count: int) -> "list[asyncio.Future[Outcome]]":
        if len(self._open) + count > self._limits.max_waiting:
            raise busy(f"{len(self._open)} pictures are waiting, which is as many as may")
        assert self._loop is not None, "the queue was not started"
        return [self._loop.create_future() for _ in range(count)]

    def _submit(self, job: _Job) -> "asyncio.Future[Outcome]":
        assert self._loop is not None
        self._open[job.future] = self._loop.time() + self._limits.answer_seconds
        self._arrived.put(job)
        return job.future

    async def _give_up_late_ones(self) -> None:
        assert self._loop is not None
        while True:
            await asyncio.sleep(_TICK)
            now = self._loop.time()
            for future, end in list(self._open.items()):
                if end > now:
                    break  # they are in the order of arrival, and all have the same time
                self._deliver([(future, RefusedError(504, f"no answer within {self._limits.answer_seconds:g} seconds"))])

    def _deliver(self, answers: "list[tuple[asyncio.Future[Outcome], Outcome]]") -> None:
        for future, outcome in answers:
            self._open.pop(future, None)
            if not future.done():
                future.set_result(outcome)

    def _answer(self, answers: "list[tuple[asyncio.Future[Outcome], Outcome]]") -> None:
        assert self._loop is not None
        if answers and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, answers)

    # From here on: in the thread that looks.

    def _look(self) -> None:
        # One core is left to the event loop and to what decodes: threads that must wait for each other at every layer of the
        # network lose more than they win where they cannot all run.
        torch.set_num_threads(max(1, torch.get_num_threads() - 1))
        with quiet_pillow():
            while (job := self._arrived.get()) is not None:
                jobs = [job]
                while len(jobs) < _MOST_AT_ONCE:
                    try:
                        following = self._arrived.get_nowait()
                    except Empty:
                        break
                    if following is None:
                        self._arrived.put(None)  # after those that are here
                        break
                    jobs.append(following)
                self._handle([job for job in jobs if not job.future.done()])

    def _handle(self, jobs: list[_Job]) -> None:
        refused: list[tuple[asyncio.Future[Outcome], Outcome]] = []
        ready: list[_Job] = []
        for job in jobs:
            if job.pixels is None:
                try:
                    picture = open_quietly(job.body, max_pixels=self._limits.max_pixels)
                    if (size := picture.width * picture.height) > _SMALL:
                        pool = self._huge_decoder if size > _HUGE else self._decoders
                        pool.submit(self._decode_beside, job, picture)
                        continue
                    job.pixels = self._classifier.decode(picture)
                except Exception as error:
                    refused.append((job.future, _refusal(error)))
                    continue
            ready.append(job)
        self._answer(refused)
        predict = [job for job in ready if job.work is None]
        if predict:
            self._answer(self._predict(predict))
        for job in ready:
            if job.work is not None:
                self._answer([(job.future, self._work(job))])

    def _decode_beside(self, job: _Job, picture: Image) -> None:
        if job.future.done():
            return
        try:
            job.pixels = self._classifier.decode(picture)
        except Exception as error:
            self._answer([(job.future, _refusal(error))])
        else:
            self._arrived.put(job)

    def _predict(self, jobs: list[_Job]) -> "list[tuple[asyncio.Future[Outcome], Outcome]]":
        try:
            found = self._classifier.predict_decoded([job.pixels for job in jobs if job.pixels is not None])
            answers = [(job.future, prediction_json(prediction)) for job, prediction in zip(jobs, found, strict=True)]
        except Exception as error:
            if len(jobs) == 1:
                return [(jobs[0].future, _failure(error))]
            return [answer for job in jobs for answer in self._predict([job])]  # one that fails must not take others with it
        self._on_batch(len(jobs))
        return list(answers)

    def _work(self, job: _Job) -> Outcome:
        assert job.work is not None
        assert job.pixels is not None
        try:
            return job.work(job.pixels)
        except RefusedError as refusal:
            return refusal
        except Exception as error:
            return _failure(error)


def prediction_json(prediction: Prediction) -> bytes:
    """One prediction as `nin predict --json` has it, without `path`."""
    document: dict[str, Any] = {
        "label": prediction.label,
        "probability": prediction.probability,
        "probabilities": prediction.probabilities,
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False).encode()


def _refusal(error: Exception) -> RefusedError:
    if not isinstance(error, DataError):
        return _failure(error)
    reason = str(error).removeprefix("picture: ")
    return RefusedError(413 if isinstance(error, TooManyPixelsError) else 422, reason)


def _failure(error: Exception) -> RefusedError:
    logging.getLogger("torchnin.web").error("a picture could not be looked at", exc_info=error)
    return RefusedError(500, f"the service failed at this picture ({type(error).__name__}); its log says where")
