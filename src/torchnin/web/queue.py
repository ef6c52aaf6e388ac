"""Requests that arrive together go through the network together: a bounded queue, a few that look, a few that decode.

Nothing waits for company: whoever looks takes whatever has arrived while all were busy with the pictures before. Under load that
makes large batches by itself, and a lone request is answered at once. Those that have nothing to do share what arrives.

There is a thread for each that looks. Where a picture is little work, it hands its batches to a process of its own, so that all
cores are used; where one is much work by itself, it computes here, and idle cores help. Large pictures are decoded and resized
on threads beside them, so that they keep nobody waiting. The event loop only hands over bytes and gets finished JSON back, both
as many at once as there are.
"""

import asyncio
import dataclasses
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

from torchnin.classifier import Classifier
from torchnin.data.pictures import open_quietly, quiet_pillow
from torchnin.models import summarize
from torchnin.web.answers import Outcome
from torchnin.web.limits import Limits, RefusedError, busy
from torchnin.web.looker import Looker, LookerProcess, Looks, Task, refusal

# Pictures that go through the network at once; more would only keep the first of them waiting.
_MOST_AT_ONCE = 64
# Processes that look, at most: the event loop feeds no more than that.
_MOST_LOOKERS = 4
# Multiply-adds of a picture from which on the cores had better help each other with it: some ten milliseconds of one.
_MUCH_WORK = 200_000_000
# Pixels above which pictures are decoded one at a time: one of 25 million takes half a gigabyte until it is resized.
_HUGE = 2048 * 2048
# Seconds between looks for requests whose time is over.
_TICK = 0.1


@dataclasses.dataclass(slots=True, eq=False)
class _Job:
    """A picture on its way."""

    answered: Callable[[Outcome], None]  # called in the event loop
    task: Task
    done: bool = False  # answered, or given up


class BatchingQueue:
    """Takes pictures from an event loop, and gives answers back to it.

    Args:
        classifier: what answers.
        limits: how many pictures may wait, how large they may be and how long they may take.
        on_batch: told of every batch how many pictures were predicted; called by any of the threads.
        own_processes: whether processes look where that is faster: on the host, with several cores, at pictures that are little work.
    """

    def __init__(
        self,
        classifier: Classifier,
        limits: Limits,
        on_batch: Callable[[int], None] = lambda size: None,
        *,
        own_processes: bool = False,
    ) -> None:
        self._classifier = classifier
        self._limits = limits
        self._on_batch = on_batch
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
        p = classifier.preprocessing
        much_work = summarize(classifier.network, (1, p.channels, p.height, p.width)).num_macs >= _MUCH_WORK
        cores = torch.get_num_threads()
        # One core is left to the event loop and to what decodes, but not where that is little: threads that must wait for each
        # other at every layer of the network lose more than they win where they cannot all run.
        self._cores = cores if much_work else max(1, cores - 1)
        self._lookers: list[Looks] = [Looker(classifier, limits.max_pixels)]
        if own_processes and cores > 1 and not much_work and classifier.choice.device.type == "cpu":
            self._lookers = [LookerProcess(classifier, limits.max_pixels) for _ in range(min(_MOST_LOOKERS, cores))]
        self._threads = [
            threading.Thread(target=self._look, args=(looker,), name=f"look-{number}", daemon=True)
            for number, looker in enumerate(self._lookers)
        ]
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
        return all(thread.is_alive() for thread in self._threads)

    async def start(self) -> None:
        """Begin to answer; called inside the event loop that will ask."""
        self._loop = asyncio.get_running_loop()
        await asyncio.gather(*(asyncio.to_thread(looker.start) for looker in self._lookers))
        self._clock = self._loop.create_task(self._give_up_late_ones())
        for thread in self._threads:
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
        for thread in self._threads:
            await asyncio.to_thread(thread.join, _TICK * 20)
        await asyncio.gather(*(asyncio.to_thread(looker.stop) for looker in self._lookers))

    def ask(self, tasks: Sequence[Task]) -> "list[asyncio.Future[Outcome]]":
        """Answers to the tasks of one request; each future ends in a JSON object or in a refusal, never in an exception.

        Raises:
            RefusedError: 503, there is no room for all of them.
        """
        self._require_room(len(tasks))
        return [self._promise(task) for task in tasks]

    def predict(self, picture: bytes, answered: Callable[[Outcome], None]) -> None:
        """A prediction for one file; `answered` is called in the event loop, later, with a JSON object or a refusal.

        Raises:
            RefusedError: 503, there is no room.
        """
        self._require_room(1)
        self._submit(_Job(answered, Task("predict", picture)))

    def _require_room(self, count: int) -> None:
        if len(self._open) + count > self._limits.max_waiting:
            raise busy(f"{len(self._open)} pictures are waiting, which is as many as may")

    def _promise(self, task: Task) -> "asyncio.Future[Outcome]":
        assert self._loop is not None, "the queue was not started"
        future: asyncio.Future[Outcome] = self._loop.create_future()

        def answered(outcome: Outcome) -> None:
            if not future.done():  # whoever asked may have gone
                future.set_result(outcome)

        self._submit(_Job(answered, task))
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

    # From here on: in the threads beside the event loop.

    def _look(self, looker: Looks) -> None:
        torch.set_num_threads(self._cores)  # of what this thread computes itself
        while jobs := self._take():
            if not (jobs := [job for job in jobs if not job.done]):
                continue
            found = list(zip(jobs, looker.look([job.task for job in jobs]), strict=True))
            if predicted := sum(isinstance(outcome, bytes) and job.task.work == "predict" for job, outcome in found):
                self._on_batch(predicted)
            self._answer([(job, outcome) for job, outcome in found if outcome is not None])
            for job, outcome in found:
                if outcome is None:
                    self._decode_beside(job)

    def _take(self) -> list[_Job]:
        """Wait for pictures: all that are there, or a share of them where others have nothing to do; none at the end."""
        with self._change:
            self._idle += 1
            while not self._arrived and not self._ended:
                self._change.wait()
            self._idle -= 1
            count = min(_MOST_AT_ONCE, -(-len(self._arrived) // (1 + self._idle)))
            return [self._arrived.popleft() for _ in range(count)]

    def _decode_beside(self, job: _Job) -> None:
        """Decode a large picture on another thread, and let it come back."""
        try:
            with quiet_pillow():
                picture = open_quietly(job.task.body, max_pixels=self._limits.max_pixels)
        except Exception as error:
            self._answer([(job, refusal(error))])
            return
        pool = self._huge_decoder if picture.width * picture.height > _HUGE else self._decoders

        def decode() -> None:
            if job.done:
                return
            try:
                with quiet_pillow():
                    pixels = self._classifier.decode(picture)
            except Exception as error:
                self._answer([(job, refusal(error))])
            else:
                job.task = job.task._replace(body=b"", pixels=pixels)
                self._put([job])

        pool.submit(decode)
