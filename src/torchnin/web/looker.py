"""Looking at pictures, a batch at a time: in this process, or in one of its own that is told what to look at.

Python lets one thread of a process run at a time, and decoding small pictures is mostly Python, so threads of one process do not
use two cores for them. `LookerProcess` speaks with its process over a pair of sockets, in plain values.
"""

import contextlib
import json
import logging
import marshal
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from torchnin.classifier import Classifier
from torchnin.data import DataError
from torchnin.data.errors import TooManyPixelsError
from torchnin.data.pictures import open_quietly, quiet_pillow
from torchnin.prediction import Prediction
from torchnin.web.answers import Outcome, encode
from torchnin.web.limits import RefusedError
from torchnin.web.looking import explanation_json

# Pixels up to which a picture is decoded here.
_SMALL = 256 * 256
_READY = b"ready"


class Task(NamedTuple):
    """What is to be made of a picture."""

    work: Literal["predict", "explain", "explain layers"]
    """Which answer is wanted."""
    body: bytes
    """The picture's file."""
    pixels: Tensor | None = None
    """What `Classifier.decode` made of it, once it is decoded."""


class Looks(Protocol):
    """Looks at batches."""

    def start(self) -> None:
        """Get ready; called once, before the first batch."""

    def look(self, tasks: Sequence[Task]) -> list[Outcome | None]:
        """Of each task its JSON object, or why there is none; None for a large picture, which is to be decoded first."""

    def stop(self) -> None:
        """End; nothing is asked after it."""


class Looker:
    """Looks in the thread that asks."""

    def __init__(self, classifier: Classifier, max_pixels: int) -> None:
        self._classifier = classifier
        self._max_pixels = max_pixels
        self._write = _Writer(classifier.class_names)

    def start(self) -> None:
        """Nothing is to be done."""

    def stop(self) -> None:
        """Nothing is to be done."""

    def look(self, tasks: Sequence[Task]) -> list[Outcome | None]:
        """Of each task its JSON object, or why there is none; None for a large picture, which is to be decoded first."""
        found: list[Outcome | None] = [None] * len(tasks)
        predict: list[tuple[int, Tensor]] = []
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

    def _predict(self, pictures: list[Tensor]) -> list[Outcome]:
        try:
            return [self._write(prediction) for prediction in self._classifier.predict_decoded(pictures)]
        except Exception as error:
            if len(pictures) == 1:
                return [_failure(error)]
            return [outcome for picture in pictures for outcome in self._predict([picture])]  # one that fails takes no others with it

    def _explain(self, pixels: Tensor, *, layers: bool) -> Outcome:
        try:
            return encode(explanation_json(self._classifier, pixels, layers=layers))
        except Exception as error:
            return _failure(error)


class LookerProcess:
    """Looks in a process of its own, on one core; when that dies, another takes its place."""

    def __init__(self, classifier: Classifier, max_pixels: int) -> None:
        self._classifier = classifier
        self._max_pixels = max_pixels
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def start(self) -> None:
        """Start the process, and wait until it has the classifier.

        Raises:
            RuntimeError: it ends before that; it has said why on standard error.
        """
        ours, theirs = socket.socketpair()
        begin = "import sys; from torchnin.web.looker import main; main(*sys.argv[1:])"
        command = [sys.executable, "-P", "-c", begin, str(theirs.fileno()), str(self._max_pixels)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with theirs:
            # In a group of its own: Ctrl-C is for the service, which still needs it.
            self._process = subprocess.Popen(
                command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, env=environment, process_group=0
            )
        self._connection = Connection(ours.detach())
        try:
            with tempfile.TemporaryDirectory(prefix="torchnin-serve-") as folder:
                files = self._classifier.save(folder).iterdir()
                self._connection.send_bytes(marshal.dumps({file.name: file.read_bytes() for file in files}))
            assert self._connection.recv_bytes() == _READY
        except (EOFError, ConnectionError):
            raise RuntimeError(f"a process that looks at pictures ended with exit code {self._process.wait()} as it began") from None

    def look(self, tasks: Sequence[Task]) -> list[Outcome | None]:
        """Of each task its JSON object, or why there is none; None for a large picture, which is to be decoded first."""
        found = self._ask(tasks)
        if found is not None:
            return found
        # The one that is to blame, if one is, takes no others with it.
        died = RefusedError(500, "the service failed at this picture (the process that looked at it died); its log says when")
        return [outcome for task in tasks for outcome in self._ask([task]) or [died]]

    def _ask(self, tasks: Sequence[Task]) -> list[Outcome | None] | None:
        """What the process says; None where it died, and another was started."""
        assert self._connection is not None
        try:
            self._connection.send_bytes(marshal.dumps([(task.work, task.body, _plain(task.pixels)) for task in tasks]))
            told = marshal.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            self.stop()
            logging.getLogger("torchnin.web").error("a process that looked at %d pictures died; another is started", len(tasks))
            self.start()
            return None
        return [RefusedError(*outcome) if isinstance(outcome, tuple) else outcome for outcome in told]

    def stop(self) -> None:
        """End the process."""
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def main(descriptor: str, max_pixels: str) -> None:
    """What such a process does: take the classifier, and answer until the service is gone."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # of a service manager that tells all processes; the service says when it is over
    torch.set_num_threads(1)
    connection = Connection(int(descriptor))
    with contextlib.suppress(EOFError, ConnectionError):
        with tempfile.TemporaryDirectory(prefix="torchnin-serve-") as folder:
            for name, content in marshal.loads(connection.recv_bytes()).items():
                (Path(folder) / name).write_bytes(content)
            looker = Looker(Classifier.load(folder, device="cpu"), int(max_pixels))
        connection.send_bytes(_READY)
        while True:
            told = marshal.loads(connection.recv_bytes())
            found = looker.look([Task(work, body, _tensor(pixels)) for work, body, pixels in told])
            answer = [(outcome.status, outcome.reason) if isinstance(outcome, RefusedError) else outcome for outcome in found]
            connection.send_bytes(marshal.dumps(answer))
    os._exit(0)  # nothing is left to be written, and taking torch apart takes its time


def _plain(pixels: Tensor | None) -> tuple[str, tuple[int, ...], bytes] | None:
    if pixels is None:
        return None
    array = pixels.numpy()
    return array.dtype.str, array.shape, array.tobytes()


def _tensor(plain: tuple[str, tuple[int, ...], bytes] | None) -> Tensor | None:
    return None if plain is None else torch.from_numpy(np.frombuffer(bytearray(plain[2]), plain[0]).reshape(plain[1]))


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


def refusal(error: Exception) -> RefusedError:
    """Why a picture that does not decode is refused."""
    if not isinstance(error, DataError):
        return _failure(error)
    reason = str(error).removeprefix("picture: ")
    return RefusedError(413 if isinstance(error, TooManyPixelsError) else 422, reason)


def _failure(error: Exception) -> RefusedError:
    logging.getLogger("torchnin.web").error("a picture could not be looked at", exc_info=error)
    return RefusedError(500, f"the service failed at this picture ({type(error).__name__}); its log says where")
