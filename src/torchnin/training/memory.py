"""Memory that is short where smaller pieces do not help."""

import contextlib
from collections.abc import Iterator

from torchnin.device import is_out_of_memory
from torchnin.training.errors import OutOfMemoryError, TrainingError


@contextlib.contextmanager
def named_when_short() -> Iterator[None]:
    """Around a training: memory that is short where smaller pieces do not help, as in reading the data, is said in words.

    Raises:
        OutOfMemoryError: so it is.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, TrainingError) or not is_out_of_memory(error):
            raise
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise OutOfMemoryError(
            f"out of memory ({said}); what was learned up to the last checkpoint, if there is one, is saved: "
            "go on with --resume where more memory is free"
        ) from error
