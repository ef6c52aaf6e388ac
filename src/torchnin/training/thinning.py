"""Fewer easy pictures: those that the network finds easy are seen less often and count more where they are seen."""

import math

import torch
from torch import Tensor

from torchnin.data import derived_seed

_PLAIN_SHARE = 0.2  # of the epochs at the end, in which every picture is seen again


class Thinning:
    """The order of the pictures when easy ones are left out of a pass with some probability.

    Easy is a picture whose loss, when it was last seen, was below the mean. Where it is kept, its loss counts
    `1 / (1 - share)`, so that the expected gradient stays that of all pictures. An epoch has as many steps as ever: what is
    saved is spent on further passes. The first epoch and the last fifth of them are whole.

    Args:
        num_pictures: in the training set.
        share: probability with which an easy picture is left out of a pass, in (0, 1).
        num_epochs: of the training.
        seed: the run's.
        device: where the losses are kept.

    Source: Qin et al., "InfoBatch: lossless training speed up by unbiased dynamic data pruning" (arXiv 2303.04947).
    """

    def __init__(self, num_pictures: int, share: float, num_epochs: int, seed: int, device: torch.device) -> None:
        self.share, self.seed = share, seed
        self.last_whole = math.ceil((1 - _PLAIN_SHARE) * num_epochs)
        self.losses = torch.full((num_pictures,), math.inf, dtype=torch.float32, device=device)
        self.easy = torch.zeros(num_pictures, dtype=torch.bool, device=device)

    def thinned(self, epoch: int) -> bool:
        """Whether easy pictures are left out in an epoch (from 0)."""
        return 0 < epoch < self.last_whole

    def begin_epoch(self, epoch: int) -> None:
        """Decide which pictures are easy in the epoch that begins."""
        finite = self.losses[torch.isfinite(self.losses)]
        # Written in place: a recorded step reads this very tensor.
        self.easy.copy_(self.losses < finite.mean() if self.thinned(epoch) and len(finite) else torch.zeros_like(self.easy))

    def order(self, epoch: int) -> Tensor | None:
        """The pictures of an epoch in the order in which they are seen, on the host; None where all are seen once."""
        if not self.thinned(epoch):
            return None
        generator = torch.Generator().manual_seed(derived_seed(self.seed, "thinning", epoch))
        easy, count = self.easy.cpu(), len(self.easy)
        passes: list[Tensor] = []
        while sum(map(len, passes)) < count:
            kept = torch.nonzero(~easy | (torch.rand(count, generator=generator, device="cpu") >= self.share)).flatten()
            passes.append(kept[torch.randperm(len(kept), generator=generator, device="cpu")])
        return torch.cat(passes)[:count]

    def weights(self, indices: Tensor) -> Tensor:
        """What the losses of these pictures count."""
        return torch.where(self.easy[indices], 1 / (1 - self.share), 1.0)

    def note(self, indices: Tensor, losses: Tensor) -> None:
        """Take in the losses of the pictures of a step."""
        self.losses[indices] = losses.detach().to(self.losses)

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint keeps."""
        return {"losses": self.losses, "easy": self.easy}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """The inverse of `state`."""
        self.losses.copy_(tensors["losses"])
        self.easy.copy_(tensors["easy"])
