"""Requests that arrive together go through the network together: a bounded queue, a thread a core that looks, a few that decode.

Nothing waits for company: a thread takes whatever has arrived while all were busy with the pictures before. Under load that
makes large batches by itself, and a lone request is answered at once. Threads that have nothing to do share what arrives, so
that all cores have work; each computes its own batch alone, because threads that must wait for each other at every layer of a
small network lose more than they win. Only where a picture is much work by itself do they compute it together.

Small pictures are decoded by the threads that look. Large ones are decoded and resized beside them, so that they keep nobody
waiting. The event loop only hands over bytes and gets finished JSON back, both as many at once as there are.
"""

import asyncio
import dataclasses
import json
import logging
import math
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from PIL.Image import Image
from torch import Tensor

from torchnin.classifier import Classifier
from torchnin.data import DataError
from torchnin.data.errors import TooManyPixelsError
from torchnin.data.pictures import open_quietly, quiet_pillow
from torchnin.models import summarize
from torchnin.prediction import Prediction
from torchnin.web.answers import Outcome
from torchnin.web.limits import Limits, RefusedError, busy

# Pictures that go through the network at once; more would only keep the first of them waiting.
_MOST_AT_ONCE = 64
# Threads that look, at most: beyond them Python's own lock is what they wait for.
_MOST_LOOKERS = 4
# Multiply-adds of a picture from which on idle cores help with it: some ten milliseconds of one core.
_MUCH_WORK = 200_000_000
# Pixels up to which a picture is decoded by a thread that looks.
_SMALL = 256 * 256
# Pixels above which pictures are decoded one at a time: one of 25 million takes half a gigabyte until it is resized.
_HUGE = 2048 * 2048
# Seconds between looks for requests whose time is over.
_TICK = 0.1


@dataclasses.dataclass(slots=True, eq=False)
class _Job:
    """A picture on its way, or other work for a thread that looks."""

    answered: Callable[[Outcome], None]  # called in the event loop
    body: bytes
    work: Callable[[Tensor], bytes] | None = None  # of the decoded picture; None: predict
    pixels: Tensor | None = None  # once it is decoded
    done: bool = False  # answered, or given up


