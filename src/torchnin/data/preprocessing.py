"""From pixels to what the network sees: one definition for training, prediction, export and service."""

import dataclasses
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Num, UInt8
from torch import Tensor

from torchnin.data.dataset import ImageDataset
from torchnin.data.mapped import Pictures
from torchnin.data.pictures import PictureSource, decode_picture
from torchnin.data.resize import resize_pixels
from torchnin.values import real, whole

# Values at a time when their mean is taken: bounds the memory, not the result.
_CHUNK_VALUES = 1 << 22
_ROW = "one number per channel"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """Resize, scale and normalise; always the same arithmetic, wherever the network runs.

    The resize rule is one: the picture is stretched to exactly (height, width) by bilinear interpolation, antialiased
    where it shrinks, as Pillow's BILINEAR does. Nothing is cut off, so class maps lie over the whole picture.
    """

    channels: int
    """1 grey, 3 colour. A picture of the other kind is converted: grey is repeated, colour becomes ITU-R 601 luma."""
    height: int
    """Pixels from top to bottom that the network sees."""
    width: int
    """Pixels from left to right that the network sees."""
    mean: tuple[float, ...]
    """Per channel, subtracted from pixels in [0, 1]."""
    std: tuple[float, ...]
    """Per channel, in the same units; what is left is divided by it."""
    scale: float = 1 / 255
    """Brings pixels 0 to 255 to [0, 1]."""

    def __post_init__(self) -> None:
        # Of numpy's numbers no record can be written, and of a list no hash.
        for name in ("channels", "height", "width"):
            object.__setattr__(self, name, whole(name, getattr(self, name), "a whole number, at least 1"))
        for name in ("mean", "std"):
            given = getattr(self, name)
            if not isinstance(given, Iterable) or not getattr(given, "ndim", 1):
                raise ValueError(f"{name} is {given!r}; it is {_ROW}, such as (0.5,)")
            object.__setattr__(self, name, tuple(real(name, value, _ROW) for value in given))
        object.__setattr__(self, "scale", real("scale", self.scale, "a number above 0"))
        if min(self.channels, self.height, self.width) < 1:
            raise ValueError(f"channels, height, width are {self.channels}, {self.height}, {self.width}; each must be at least 1")
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean has {len(self.mean)} values and std {len(self.std)}; each needs one per channel, {self.channels}")
        if not all(np.isfinite(value) for value in (*self.mean, *self.std, self.scale)) or min(self.std) <= 0 or self.scale <= 0:
            raise ValueError(f"mean {self.mean}, std {self.std}, scale {self.scale}: all must be finite, std and scale above 0")

    @classmethod
    def of(cls, dataset: ImageDataset, *, image_size: int | None = None, normalise: bool = True) -> "Preprocessing":
        """The preprocessing that fits a dataset: its size (or a square of `image_size` pixels), the mean and std of its pixels.

        `normalise=False` leaves pixels in [0, 1], as the notebooks do.
        """
        channels = dataset.in_channels
        height, width = (image_size, image_size) if image_size is not None else dataset.image_size
        mean, std = (0.0,) * channels, (1.0,) * channels
        if normalise:
            mean, std = _statistics(dataset.images)
        return cls(channels=channels, height=height, width=width, mean=mean, std=std)

    def pixels(self, picture: PictureSource) -> UInt8[Tensor, "{self.channels} h w"]:
        """Decode one picture (path, bytes, PIL image, array or tensor) to the network's channels, at its own size.

        Raises:
            DataError: the picture does not decode; the message names it.
        """
        return torch.from_numpy(decode_picture(picture, self.channels))

    def resize(self, batch: Num[Tensor, "n {self.channels} h w"]) -> Float32[Tensor, "n {self.channels} {self.height} {self.width}"]:
        """Stretch a batch of pixels, 0 to 255, to the size that the network sees; not rounded."""
        return resize_pixels(batch, self.height, self.width)

    def normalise(self, pixels: Float32[Tensor, "n {self.channels} h w"]) -> Float32[Tensor, "n {self.channels} h w"]:
        """`(pixels * scale - mean) / std`, as one multiplication and one addition per value."""
        factor, offset = self._broadcast
        if pixels.device.type != "cpu":
            if pixels.device not in self._elsewhere:
                with torch.inference_mode(False):
                    self._elsewhere[pixels.device] = factor.to(pixels.device), offset.to(pixels.device)
            factor, offset = self._elsewhere[pixels.device]
        return torch.addcmul(offset, pixels, factor)

    @cached_property
    def _elsewhere(self) -> dict[torch.device, tuple[Tensor, Tensor]]:
        """Factor and offset on other devices, whose work stands still while they are copied there."""
        return {}

    @cached_property
    def _broadcast(self) -> tuple[Tensor, Tensor]:
        """Factor and offset, made once: that takes longer than to normalise a small picture."""
        with torch.inference_mode(False):  # both are used in training too
            factor, offset = self.factor_and_offset()
        return factor.view(1, -1, 1, 1), offset.view(1, -1, 1, 1)

    def factor_and_offset(self) -> tuple[Float32[Tensor, "{self.channels}"], Float32[Tensor, "{self.channels}"]]:
        """Per channel what `normalise` multiplies pixels by, and what it then adds."""
        mean = torch.tensor(self.mean, dtype=torch.float64, device="cpu")
        std = torch.tensor(self.std, dtype=torch.float64, device="cpu")
        return (self.scale / std).to(torch.float32), (-mean / std).to(torch.float32)

    def __call__(self, batch: Num[Tensor, "n {self.channels} h w"]) -> Float32[Tensor, "n {self.channels} {self.height} {self.width}"]:
        """Pixels of any size, 0 to 255, to what the network sees."""
        return self.normalise(self.resize(batch))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to a classifier's `config.json`."""
        return {**dataclasses.asdict(self), "mean": list(self.mean), "std": list(self.std), "resize": "stretch, bilinear, antialiased"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Preprocessing":
        """The inverse of `to_dict`.

        Raises:
            ValueError: a field is unknown, missing or out of range.
        """
        try:
            fields = {key: value for key, value in values.items() if key != "resize"}
            return cls(**{**fields, "mean": tuple(map(float, fields["mean"])), "std": tuple(map(float, fields["std"]))})
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"this is no description of a preprocessing: {error}; expected the fields of Preprocessing") from error


def _statistics(images: Pictures) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel, pixels in [0, 1]; exact, from the counts of the 256 grey levels."""
    counts = np.zeros((images.shape[1], 256), dtype=np.int64)
    rows = max(1, _CHUNK_VALUES // max(1, images[:1].size))
    for start in range(0, len(images), rows):
        chunk = images[start : start + rows]
        for channel in range(images.shape[1]):
            counts[channel] += np.bincount(chunk[:, channel].ravel(), minlength=256)
    levels = np.arange(256) / 255
    total = counts.sum(1)
    mean = counts @ levels / total
    std = np.sqrt(np.maximum(counts @ levels**2 / total - mean**2, 0))
    # A channel of one single grey level has nothing to be scaled by.
    return tuple(map(float, mean)), tuple(float(value) if value > 1e-6 else 1.0 for value in std)
