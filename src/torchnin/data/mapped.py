"""Pictures that stay in their memory-mapped file: some of them, or in another form, read as they are needed."""

from collections.abc import Callable
from typing import Any

import numpy as np

_CHUNK_BYTES = 1 << 26


class MappedPictures:
    """Some pictures of a memory-mapped array, in the form that is wanted of them; indexed as an array, it gives arrays.

    Only the places are kept in memory, 8 bytes a picture. `np.asarray` reads all.

    Args:
        array: uint8 of shape (N, C, H, W), memory-mapped.
        places: int64, which pictures of it, in this order; None takes all as they lie.
        bring: what is made of pictures when they are read, for instance another size; None leaves them.
        shape: (C, H, W) of what it makes.
    """

    dtype = np.dtype(np.uint8)
    ndim = 4

    def __init__(
        self,
        array: np.ndarray,
        places: np.ndarray | None = None,
        bring: Callable[[np.ndarray], np.ndarray] | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> None:
        self.array, self._places, self._bring = array, places, bring
        self.shape: tuple[int, ...] = (len(array if places is None else places), *(shape or array.shape[1:]))

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"MappedPictures{self.shape} of {mapped_file(self)}"

    @property
    def nbytes(self) -> int:
        """Bytes that all of them would take in memory."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __getitem__(self, key: Any) -> np.ndarray:
        first, rest = _split(key, self.ndim)
        if isinstance(first, slice):
            read = self._read(first)
            return read[(slice(None), *rest)] if rest else read
        places = np.asarray(first, dtype=np.int64 if isinstance(first, list) and not first else None)
        if places.dtype == np.bool_ and places.shape == self.shape[:1]:
            places = np.flatnonzero(places)
        if places.dtype.kind not in "iu":
            raise IndexError(f"pictures are indexed by whole numbers, slices, or one mask of all {len(self):,}, and not by {first!r}")
        # The pictures that were read are numbered in the shape of the index, so that numpy combines it with the others as usual.
        read = self._read(places.reshape(-1))
        return read[(np.arange(places.size).reshape(places.shape) if places.ndim else 0, *rest)] if rest or places.ndim != 1 else read

    def _read(self, which: Any) -> np.ndarray:
        read = self.array[which if self._places is None else self._places[which]]
        return read if self._bring is None else self._bring(read)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        made = np.empty(self.shape, dtype=self.dtype)
        rows = max(1, _CHUNK_BYTES // max(made[:1].nbytes, self.array[:1].nbytes))  # what they are made of may be far larger
        for start in range(0, len(self), rows):
            made[start : start + rows] = self[start : start + rows]
        return made if dtype is None else made.astype(dtype)

    def select(self, chosen: np.ndarray) -> "MappedPictures":
        """The pictures at these positions (int64, or a boolean mask), in that order."""
        places = np.arange(len(self.array)) if self._places is None else self._places
        return MappedPictures(self.array, places[chosen], self._bring, self.shape[1:])

    def brought(self, bring: Callable[[np.ndarray], np.ndarray], shape: tuple[int, ...]) -> "MappedPictures":
        """The same pictures, of which something else, (C, H, W) of `shape`, is made when they are read."""
        before = self._bring
        after = bring if before is None else lambda pictures: bring(before(pictures))
        return MappedPictures(self.array, self._places, after, shape)


def _split(key: Any, axes: int) -> tuple[Any, tuple[Any, ...]]:
    """The index of the first axis, and those of the others."""
    keys = key if isinstance(key, tuple) else (key,)
    if keys and keys[0] is not Ellipsis:
        return keys[0], keys[1:]
    rest = keys[1:]
    taken = sum(each.ndim if isinstance(each, np.ndarray) and each.dtype == np.bool_ else each is not None for each in rest)
    return (slice(None), (Ellipsis, *rest) if rest else ()) if taken < axes else (rest[0], rest[1:])


Pictures = np.ndarray | MappedPictures
"""In memory, or in a file."""


def as_mapped(images: Pictures) -> MappedPictures | None:
    """Pictures in a memory-mapped file as such; None where they lie in memory."""
    if isinstance(images, MappedPictures):
        return images
    return None if mapped_file(images) is None else MappedPictures(images)


def mapped_file(images: Pictures) -> str | None:
    """The file that a memory-mapped array's values lie in; None where they lie in memory."""
    base: object = images.array if isinstance(images, MappedPictures) else images
    while base is not None:
        if isinstance(base, np.memmap) and base.filename is not None:
            return str(base.filename)
        base = getattr(base, "base", None)
    return None