class BatchingQueue:
    """Takes pictures from an event loop, and gives answers back to it.

    Args:
        classifier: what answers.
        limits: how many pictures may wait, how large they may be and how long they may take.
        on_batch: told of every forward pass how many pictures it had; called by any of the threads.
    """

    def __init__(self, classifier: Classifier, limits: Limits, on_batch: Callable[[int], None] = lambda size: None) -> None:
        self._classifier = classifier
        self._limits = limits
        self._on_batch = on_batch
        self._write = _Writer(classifier.class_names)
        # Every job that is not answered, with the time at which it is given up; in the order of arrival. Only the event loop
        # touches it, as it does what it has not handed over yet.
        self._open: dict[_Job, float] = {}
        self._fresh: list[_Job] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        # What waits for a thread that looks, and how many of those wait for it.
        self._arrived: deque[_Job] = deque()
        self._change = threading.Condition(threading.Lock())
        self._idle = 0
        self._ended = False
        self._cores = torch.get_num_threads()
        p = classifier.preprocessing
        self._much_work = summarize(classifier.network, (1, p.channels, p.height, p.width)).num_macs >= _MUCH_WORK
        on_host = classifier.choice.device.type == "cpu"
        count = min(_MOST_LOOKERS, self._cores) if on_host else 1
        self._lookers = [threading.Thread(target=self._look, name=f"look-{number}", daemon=True) for number in range(count)]
        self._decoders = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="decode")
        self._huge_decoder = ThreadPoolExecutor(1, thread_name_prefix="decode-huge")
        self._clock: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Pictures that are accepted and not yet answered."""
        return len(self._open)

    @property
    def alive(self) -> bool:
        """Whether all threads that look are running."""
        return all(thread.is_alive() for thread in self._lookers)

    def start(self) -> None:
        """Begin to answer; called inside the event loop that will ask."""
        self._loop = asyncio.get_running_loop()
        self._clock = self._loop.create_task(self._give_up_late_ones())
        for thread in self._lookers:
            thread.start()

    async def stop(self) -> None:
        """Answer what was accepted, then end the threads."""
        while self._open:
            await asyncio.sleep(0.01)
        with self._change:
            self._ended = True
            self._change.notify_all()
        if self._clock is not None:
            self._clock.cancel()
        for pool in (self._decoders, self._huge_decoder):
            pool.shutdown(wait=False, cancel_futures=True)
        for thread in self._lookers:
            await asyncio.to_thread(thread.join, _TICK * 20)

    def predict(self, pictures: Sequence[bytes]) -> "list[asyncio.Future[Outcome]]":
        """Predictions for the files of one request; each future ends in a JSON object or in a refusal, never in an exception.

        Raises:
            RefusedError: 503, there is no room for all of them.
        """
        self._require_room(len(pictures))
        return [self._promise(picture) for picture in pictures]

    def predict_one(self, picture: bytes, answered: Callable[[Outcome], None]) -> None:
        """A prediction for one file; `answered` is called in the event loop, later, with a JSON object or a refusal.

        Raises:
            RefusedError: 503, there is no room.
        """
        self._require_room(1)
        self._submit(_Job(answered, picture))

    def run(self, picture: bytes, work: Callable[[Tensor], bytes]) -> "asyncio.Future[Outcome]":
        """Other work with the network, between two batches: `work` gets what `Classifier.decode` gives.

        Raises:
            RefusedError: 503, there is no room.
        """
        self._require_room(1)
        return self._promise(picture, work)

    def _require_room(self, count: int) -> None:
        if len(self._open) + count > self._limits.max_waiting:
            raise busy(f"{len(self._open)} pictures are waiting, which is as many as may")

    def _promise(self, picture: bytes, work: Callable[[Tensor], bytes] | None = None) -> "asyncio.Future[Outcome]":
        assert self._loop is not None, "the queue was not started"
        future: asyncio.Future[Outcome] = self._loop.create_future()

        def answered(outcome: Outcome) -> None:
            if not future.done():  # whoever asked may have gone
                future.set_result(outcome)

        self._submit(_Job(answered, picture, work))
        return future

    def _submit(self, job: _Job) -> None:
        assert self._loop is not None, "the queue was not started"
        self._open[job] = self._loop.time() + self._limits.answer_seconds
        if not self._fresh:  # what arrives in one turn of the event loop is handed over together
            self._loop.call_soon(self._hand_over)
        self._fresh.append(job)

    def _hand_over(self) -> None:
        self._put(self._fresh)
        self._fresh = []

    def _put(self, jobs: list[_Job]) -> None:
        with self._change:
            self._arrived.extend(jobs)
            self._change.notify(len(jobs))

    async def _give_up_late_ones(self) -> None:
        assert self._loop is not None
        while True:
            await asyncio.sleep(_TICK)
            now = self._loop.time()
            for job, end in list(self._open.items()):
                if end > now:
                    break  # they are in the order of arrival, and all have the same time
                self._deliver([(job, RefusedError(504, f"no answer within {self._limits.answer_seconds:g} seconds"))])

    def _deliver(self, answers: list[tuple[_Job, Outcome]]) -> None:
        for job, outcome in answers:
            if self._open.pop(job, None) is not None:
                job.done = True
                job.answered(outcome)

    def _answer(self, answers: list[tuple[_Job, Outcome]]) -> None:
        assert self._loop is not None
        if answers and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, answers)

    # From here on: in the threads that look.

    def _look(self) -> None:
        with quiet_pillow():
            while jobs := self._take():
                self._handle([job for job in jobs if not job.done])

    def _take(self) -> list[_Job]:
        """Wait for pictures: all that are there, or this thread's share of them where others have nothing to do; none at the end."""
        with self._change:
            self._idle += 1
            while not self._arrived and not self._ended:
                self._change.wait()
            self._idle -= 1
            count = min(_MOST_AT_ONCE, -(-len(self._arrived) // (1 + self._idle)))
            return [self._arrived.popleft() for _ in range(count)]

    def _take_cores(self) -> None:
        """As many threads for the next computation as are not needed for others."""
        count = max(1, self._cores // (len(self._lookers) - self._idle)) if self._much_work else 1
        if count != torch.get_num_threads():
            torch.set_num_threads(count)  # of this thread's computations alone

    def _handle(self, jobs: list[_Job]) -> None:
        refused: list[tuple[_Job, Outcome]] = []
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
                    refused.append((job, _refusal(error)))
                    continue
            ready.append(job)
        self._answer(refused)
        self._take_cores()
        predict = [job for job in ready if job.work is None]
        if predict:
            self._answer(self._predict(predict))
        for job in ready:
            if job.work is not None:
                self._answer([(job, self._work(job))])

    def _decode_beside(self, job: _Job, picture: Image) -> None:
        if job.done:
            return
        try:
            job.pixels = self._classifier.decode(picture)
        except Exception as error:
            self._answer([(job, _refusal(error))])
        else:
            self._put([job])

    def _predict(self, jobs: list[_Job]) -> list[tuple[_Job, Outcome]]:
        try:
            found = self._classifier.predict_decoded([job.pixels for job in jobs if job.pixels is not None])
            answers: list[tuple[_Job, Outcome]] = [(job, self._write(prediction)) for job, prediction in zip(jobs, found, strict=True)]
        except Exception as error:
            if len(jobs) == 1:
                return [(jobs[0], _failure(error))]
            return [answer for job in jobs for answer in self._predict([job])]  # one that fails must not take others with it
        self._on_batch(len(jobs))
        return answers

    def _work(self, job: _Job) -> Outcome:
        assert job.work is not None
        assert job.pixels is not None
        try:
            return job.work(job.pixels)
        except RefusedError as refusal:
            return refusal
        except Exception as error:
            return _failure(error)


class _Writer:
    """Writes predictions as `nin predict --json` does, without `path`: the same bytes as `json.dumps`, with the names written once."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = {name: json.dumps(name, ensure_ascii=False) for name in class_names}

    def __call__(self, prediction: Prediction) -> bytes:
        if not math.isfinite(prediction.probability):  # then all are none
            raise ValueError(f"the network gives {prediction.probability} as a probability; its weights are broken")
        names = self._names
        probabilities = ", ".join([f"{names[name]}: {value!r}" for name, value in prediction.probabilities.items()])
        return (
            f'{{"label": {names[prediction.label]}, "probability": {prediction.probability!r}, "probabilities": {{{probabilities}}}}}'
        ).encode()


def _refusal(error: Exception) -> RefusedError:
    if not isinstance(error, DataError):
        return _failure(error)
    reason = str(error).removeprefix("picture: ")
    return RefusedError(413 if isinstance(error, TooManyPixelsError) else 422, reason)


def _failure(error: Exception) -> RefusedError:
    logging.getLogger("torchnin.web").error("a picture could not be looked at", exc_info=error)
    return RefusedError(500, f"the service failed at this picture ({type(error).__name__}); its log says where")
