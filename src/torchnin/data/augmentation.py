"""Random changes to whole batches of training pictures, on the device that holds them."""

import dataclasses
from typing import Literal

import torch
from jaxtyping import UInt8
from torch import Tensor

from torchnin.values import real, switch, whole

_SHIFT, _ERASE = "a whole number of pixels, at least 0", "a probability, 0 to 1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is changed at random in a training picture before the network sees it."""

    flip: bool | Literal["auto"] = False
    """Mirror left and right, every other picture on average; `auto` does so where the dataset is known to allow it."""
    shift: int = 0
    """Move by up to so many pixels along each axis; what comes in from outside repeats the border."""
    erase: float = 0.0
    """Probability that a rectangle of 2 to 40 % of the picture is filled with noise (Zhong et al., arXiv 1708.04896)."""

    def __post_init__(self) -> None:
        flip = self.flip if isinstance(self.flip, str) and self.flip == "auto" else switch("flip", self.flip, "True, False or 'auto'")
        shift, erase = whole("shift", self.shift, _SHIFT), real("erase", self.erase, _ERASE)
        if shift < 0:
            raise ValueError(f"shift is {shift}; it is {_SHIFT}")
        if not 0 <= erase <= 1:
            raise ValueError(f"erase is {erase}; it is {_ERASE}")
        for name, value in (("flip", flip), ("shift", shift), ("erase", erase)):
            object.__setattr__(self, name, value)

    def __call__(
        self, pictures: UInt8[Tensor, "n c h w"], generator: torch.Generator, part: slice | None = None, whole: int | None = None
    ) -> UInt8[Tensor, "n c h w"]:
        """A changed copy of the batch (the batch itself where nothing is to be changed).

        Args:
            pictures: pixels, 0 to 255; where `flip` is still `auto`, they are not flipped.
            generator: on the pictures' device; the same state gives the same pictures.
            part: where these pictures stand in a batch of `whole` pictures, of which other processes have the rest. What is
                drawn is drawn for the whole batch, so that a picture is changed alike however the batch is spread.
            whole: see `part`; None where the pictures are the whole batch.
        """
        if not len(pictures):  # of a last batch with fewer pictures than there are processes
            return pictures
        part, whole = (slice(None), len(pictures)) if part is None or whole is None else (part, whole)
        if self.flip is True or self.shift:
            pictures = self._moved(pictures, generator, part, whole)
        if self.erase:
            pictures = self._erased(pictures, generator, part, whole)
        return pictures

    def _moved(self, pictures: Tensor, generator: torch.Generator, part: slice, whole: int) -> Tensor:
        count, channels, height, width = pictures.shape
        rows = torch.arange(height, device=pictures.device).expand(count, -1)
        columns = torch.arange(width, device=pictures.device).expand(count, -1)
        if self.flip is True:
            mirrored = torch.rand(whole, 1, dtype=torch.float32, device=pictures.device, generator=generator)[part] < 0.5
            columns = torch.where(mirrored, columns.flip(1), columns)
        if self.shift:
            offsets = torch.randint(-self.shift, self.shift + 1, (2, whole, 1), device=pictures.device, generator=generator)[:, part]
            rows = (rows + offsets[0]).clamp_(0, height - 1)
            columns = (columns + offsets[1]).clamp_(0, width - 1)
        # One flat index a pixel, for all channels: indexing by rows and columns apart takes several times as long.
        places = (rows[:, :, None] * width + columns[:, None, :]).view(count, 1, -1)
        return pictures.reshape(count, channels, -1).gather(2, places.expand(-1, channels, -1)).view(pictures.shape)

    def _erased(self, pictures: Tensor, generator: torch.Generator, part: slice, whole: int) -> Tensor:
        _, channels, height, width = pictures.shape

        def uniform(low: float, high: float) -> Tensor:
            return torch.rand(whole, 1, dtype=torch.float32, device=pictures.device, generator=generator)[part] * (high - low) + low

        chosen = uniform(0.0, 1.0) < self.erase
        area = uniform(0.02, 0.4) * height * width
        aspect = uniform(-1.2, 1.2).exp()  # about 0.3 to 3.3, the paper's range
        tall = (area * aspect).sqrt().clamp_(1, height)
        wide = (area / aspect).sqrt().clamp_(1, width)
        top = uniform(0.0, 1.0) * (height - tall)
        left = uniform(0.0, 1.0) * (width - wide)
        rows = torch.arange(height, device=pictures.device)
        columns = torch.arange(width, device=pictures.device)
        covered_rows = (rows >= top) & (rows < top + tall) & chosen
        covered_columns = (columns >= left) & (columns < left + wide)
        mask = (covered_rows[:, :, None] & covered_columns[:, None, :])[:, None]
        noise = torch.randint(0, 256, (whole, channels, height, width), dtype=torch.uint8, device=pictures.device, generator=generator)[
            part
        ]
        return torch.where(mask, noise, pictures)
