"""From an ImageDataset to batches on the device: resident there where it fits, streamed from the host where it does not."""

import dataclasses
import hashlib
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from torchnin.data.dataset import ImageDataset
from torchnin.data.errors import DataError
from torchnin.data.mapped import MappedPictures, Pictures, mapped_file

# Of a GPU's free memory; the rest is the network's.
_RESIDENT_SHARE = 0.4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Some pictures with their labels, on the device; where several processes share a batch, the pictures of this one's part."""

    pictures: UInt8[Tensor, "m c h w"]
    """Pixels, 0 to 255, as they lie in the dataset: those of `part`."""
    labels: Int64[Tensor, " n"]
    """0 to num_classes - 1, of the whole batch."""
    indices: Int64[Tensor, " n"]
    """Where the pictures of the whole batch stand in the dataset."""
    part: slice
    """Which pictures of the batch are here: all of them, where one process trains alone."""


class Batches:
    """The batches of a dataset, epoch after epoch, in an order that seed and epoch alone decide.

    A dataset that fits is copied to the device once and indexed there; a larger one stays with the host (memory-mapped
    arrays stay on disk) and each batch is copied on its own.

    Args:
        dataset: the pictures.
        batch_size: pictures in a batch. The last batch of an epoch holds what is left; a single picture left over joins
            the batch before it, because batch normalisation needs two.
        device: where the batches are wanted.
        seed: decides the order of each epoch; None keeps the dataset's order.
        share: `(which, of)`: only the `which`-th (from 0) of `of` equal parts of every batch is read, for one of so many processes.

    Raises:
        DataError: a file that the pictures are read from as they are needed was changed meanwhile.
    """

    def __init__(
        self, dataset: ImageDataset, *, batch_size: int, device: torch.device, seed: int | None = None, share: tuple[int, int] = (0, 1)
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.dataset, self.batch_size, self.device, self.seed, self.share = dataset, batch_size, device, seed, share
        self.resident = _fits(dataset.images, device)
        self._labels = torch.tensor(dataset.labels, device=device)
        self._images = torch.from_numpy(np.ascontiguousarray(dataset.images)).to(device) if self.resident else None
        self._file = None if self.resident else _File.under(dataset.images)
        full, left = divmod(len(dataset), batch_size)
        self.num_batches = full + (1 if left > 1 or (left and not full) else 0)

    def epoch(self, epoch: int = 0, start: int = 0, order: Tensor | None = None) -> Iterator[Batch]:
        """The batches of an epoch, from the `start`-th on, so that an interrupted epoch goes on where it stopped.

        `order` (int64, as many as there are pictures, repetitions allowed) takes the place of the order that the seed decides.
        """
        count = len(self.dataset)
        if order is not None:
            assert len(order) == count
        elif self.seed is None:
            order = torch.arange(count, device="cpu")
        else:
            generator = torch.Generator().manual_seed(derived_seed(self.seed, "order", epoch))
            order = torch.randperm(count, generator=generator, device="cpu")
        if self._images is not None:
            order = order.to(self.device)
            for chosen, part in self._parts(order, start):
                yield Batch(pictures=self._images[chosen[part]], labels=self._labels[chosen], indices=chosen, part=part)
            return
        # The next batch is read while the caller works on the one before it: a disk takes its time.
        with ThreadPoolExecutor(1, thread_name_prefix="batches") as reader:
            waiting: deque[tuple[Tensor, slice, Future[Tensor]]] = deque()
            for chosen, part in self._parts(order, start):
                waiting.append((chosen, part, reader.submit(self._read, chosen[part])))
                if len(waiting) > 1:
                    yield self._streamed(*waiting.popleft())
            while waiting:
                yield self._streamed(*waiting.popleft())

    def some(self, count: int) -> Tensor:
        """Up to `count` of the pictures, on the device, the same for every process; which ones, the seed decides, if there is one.

        Returns:
            uint8 `(n, c, h, w)`.
        """
        total = len(self.dataset)
        chosen = torch.arange(total, device="cpu")
        if self.seed is not None:
            generator = torch.Generator().manual_seed(derived_seed(self.seed, "some"))
            chosen = torch.randperm(total, generator=generator, device="cpu")
        chosen = chosen[:count].sort().values
        return self._read(chosen).to(self.device) if self._images is None else self._images[chosen.to(self.device)]

    def _parts(self, order: Tensor, start: int) -> Iterator[tuple[Tensor, slice]]:
        """Of each batch from the `start`-th on its pictures' places in the dataset, and which of them are read here."""
        for index in range(start, self.num_batches):
            end = (index + 1) * self.batch_size if index < self.num_batches - 1 else len(order)
            chosen = order[index * self.batch_size : end]
            which, of = self.share
            yield chosen, slice(len(chosen) * which // of, len(chosen) * (which + 1) // of)

    def _read(self, places: Tensor) -> Tensor:
        if self._file is not None:
            self._file.check()
        return torch.from_numpy(np.ascontiguousarray(self.dataset.images[places.numpy()]))

    def _streamed(self, chosen: Tensor, part: slice, pictures: "Future[Tensor]") -> Batch:
        chosen = chosen.to(self.device)
        return Batch(pictures=pictures.result().to(self.device), labels=self._labels[chosen], indices=chosen, part=part)


@dataclasses.dataclass(frozen=True)
class _File:
    """A file whose pixels are read as they are needed, as it was when the reading began."""

    path: str
    state: tuple[int, int, int]

    @classmethod
    def under(cls, images: Pictures) -> "_File | None":
        """The file that an array's values lie in, or None."""
        mapped = mapped_file(images)
        return None if mapped is None else cls(mapped, cls._state(mapped))

    @staticmethod
    def _state(path: str) -> tuple[int, int, int]:
        found = os.stat(path)
        return found.st_ino, found.st_size, found.st_mtime_ns

    def check(self) -> None:
        """Raise where it is not the same any more; what was cut off would otherwise end the process without a word."""
        try:
            same = self._state(self.path) == self.state
        except FileNotFoundError:
            same = False
        if not same:
            raise DataError(
                f"{self.path}: expected the pictures as they were when the reading began, found the file changed since. "
                "Put it back and go on with --resume, or begin anew."
            )


def derived_seed(seed: int, purpose: str, index: int = 0) -> int:
    """A seed of its own for each purpose and index (epoch or step), so that no random state needs to be carried along."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _fits(images: Pictures, device: torch.device) -> bool:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return images.nbytes < _RESIDENT_SHARE * free
    # The host's own arrays are used where they lie; those of a file are read from there, which the system pages in and out.
    return not isinstance(images, MappedPictures) and mapped_file(images) is None and images.flags.writeable
