"""Looking at pictures, a batch at a time: in this process, or in one of its own that is told what to look at.

Python lets one thread of a process run at a time, and decoding small pictures is mostly Python, so threads of one process do not
use two cores for them. `LookerProcess` speaks with its process over a pair of sockets, in plain values.
"""

import asyncio
import contextlib
import logging
import marshal
import math
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NamedTuple, cast

import numpy as np
import torch

from torchnin.classifier import Classifier
from torchnin.data import DataError
from torchnin.data.errors import TooManyPixelsError
from torchnin.data.pictures import open_quietly, quiet_pillow
from torchnin.onnx_network import Backend
from torchnin.prediction import Prediction
from torchnin.web.answers import Outcome, encode
from torchnin.web.limits import RefusedError
from torchnin.web.looking import explanation_json

# Pixels up to which a picture is decoded here.
_SMALL = 256 * 256
_READY = b"ready"
# Seconds for which a process that looks stays awake behind a batch: to wake it takes as long as a small picture (docs/lab-log.md).
_AWAKE = 0.0005
# How multiprocessing's Connection says how long a message is, below two gigabytes.
_LENGTH = struct.Struct("!i")


class Task(NamedTuple):
    """What is to be made of a picture."""

    work: Literal["predict", "explain", "explain layers"]
    """Which answer is wanted."""
    body: bytes
    """The picture's file."""
    pixels: np.ndarray | None = None
    """What `Classifier.decode` made of it, once it is decoded."""


class Looker:
    """Looks in the thread that asks."""

    def __init__(self, classifier: Classifier, max_pixels: int) -> None:
        self._classifier = classifier
        self._max_pixels = max_pixels
        self._write = _Writer(classifier.class_names)

    def look(self, tasks: Sequence[Task]) -> list[Outcome | None]:
        """Of each task its JSON object, or why there is none; None for a large picture, which is to be decoded first."""
        found: list[Outcome | None] = [None] * len(tasks)
        predict: list[tuple[int, np.ndarray]] = []
        with quiet_pillow():
            for place, task in enumerate(tasks):
                pixels = task.pixels
                if pixels is None:
                    try:
                        picture = open_quietly(task.body, max_pixels=self._max_pixels)
                        if picture.width * picture.height > _SMALL:
                            continue
                        pixels = self._classifier.decode(picture)
                    except Exception as error:
                        found[place] = refusal(error)
                        continue
                if task.work == "predict":
                    predict.append((place, pixels))
                else:
                    found[place] = self._explain(pixels, layers=task.work == "explain layers")
        if predict:
            for (place, _), outcome in zip(predict, self._predict([pixels for _, pixels in predict]), strict=True):
                found[place] = outcome
        return found

    def warm_up(self) -> None:
        """Look at a black picture: what the first one would wait for is done then. A failure is logged."""
        p = self._classifier.preprocessing
        try:
            self._classifier.predict_decoded([np.zeros((p.channels, p.height, p.width), np.uint8)])
        except Exception as error:
            failure(error)

    def _predict(self, pictures: list[np.ndarray]) -> list[Outcome]:
        try:
            return [self._write(prediction) for prediction in self._classifier.predict_decoded(pictures)]
        except Exception as error:
            if len(pictures) == 1:
                return [failure(error)]
            return [outcome for picture in pictures for outcome in self._predict([picture])]  # one that fails takes no others with it

    def _explain(self, pixels: np.ndarray, *, layers: bool) -> Outcome:
        try:
            return encode(explanation_json(self._classifier, pixels, layers=layers))
        except Exception as error:
            return failure(error)


