"""What can go wrong while training, by name."""


class TrainingError(RuntimeError):
    """The training cannot go on; the message says why and what to do next."""


class DivergenceError(TrainingError):
    """The loss or a gradient is no longer a finite number."""


class CollapseError(TrainingError):
    """The network stopped learning, and the caller asked to stop then."""


class Interrupted(TrainingError):  # noqa: N818 - an interruption is asked for, not an error of the training
    """A signal asked to stop. Everything is saved; resuming goes on from there."""

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.signal_number = signal_number
