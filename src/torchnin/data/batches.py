"""From an ImageDataset to batches on the device: resident there where it fits, streamed from the host where it does not."""

import dataclasses
import hashlib
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from torchnin.data.dataset import ImageDataset

# Of a GPU's free memory; the rest is the network's.
_RESIDENT_SHARE = 0.4


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batch:
    """Some pictures with their labels, on the device."""

    pictures: UInt8[Tensor, "n c h w"]
    """Pixels, 0 to 255, as they lie in the dataset."""
    labels: Int64[Tensor, " n"]
    """0 to num_classes - 1."""
    indices: Int64[Tensor, " n"]
    """Where the pictures stand in the dataset."""


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
    """

    def __init__(self, dataset: ImageDataset, *, batch_size: int, device: torch.device, seed: int | None = None) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
        self.dataset, self.batch_size, self.device, self.seed = dataset, batch_size, device, seed
        self.resident = _fits(dataset.images, device)
        self._labels = torch.tensor(dataset.labels, device=device)
        self._images = torch.from_numpy(np.ascontiguousarray(dataset.images)).to(device) if self.resident else None
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
            order = torch.arange(count)
        else:
            order = torch.randperm(count, generator=torch.Generator().manual_seed(derived_seed(self.seed, "order", epoch)))
        if self._images is not None:
            order = order.to(self.device)
        for index in range(start, self.num_batches):
            end = (index + 1) * self.batch_size if index < self.num_batches - 1 else count
            chosen = order[index * self.batch_size : end]
            if self._images is not None:
                yield Batch(pictures=self._images[chosen], labels=self._labels[chosen], indices=chosen)
            else:
                pictures = torch.from_numpy(np.ascontiguousarray(self.dataset.images[chosen.numpy()]))
                chosen = chosen.to(self.device)
                yield Batch(pictures=pictures.to(self.device), labels=self._labels[chosen], indices=chosen)


def derived_seed(seed: int, purpose: str, index: int = 0) -> int:
    """A seed of its own for each purpose and index (epoch or step), so that no random state needs to be carried along."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _fits(images: np.ndarray, device: torch.device) -> bool:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return images.nbytes < _RESIDENT_SHARE * free
    # The host's own arrays are used where they lie; read-only ones are memory-mapped files, which the system pages in.
    return images.flags.writeable
