"""`nin train --watch`: the page's training view, served beside the training and gone with it.

The training tells a `Watcher` where it stands, as it tells the terminal; that costs it an assignment. A thread answers on
127.0.0.1 from what the watcher holds and from the run folder; nothing that happens there reaches the training.
"""

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response, StreamingResponse
from starlette.routing import Mount, Route

from torchnin.training import Run
from torchnin.web.access import Access, Gate
from torchnin.web.answers import encode, respond
from torchnin.web.metrics import Metrics
from torchnin.web.pages import PAGE, Page, with_policy
from torchnin.web.server import address

PORT = 8001
"""Where the view is served where that port is free."""

_HOST = "127.0.0.1"
_PUSH_SECONDS = 0.5
_END_SECONDS = 3.0  # how long the end of the training waits for its last word to be read
_MOST_POINTS = 400  # of the curve within epochs; when there are more, every second one goes
_MOST_NOTES = 200


class Watcher:
    """Where a training stands, as plain values; a display that shows nothing itself.

    The training's thread calls the methods of `torchnin.training.log.Display`; the server's thread reads `state`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._version = 0
        self._begin = (0.0, 0.0)  # when the first step of this process was done, and how far the training was then
        self._state: dict[str, Any] = _nothing()

    @property
    def version(self) -> int:
        """Grows whenever the state changes."""
        return self._version

    def state(self) -> dict[str, Any]:
        """All that the page shows; figures are fractions of one, times seconds."""
        with self._lock:
            return {**self._state, "rows": list(self._state["rows"]), "trace": list(self._state["trace"]), "notes": list(self._state["notes"])}

    def begin(self, path: Path) -> None:
        """A training begins or goes on in a run folder, whose configuration and metrics are written."""
        run = Run(path)
        config = run.config
        network = config["network"]
        with self._change() as state:
            state |= {**_nothing(), "notes": state["notes"], "path": str(path), "name": config["name"], "data": config["data"]["name"]}
            state["num_classes"] = len(config["data"]["class_names"])
            state["can_die"] = network["class_map_relu"] and network["head"] == "gap"
            state["rows"] = run.metrics

    def note(self, text: str) -> None:
        """One sentence the user should see."""
        with self._change() as state:
            state["notes"] = [*state["notes"], text][-_MOST_NOTES:]

    def begin_epoch(self, epoch: int, num_epochs: int, step: int, num_steps: int) -> None:
        """An epoch (from 1) begins at its `step`-th of `num_steps` steps."""
        with self._change() as state:
            # A training that went back has nothing to show of what it threw away.
            state["rows"] = [row for row in state["rows"] if row["epoch"] < epoch]
            state["trace"] = [point for point in state["trace"] if point[0] <= epoch - 1 + step / num_steps]
            state |= {"phase": "training", "epoch": epoch, "num_epochs": num_epochs, "num_steps": num_steps}
            state["progress"] = (epoch - 1 + step / num_steps) / num_epochs

    def step(self, step: int, loss: float, accuracy: float, images_per_second: float, dead_class_maps: Sequence[str] = ()) -> None:
        """Where the epoch stands: mean loss and accuracy (a fraction of one) so far, and the classes whose maps are dead."""
        with self._change() as state:
            state |= {"loss": loss, "accuracy": accuracy, "images_per_second": images_per_second, "dead": list(dead_class_maps)}
            self._advance(state, step / state["num_steps"])
            trace = [*state["trace"], [round(state["epoch"] - 1 + step / state["num_steps"], 4), round(loss, 5), round(accuracy, 5)]]
            state["trace"] = trace[::2] if len(trace) > _MOST_POINTS else trace

    def end_epoch(self, row: Mapping[str, Any], num_epochs: int) -> None:
        """An epoch is done; `row` is its line of `metrics.jsonl`."""
        with self._change() as state:
            state["rows"] = [*state["rows"], dict(row)]
            state |= {"loss": row["train_loss"], "accuracy": row["train_accuracy"], "images_per_second": row["images_per_second"]}
            if not row["dead_class_maps"]:
                state["dead"] = []
            self._advance(state, 1.0)
            if row["epoch"] == num_epochs:
                state |= {"phase": "testing", "seconds_left": None}

    def close(self) -> None:
        """The training ended, one way or another; its run folder tells which."""
        with self._change() as state:
            if state["path"] and (run := Run(state["path"])).finished:
                state |= {"phase": "done", "progress": 1.0, "seconds_left": None, "result": run.result}

    def finish(self, reason: str | None = None) -> None:
        """Nothing more will come; `reason` says why where it was not the training's own end."""
        with self._change() as state:
            if state["phase"] != "done":
                state |= {"phase": "stopped", "reason": reason or "", "seconds_left": None}
            state["final"] = True

    @contextlib.contextmanager
    def _change(self) -> Iterator[dict[str, Any]]:
        with self._lock:
            yield self._state
            self._version += 1

    def _advance(self, state: dict[str, Any], share: float) -> None:
        """Note how far the training is, and with that the time left at the pace of this process."""
        state["progress"] = (state["epoch"] - 1 + share) / state["num_epochs"]
        now, (since, done) = time.monotonic(), self._begin
        if not since or done > state["progress"]:
            self._begin = (now, state["progress"])
        elif state["progress"] > done:
            state["seconds_left"] = (now - since) / (state["progress"] - done) * (1 - state["progress"])


def _nothing() -> dict[str, Any]:
    """The state before anything is known."""
    return {
        **{"phase": "waiting", "final": False, "reason": None, "result": None},
        **{"path": None, "name": None, "data": None, "num_classes": 0, "can_die": False},
        **{"epoch": 0, "num_epochs": 0, "num_steps": 1, "progress": 0.0, "seconds_left": None},
        **{"loss": None, "accuracy": None, "images_per_second": None, "dead": []},
        **{"rows": [], "trace": [], "notes": []},
    }


def create_watch_app(watcher: Watcher) -> Starlette:
    """The training view as an ASGI application: the page, `GET /v1/training`, and the same again as it changes."""

    async def page(_: Request) -> Response:
        return with_policy(FileResponse(PAGE / "training.html"))

    async def now(_: Request) -> Response:
        return respond(watcher.state())

    async def events(_: Request) -> Response:
        return StreamingResponse(_events(watcher), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    routes = [Route("/", page), Route("/v1/training", now), Route("/v1/training/events", events), Mount("/", Page(directory=PAGE))]
    return Starlette(routes=routes, middleware=[Middleware(Gate, Access(host=_HOST), Metrics())])


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
        reason = None
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
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((_HOST, PORT if port is None else port))
    except OSError as error:
        if port is not None:
            listener.close()
            raise ValueError(f"cannot listen on port {port}: {error.strerror}; choose another, or 0 for a free one") from error
        listener.bind((_HOST, 0))
    return listener
