"""`nin train --watch`: the page's training view, served beside the training and gone with it.

The training tells a `Watcher` where it stands, as it tells the terminal; that costs it an assignment. A thread answers on
127.0.0.1 from what the watcher holds and from the run folder; nothing that happens there reaches the training.
"""

import asyncio
import contextlib
import dataclasses
import math
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from torchnin.files import in_command
from torchnin.training import Run
from torchnin.web.access import Access, Door, Gate
from torchnin.web.answers import encode, respond
from torchnin.web.metrics import Metrics
from torchnin.web.pages import add_page
from torchnin.web.server import address, listen

PORT = 8001
"""Where the view is served where that port is free."""

_HOST = "127.0.0.1"
_PUSH_SECONDS = 0.5
_END_SECONDS = 3.0  # how long the end of the training waits for its last word to be read
_MOST_POINTS = 400  # of the curve within epochs; when there are more, every second one goes
_MOST_NOTES = 200


@dataclasses.dataclass(kw_only=True)
class Progress:
    """Where a training stands; figures are fractions of one, times seconds."""

    phase: Literal["waiting", "training", "testing", "done", "stopped"] = "waiting"
    """What is being done."""
    final: bool = False
    """Whether nothing more will come."""
    reason: str = ""
    """Why it stopped, where that is known."""
    result: dict[str, Any] | None = None
    """What `result.json` says, once it is written."""
    path: str = ""
    """The run folder."""
    command: str = ""
    """What shows the classifier that the run ends in."""
    name: str = ""
    """What the records call the network."""
    data: str = ""
    """The dataset's name."""
    num_classes: int = 0
    """How many classes, and so class maps, there are; 0 where a fully connected head makes no class maps of the last ones."""
    can_die: bool = False
    """Whether a class map can die: there is a ReLU behind it."""
    epoch: int = 0
    """The running epoch, from 1."""
    num_epochs: int = 0
    """How many there will be."""
    num_steps: int = 1
    """Steps in an epoch."""
    progress: float = 0.0
    """How much of all epochs is done."""
    seconds_left: float | None = None
    """Until the last epoch is done, at the pace of this process so far; None where that is not known."""
    loss: float | None = None
    """Mean over the epoch so far; None also where it is no number any more, which JSON has none for."""
    accuracy: float | None = None
    """On the training pictures, over the epoch so far."""
    images_per_second: float | None = None
    """In the epoch so far."""
    dead: list[str] = dataclasses.field(default_factory=list)
    """The classes whose maps are dead."""
    rows: list[dict[str, Any]] = dataclasses.field(default_factory=list)
    """The lines of `metrics.jsonl`."""
    trace: list[tuple[float, float, float]] = dataclasses.field(default_factory=list)
    """Within epochs: how many epochs were done, loss and accuracy since the epoch began."""
    notes: list[str] = dataclasses.field(default_factory=list)
    """What the training said."""