class LookerProcess(asyncio.Protocol):
    """A process of its own that looks, on one core or, where it is told that nobody else does, on more; the event loop speaks with it.

    Args:
        classifier: what it looks with.
        max_pixels: of a picture.
        most_cores: on which it may look.
        told: called in the event loop with this and what `Looker.look` says of the batch that was sent; with None where the process
            died over it.
    """

    def __init__(
        self,
        classifier: Classifier,
        max_pixels: int,
        most_cores: int,
        told: "Callable[[LookerProcess, list[Outcome | None] | None], None]",
    ) -> None:
        self._classifier = classifier
        self._max_pixels = max_pixels
        self.most_cores = most_cores
        self._told = told
        self._process: subprocess.Popen[bytes] | None = None
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._stopping = False

    async def start(self) -> None:
        """Start the process, and wait until it has the classifier.

        Raises:
            RuntimeError: it ends before that; it has said why on standard error.
        """
        self._received.clear()
        ours = await asyncio.to_thread(self._begin)
        ours.setblocking(False)
        await asyncio.get_running_loop().create_connection(lambda: self, sock=ours)

    def _begin(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        begin = "import sys; from torchnin.web.looker import main; main(*sys.argv[1:])"
        arguments = [str(theirs.fileno()), str(self._max_pixels), str(self.most_cores), self._classifier.backend]
        command = [sys.executable, "-P", "-c", begin, *arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with theirs:
            # In a group of its own: Ctrl-C is for the service, which still needs it.
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment, process_group=0
            )
        connection = Connection(os.dup(ours.fileno()))
        try:
            with tempfile.TemporaryDirectory(prefix="torchnin-serve-") as folder:
                files = self._classifier.save(folder).iterdir()
                connection.send_bytes(marshal.dumps({file.name: file.read_bytes() for file in files}))
            if connection.recv_bytes() != _READY:
                raise RuntimeError("a process that looks at pictures said something else than that it is ready")
        except (EOFError, ConnectionError):
            ours.close()
            raise RuntimeError(f"a process that looks at pictures ended with exit code {self._process.wait()} as it began") from None
        except BaseException:
            ours.close()
            raise
        finally:
            connection.close()
        return ours

    @property
    def alive(self) -> bool:
        """Whether it was started and has not died since."""
        return self._transport is not None

    @property
    def memory(self) -> int:
        """Bytes of memory that it holds, what it shares with others among them; 0 where the system does not say, as without Linux."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            if self._process is not None and sys.platform != "win32":
                pages = Path(f"/proc/{self._process.pid}/statm").read_text(encoding="ascii").split()[1]
                return int(pages) * os.sysconf("SC_PAGE_SIZE")
        return 0

    def kill(self) -> None:
        """End it at once, as where it hangs."""
        if self._process is not None:
            self._process.kill()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It is there."""
        self._transport = cast("asyncio.Transport", transport)

    def send(self, tasks: Sequence[Task], *, alone: bool = False) -> None:
        """Let it look at a batch, on all its cores where nobody else looks; one batch at a time."""
        assert self._transport is not None
        message = marshal.dumps((alone, [(task.work, task.body, _plain(task.pixels)) for task in tasks]))
        self._transport.write(_LENGTH.pack(len(message)) + message)  # as Connection.send_bytes does

    def data_received(self, data: bytes) -> None:
        """A piece of what it says."""
        self._received += data
        if len(self._received) < _LENGTH.size or len(self._received) < _LENGTH.size + _LENGTH.unpack_from(self._received)[0]:
            return
        told = marshal.loads(memoryview(self._received)[_LENGTH.size :])
        self._received = bytearray()
        self._told(self, [RefusedError(*outcome) if isinstance(outcome, tuple) else outcome for outcome in told])

    def connection_lost(self, error: Exception | None) -> None:
        """It has died, or was told to stop."""
        self._transport = None
        if not self._stopping:
            self._told(self, None)

    async def replace(self) -> None:
        """Start another process where one has died.

        Raises:
            RuntimeError: none can be started.
        """
        logging.getLogger("torchnin.web").error("a process that looks at pictures died; another is started")
        await asyncio.to_thread(self._reap)
        await self.start()

    async def stop(self) -> None:
        """End the process."""
        self._stopping = True
        if self._transport is not None:
            self._transport.close()
        await asyncio.to_thread(self._reap)

    def _reap(self) -> None:
        if self._process is not None:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def main(descriptor: str, max_pixels: str, most_cores: str, backend: Backend) -> None:
    """What such a process does: take the classifier, and answer until the service is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # of a service manager that tells all processes; the service says when it is over
    connection = Connection(int(descriptor))
    with contextlib.suppress(EOFError, ConnectionError):
        with tempfile.TemporaryDirectory(prefix="torchnin-serve-") as folder:
            for name, content in marshal.loads(connection.recv_bytes()).items():
                (Path(folder) / name).write_bytes(content)
            looker = Looker(Classifier.load(folder, device="cpu", backend=backend), int(max_pixels))
        for cores in sorted({int(most_cores), 1}, reverse=True):
            torch.set_num_threads(cores)
            looker.warm_up()
        connection.send_bytes(_READY)
        with quiet_pillow():
            while True:
                _stay_awake(connection)
                alone, tasks = marshal.loads(connection.recv_bytes())
                wanted = int(most_cores) if alone else 1
                if wanted != cores:  # saying it costs as much as a small network
                    torch.set_num_threads(cores := wanted)
                found = looker.look([Task(work, body, _array(pixels)) for work, body, pixels in tasks])
                answer = [(outcome.status, outcome.reason) if isinstance(outcome, RefusedError) else outcome for outcome in found]
                connection.send_bytes(marshal.dumps(answer))
    os._exit(0)  # nothing is left to be written, and taking torch apart takes its time


def _stay_awake(connection: Connection) -> None:
    """Wait for the next batch without sleeping, for a while in which other processes go first."""
    if sys.platform != "win32":
        end, poll = time.perf_counter() + _AWAKE, select.poll()
        poll.register(connection.fileno(), select.POLLIN)
        while not poll.poll(0) and time.perf_counter() < end:
            os.sched_yield()


def _plain(pixels: np.ndarray | None) -> tuple[str, tuple[int, ...], bytes] | None:
    return None if pixels is None else (pixels.dtype.str, pixels.shape, pixels.tobytes())


def _array(plain: tuple[str, tuple[int, ...], bytes] | None) -> np.ndarray | None:
    return None if plain is None else np.frombuffer(bytearray(plain[2]), plain[0]).reshape(plain[1])


class _Writer:
    """Writes predictions as `nin predict --json` does, without `path`: the same bytes as `json.dumps`, with the names written once."""

    def __init__(self, class_names: Sequence[str]) -> None:
        self._names = {name: encode(name).decode() for name in class_names}

    def __call__(self, prediction: Prediction) -> bytes:
        if not math.isfinite(prediction.probability):  # then all are none
            raise ValueError(f"the network gives {prediction.probability} as a probability; its weights are broken")
        names = self._names
        probabilities = ", ".join([f"{names[name]}: {value!r}" for name, value in prediction.probabilities.items()])
        return (
            f'{{"label": {names[prediction.label]}, "probability": {prediction.probability!r}, "probabilities": {{{probabilities}}}}}'
        ).encode()


def refusal(error: Exception) -> RefusedError:
    """Why a picture that does not decode is refused."""
    if not isinstance(error, DataError):
        return failure(error)
    reason = str(error).removeprefix("picture: ")
    return RefusedError(413 if isinstance(error, TooManyPixelsError) else 422, reason)


def failure(error: Exception) -> RefusedError:
    """What is said of a picture at which the service failed; the log says more."""
    logging.getLogger("torchnin.web").error("a picture could not be looked at", exc_info=error)
    return RefusedError(500, f"the service failed at this picture ({type(error).__name__}); its log says where")
