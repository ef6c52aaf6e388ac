"""Ctrl-C and a scheduler's SIGTERM, taken between two steps."""

import signal
import threading
import time
from types import FrameType
from typing import Any


class StopSignal:
    """While open, SIGINT and SIGTERM are noted instead of breaking into a step; a second one breaks in as usual.

    Args:
        echo: seconds in which a further signal counts as the same one, as where a scheduler and torchrun both pass it on.
    """

    def __init__(self, echo: float = 0.0) -> None:
        self.received: int = 0
        self._echo = echo
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.received:
            self.received, self._since = number, now
            if not self._echo:
                self._restore()
        elif now - self._since >= self._echo:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def __exit__(self, *_: object) -> None:
        self._restore()
