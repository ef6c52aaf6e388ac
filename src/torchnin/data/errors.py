"""The one error of the data room."""

import os


class DataError(ValueError):
    """Data on disk is missing or broken, or pictures, labels and class names contradict each other.

    The message names the file (or the array), what was expected, what was found, and what to do next.
    """


class TooManyPixelsError(DataError):
    """A picture has more pixels than are decoded; its header says so, its pixels were not read."""


def broken_file(path: str | os.PathLike[str], *, expected: str, found: str, next_step: str) -> DataError:
    """The DataError of a file that is not what it should be, in the one wording that all readers share."""
    return DataError(f"{os.fspath(path)}: expected {expected}, found {found}. {next_step}")