class Watcher:
    """Keeps where a training stands; a display that shows nothing itself.

    The training's thread calls the methods of `torchnin.training.log.Display`; the server's thread reads `state`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self._begin: tuple[float, float] | None = None  # when this process began to train, and how far the training was then
        self._now = Progress()

    @property
    def version(self) -> int:
        """Grows whenever the state changes."""
        return self._version

    def state(self) -> dict[str, Any]:
        """The fields of `Progress` as plain values."""
        with self._lock:
            # Lists are replaced, never changed, so that a shallow copy stays what it is.
            return dict(vars(self._now))

    def begin(self, path: Path) -> None:
        """A training begins or goes on in a run folder, whose configuration and metrics are written."""
        run = Run(path)
        config, rows = run.config, run.metrics
        network = config["network"]
        averaged = network["head"] == "gap"
        with self._change():
            self._begin = None
            self._now = Progress(
                path=str(path),
                command=f"nin serve {in_command(path)}",
                name=config["name"],
                data=config["data"]["name"],
                num_classes=len(config["data"]["class_names"]) if averaged else 0,
                can_die=network["class_map_relu"] and averaged,
                rows=rows,
                notes=self._now.notes,
            )

    def note(self, text: str) -> None:
        """One sentence the user should see."""
        with self._change() as now:
            now.notes = [*now.notes, text][-_MOST_NOTES:]

    def begin_epoch(self, epoch: int, num_epochs: int, step: int, num_steps: int) -> None:
        """An epoch (from 1) begins at its `step`-th of `num_steps` steps."""
        with self._change() as now:
            now.phase, now.epoch, now.num_epochs, now.num_steps = "training", epoch, num_epochs, num_steps
            before, now.progress = now.progress, (epoch - 1 + step / num_steps) / num_epochs
            if self._begin is None or now.progress < before:  # the time of what was thrown away says nothing of what is left
                self._begin, now.seconds_left = (time.monotonic(), now.progress), None
            # A training that went back has nothing to show of what it threw away.
            now.rows = [row for row in now.rows if row["epoch"] < epoch]
            now.trace = [point for point in now.trace if point[0] <= epoch - 1 + step / num_steps]

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float, dead_class_maps: Sequence[str] = ()) -> None:
        """Where the epoch stands: mean loss and accuracy (a fraction of one) so far, and the classes whose maps are dead."""
        with self._change() as now:
            finite = math.isfinite(loss)  # on a GPU the training itself looks only now and then
            now.loss, now.accuracy, now.images_per_second = loss if finite else None, accuracy, images_per_second
            now.dead = list(dead_class_maps)
            self._advance(step / now.num_steps)
            if not finite:
                return
            trace = [*now.trace, (round(now.epoch - 1 + step / now.num_steps, 4), round(loss, 5), round(accuracy, 5))]
            now.trace = trace[::2] if len(trace) > _MOST_POINTS else trace

    def end_epoch(self, row: Mapping[str, Any], num_epochs: int) -> None:
        """An epoch is done; `row` is its line of `metrics.jsonl`."""
        with self._change() as now:
            now.rows = [*now.rows, dict(row)]
            now.loss, now.accuracy, now.images_per_second = row["train_loss"], row["train_accuracy"], row["images_per_second"]
            if not row["dead_class_maps"]:
                now.dead = []
            self._advance(1.0)
            if row["epoch"] == num_epochs:
                now.phase, now.seconds_left = "testing", None

    def close(self) -> None:
        """The training ended, one way or another; its run folder tells which."""
        run = Run(self._now.path)
        result = run.result if self._now.path and run.finished else None
        with self._change() as now:
            if result is not None:
                now.phase, now.progress, now.seconds_left, now.result = "done", 1.0, None, result

    def finish(self, reason: str = "") -> None:
        """Nothing more will come; `reason` says why where the training did not come to its end, the last note where nothing else does.

        So it is where the last of many seeds diverges or collapses, which ends that seed and not the study.
        """
        with self._change() as now:
            if now.phase != "done":
                now.phase, now.reason, now.seconds_left = "stopped", reason or "".join(now.notes[-1:]), None
            now.final = True

    @contextlib.contextmanager
    def _change(self) -> Iterator[Progress]:
        with self._lock:
            yield self._now
            self._version += 1

    def _advance(self, share: float) -> None:
        """Note how much of the running epoch is done, and with that the time left at the pace of this process."""
        now = self._now
        now.progress = (now.epoch - 1 + share) / now.num_epochs
        if self._begin is not None and now.progress > self._begin[1]:
            since, done = self._begin
            now.seconds_left = (time.monotonic() - since) / (now.progress - done) * (1 - now.progress)


def create_watch_app(watcher: Watcher) -> Starlette:
    """The training view as an ASGI application: the page, `GET /v1/training`, and the same again as it changes."""

    async def now(_: Request) -> Response:
        return respond(watcher.state())

    async def events(_: Request) -> Response:
        return StreamingResponse(_events(watcher), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    routes = [Route("/v1/training", now), Route("/v1/training/events", events)]
    app = Starlette(routes=routes, middleware=[Middleware(Gate, Door(Access(host=_HOST)), Metrics())])
    add_page(app, "training.html")
    return app


async def _events(watcher: Watcher) -> AsyncIterator[bytes]:
    seen = -1
    while True:
        if watcher.version != seen:
            seen = watcher.version
            state = watcher.state()
            yield b"data: " + encode(state) + b"\n\n"
            if state["final"]:
                return
        await asyncio.sleep(_PUSH_SECONDS)


@contextlib.contextmanager
def watched(port: int | None = None) -> Iterator[tuple[Watcher, str]]:
    """Serve the training view on 127.0.0.1 while the block runs.

    Args:
        port: where; 0 takes any free port, None `PORT` where it is free and any free one where not.

    Yields:
        What the training is to report to, and the address of the view.

    Raises:
        ValueError: something else listens on that port.
    """
    watcher = Watcher()
    with _listener(port) as listener:
        config = uvicorn.Config(
            create_watch_app(watcher), ws="none", lifespan="off", access_log=False, log_config=None, timeout_graceful_shutdown=1
        )
        server = uvicorn.Server(config)
        # A daemon: whatever holds it up, the training's process ends.
        thread = threading.Thread(target=server.run, args=([listener],), name="torchnin watch", daemon=True)
        thread.start()
        reason = ""
        try:
            yield watcher, address(listener)
        except BaseException as error:
            reason = str(error) or type(error).__name__
            raise
        finally:
            watcher.finish(reason)
            _let_readers_go(server)
            server.should_exit = True
            thread.join(_END_SECONDS)


def _let_readers_go(server: uvicorn.Server) -> None:
    """Wait, but not for long, until those who watch have read the last state."""
    until = time.monotonic() + 2 * _PUSH_SECONDS
    while server.server_state.tasks and time.monotonic() < until:
        time.sleep(0.02)


def _listener(port: int | None) -> socket.socket:
    try:
        listener = listen(_HOST, PORT if port is None else port)
    except ValueError:
        if port is not None:
            raise
        listener = listen(_HOST, 0)
    listener.listen()  # at once: until then another process could bind the same port
    return listener
