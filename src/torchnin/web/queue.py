"""Requests that arrive together go through the network together: a bounded queue, a few that look, a few that decode.

Nothing waits for company: whoever looks takes whatever has arrived while all were busy with the pictures before. Under load that
makes large batches by itself, and a lone request is answered at once. Those that have nothing to do share what arrives.

Processes look, one a core, and the event loop itself hands them bytes and gets finished JSON back; a picture that is alone in the service
has all cores, unless it is so little work that waking them takes longer. On a GPU, with a single core, on Windows, and where a picture is
much work for more cores than there may be processes, a thread looks. Large pictures are decoded and resized on threads beside them, so that
they keep nobody waiting.
"""

import asyncio
import dataclasses
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from PIL.Image import Image

from torchnin.classifier import Classifier
from torchnin.data.pictures import open_quietly, quiet_pillow
from torchnin.web.answers import Outcome
from torchnin.web.limits import Limits, RefusedError, busy
from torchnin.web.looker import Looker, LookerProcess, Task, failure, refusal

# Pictures that go through the network at once; more would only keep the first of them waiting.
_MOST_AT_ONCE = 64
# Processes that look, at most: the event loop feeds no more than that.
_MOST_LOOKERS = 4
# Multiply-adds of a picture that is alone from which on a process that looks at it has all cores: half a millisecond of one.
_SOME_WORK = 20_000_000
# Multiply-adds of a picture that are much work: some ten milliseconds of one core.
_MUCH_WORK = 200_000_000
# Of such pictures so many at once: with more, the layers' outputs leave the caches, and come anew from the system in every pass.
_MOST_OF_MUCH_WORK = 16
# Pixels above which pictures are decoded one at a time: one of 25 million takes half a gigabyte until it is resized.
_HUGE = 2048 * 2048
# A process that is at a batch for so many times as long as an answer may take hangs.
_MOST_DEADLINES = 2
# Seconds between looks for requests whose time is over.
_TICK = 0.1


@dataclasses.dataclass(slots=True, eq=False)
class _Job:
    """A picture on its way."""

    answered: Callable[[Outcome], None]  # called in the event loop
    task: Task
    done: bool = False  # answered, or given up
    alone: bool = False  # a process died as it was looked at: no others go with it, and no third time


