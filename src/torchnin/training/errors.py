"""What can go wrong while training, by name."""


class TrainingError(RuntimeError):
    """The training cannot go on; the message says why and what to do next."""

    everywhere = False
    """Whether every one of several processes raises it, so that it is enough when the first says it."""


class DivergenceError(TrainingError):
    """The loss or a gradient is no longer a finite number."""

    everywhere = True

    def __init__(self, message: str, step: int) -> None:
        super().__init__(message)
        self.step = step
        """The step that led to it, from 1."""


class CollapseError(TrainingError):
    """The network stopped learning, and the caller asked to stop then."""

    everywhere = True


class Interrupted(KeyboardInterrupt):
    """A signal asked to stop. Everything is saved; resuming goes on from there.

    No `Exception`, so that what goes on after any error, as a search over recipes does, does not go on after Ctrl-C.
    """

    everywhere = True

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number


class OutOfMemoryError(TrainingError):
    """There was no memory for what had to be computed, and it could not be, or was not to be, done in smaller pieces."""


class LostProcessError(TrainingError):
    """Of several processes that train together, another ended or does not answer."""


class EndedElsewhere(TrainingError):  # noqa: N818 - the error is another process's
    """Another of several processes could not go on, and says why."""

    everywhere = True
