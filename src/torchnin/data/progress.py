"""What reading and downloading tell of how far they have come."""

from collections.abc import Callable

Progress = Callable[[str, int, int | None], None]
"""Called with what is being done, how much of it is done, and the total (None where that is not known)."""


def unheard(what: str, done: int, total: int | None) -> None:
    """A `Progress` for callers that want to hear nothing."""