class BatchingQueue:
    """Takes pictures from an event loop, and gives answers back to it.

    Args:
        classifier: what answers.
        limits: how many pictures may wait, how large they may be and how long they may take.
        on_batch: told of every batch how many pictures were predicted; called by any of the threads.
        own_processes: whether processes look where that is faster: on the host, with several cores, all of which they can keep busy.
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
        # What waits for somebody to look: the event loop's own where processes look, shared with the thread where it does.
        self._arrived: deque[_Job] = deque()
        self._change = threading.Condition(threading.Lock())
        self._ended = False
        macs = classifier.summarize().num_macs
        much_work = macs >= _MUCH_WORK
        self._most_at_once = _MOST_OF_MUCH_WORK if much_work else _MOST_AT_ONCE
        cores = torch.get_num_threads()
        # One core is left to the event loop and to what decodes, but not where that is little: threads that must wait for each
        # other at every layer of the network lose more than they win where they cannot all run.
        self._cores = cores if much_work else max(1, cores - 1)
        self._looker = Looker(classifier, limits.max_pixels)
        self._thread: threading.Thread | None = threading.Thread(target=self._look, name="look", daemon=True)
        # Processes that look, those of them that have nothing to do, and what the others are at. Only the event loop touches them.
        self._processes: list[LookerProcess] = []
        busy_with_it = cores <= _MOST_LOOKERS or not much_work  # a process has one thread, where not one picture alone is there
        possible = sys.platform != "win32" and cores > 1 and classifier.choice.device.type == "cpu"
        if own_processes and possible and busy_with_it:
            self._thread = None
            most_cores = [cores if macs >= _SOME_WORK else 1] + [1] * (min(_MOST_LOOKERS, cores) - 1)  # those that look at a lone picture
            self._processes = [LookerProcess(classifier, limits.max_pixels, each, self._receive) for each in most_cores]
        self._free: list[LookerProcess] = []
        self._at: dict[LookerProcess, list[_Job]] = {}
        self._since: dict[LookerProcess, float] = {}  # from when on
        self._suspects: deque[_Job] = deque()  # what a process was at as it died
        self._lost = False  # whether one died and could not be replaced
        self._replacing: set[asyncio.Task[None]] = set()
        self._decoders = ThreadPoolExecutor(min(4, os.cpu_count() or 1), thread_name_prefix="decode")
        self._huge_decoder = ThreadPoolExecutor(1, thread_name_prefix="decode-huge")
        self._clock: asyncio.Task[None] | None = None

    @property
    def waiting(self) -> int:
        """Pictures that are accepted and not yet answered."""
        return len(self._open)

    @property
    def memory(self) -> int:
        """Bytes of memory that the processes that look hold; 0 where there are none."""
        return sum(process.memory for process in self._processes)

    @property
    def alive(self) -> bool:
        """Whether all that look are running."""
        return self._thread.is_alive() if self._thread is not None else not self._lost

    async def start(self) -> None:
        """Begin to answer; called inside the event loop that will ask.

        Raises:
            OSError, RuntimeError: a process that looks cannot be started; none is left.
        """
        self._loop = asyncio.get_running_loop()
        begun = await asyncio.gather(*(self._begin(process) for process in self._processes), return_exceptions=True)
        if failures := [each for each in begun if each is not None]:
            await asyncio.gather(*(process.stop() for process in self._processes))  # those that could begin too
            raise failures[0]
        self._clock = self._loop.create_task(self._give_up_late_ones())
        if self._thread is not None:
            await asyncio.to_thread(self._looker.warm_up)
            self._thread.start()

    async def _begin(self, process: LookerProcess) -> None:
        await process.start()
        self._set_free(process)

    def _set_free(self, process: LookerProcess) -> None:
        """Let a process that was started have pictures, unless it has died meanwhile and another is being started."""
        if process.alive:
            self._free.append(process)

    async def stop(self) -> None:
        """Answer what was accepted, then end the threads and processes."""
        while self._open or self._replacing:
            await asyncio.sleep(0.01)
        with self._change:
            self._ended = True
            self._change.notify_all()
        if self._clock is not None:
            self._clock.cancel()
        for pool in (self._decoders, self._huge_decoder):
            pool.shutdown(wait=False, cancel_futures=True)
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, _TICK * 20)
        await asyncio.gather(*(process.stop() for process in self._processes))

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
        fresh, self._fresh = self._fresh, []
        self._put(fresh)

    def _put(self, jobs: list[_Job]) -> None:
        """Let jobs wait for somebody to look; in the event loop."""
        with self._change:
            self._arrived.extend(jobs)
            self._change.notify()
        self._refuse_where_nobody_looks()
        self._send()

    def _refuse_where_nobody_looks(self) -> None:
        """Where no process is left, and none could be started, nothing waits for one."""
        if self._thread is None and not self._processes:
            waiting = [*self._suspects, *self._arrived]
            self._suspects.clear()
            self._arrived.clear()
            gone = RefusedError(500, "the service has lost the processes that look at pictures and could start no others; its log says why")
            self._deliver([(job, gone) for job in waiting])

    def _send(self) -> None:
        """Give all processes that have nothing to do a share of what waits."""
        while self._free and self._suspects:
            self._give([self._suspects.popleft()])
        while self._free and self._arrived:
            count = min(self._most_at_once, -(-len(self._arrived) // len(self._free)))
            self._give([self._arrived.popleft() for _ in range(count)])

    def _give(self, jobs: list[_Job]) -> None:
        if jobs := [job for job in jobs if not job.done]:
            alone = len(self._open) == 1
            first = self._processes[0]  # the one that may use all cores
            process = self._free.pop(self._free.index(first) if alone and first in self._free else -1)
            self._at[process] = jobs
            self._since[process] = asyncio.get_running_loop().time()
            process.send([job.task for job in jobs], alone=alone)

    def _receive(self, process: LookerProcess, found: "list[Outcome | None] | None") -> None:
        """A process has answered, or died."""
        jobs = self._at.pop(process, [])
        self._since.pop(process, None)
        if found is None:
            assert self._loop is not None
            if process in self._free:
                self._free.remove(process)
            task = self._loop.create_task(self._replace(process, jobs))
            self._replacing.add(task)
            task.add_done_callback(self._replacing.discard)
        else:
            self._free.append(process)
            self._send()  # before the answers are written, so that it looks meanwhile
            self._deliver(self._told(jobs, found))

    async def _replace(self, process: LookerProcess, jobs: list[_Job]) -> None:
        """Start another process, and let it look at what the one that died was at: each by itself, so that the one to blame takes no
        others with it, and once, so that it does not take every process.
        """
        if len(jobs) == 1 and jobs[0].alone:
            died = RefusedError(500, "the service failed at this picture (the process that looked at it died); its log says when")
            self._deliver([(jobs.pop(), died)])
        for job in jobs:
            job.alone = True
        try:
            await process.replace()
        except Exception as error:
            self._lost = True
            self._deliver([(job, failure(error)) for job in jobs])
            self._processes.remove(process)
            await process.stop()
            self._refuse_where_nobody_looks()
            return
        self._suspects.extend(jobs)
        self._set_free(process)
        self._send()

    def _told(self, jobs: list[_Job], found: "list[Outcome | None]") -> list[tuple[_Job, Outcome]]:
        """The answers among what was found; large pictures go on to be decoded."""
        pairs = list(zip(jobs, found, strict=True))
        if predicted := sum(isinstance(outcome, bytes) and job.task.work == "predict" for job, outcome in pairs):
            self._on_batch(predicted)
        for job, outcome in pairs:
            if outcome is None:
                self._decoders.submit(self._decode_beside, job)
        return [(job, outcome) for job, outcome in pairs if outcome is not None]

    async def _give_up_late_ones(self) -> None:
        assert self._loop is not None
        while True:
            await asyncio.sleep(_TICK)
            now = self._loop.time()
            for job, end in list(self._open.items()):
                if end > now:
                    break  # they are in the order of arrival, and all have the same time
                self._deliver([(job, RefusedError(504, f"no answer within {self._limits.answer_seconds:g} seconds"))])
            with self._change:
                while self._arrived and self._arrived[0].done:  # nobody may come to take them, and they hold their pictures
                    self._arrived.popleft()
            for process, since in self._since.items():
                if now - since > _MOST_DEADLINES * self._limits.answer_seconds:  # it hangs; another takes its place
                    process.kill()

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

    def _look(self) -> None:
        torch.set_num_threads(self._cores)
        while jobs := self._take():
            if jobs := [job for job in jobs if not job.done]:
                self._answer(self._told(jobs, self._looker.look([job.task for job in jobs])))

    def _take(self) -> list[_Job]:
        """Wait for pictures: all that are there; none at the end."""
        with self._change:
            while not self._arrived and not self._ended:
                self._change.wait()
            return [self._arrived.popleft() for _ in range(min(self._most_at_once, len(self._arrived)))]

    def _decode_beside(self, job: _Job) -> None:
        """Decode a large picture, and let it come back."""
        try:
            with quiet_pillow():
                picture = open_quietly(job.task.body, max_pixels=self._limits.max_pixels)
        except Exception as error:
            self._answer([(job, refusal(error))])
            return
        if picture.width * picture.height > _HUGE:
            self._huge_decoder.submit(self._decode, job, picture)
        else:
            self._decode(job, picture)

    def _decode(self, job: _Job, picture: Image) -> None:
        if job.done:
            return
        try:
            with quiet_pillow():
                pixels = self._classifier.decode(picture)
        except Exception as error:
            self._answer([(job, refusal(error))])
            return
        job.task = job.task._replace(body=b"", pixels=pixels)
        assert self._loop is not None
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._put, [job])
