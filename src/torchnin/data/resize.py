"""The one resize rule: stretched, bilinear, antialiased where it shrinks."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# Of shared memory that a block of threads has on every NVIDIA GPU.
_SHARED_BYTES = 48 * 1024


def resize_pixels(batch: Tensor, height: int, width: int) -> Tensor:
    """Stretch a batch to exactly (height, width): bilinear, antialiased where it shrinks, as Pillow's BILINEAR does.

    `batch` is uint8 or float of shape (N, C, h, w), 0 to 255; the result is float32 of shape (N, C, height, width), 0 to 255, not rounded.
    The aspect ratio is not kept, so nothing is cut off. A batch of that size already comes back as float32, otherwise untouched.
    """
    pixels = batch.to(torch.float32)
    if tuple(pixels.shape[-2:]) == (height, width):
        return pixels
    if pixels.device.type == "cuda" and _is_too_much(pixels, height, width):
        return resize_pixels(pixels.cpu(), height, width).to(pixels.device)
    return F.interpolate(pixels, size=(height, width), mode="bilinear", align_corners=False, antialias=True)


def _is_too_much(pixels: Tensor, height: int, width: int) -> bool:
    """Whether torch's kernel for NVIDIA GPUs refuses to shrink by so much: the windows of a block's pixels fill its shared memory.

    Source: pytorch, aten/src/ATen/native/cuda/UpSampleBilinear2d.cu; issue 103589.
    """
    reach = [2 * math.ceil(max(1.0, found / wanted)) + 1 for found, wanted in zip(pixels.shape[-2:], (height, width), strict=True)]
    return (33 * reach[0] + 32 * reach[1]) * 4 > _SHARED_BYTES


def resize_bytes(images: np.ndarray, height: int, width: int) -> np.ndarray:
    """resize_pixels for uint8 arrays of shape (N, C, h, w), rounded to uint8; in pieces, so that floats never fill the memory."""
    if images.shape[2:] == (height, width):
        return images
    # Channels are resized independently, so planes are the finest pieces.
    planes = images.reshape(-1, 1, *images.shape[2:])
    result = np.empty((len(planes), 1, height, width), dtype=np.uint8)
    rows = max(1, (1 << 24) // max(images.shape[2] * images.shape[3], height * width))
    for start in range(0, len(planes), rows):
        piece = torch.from_numpy(np.array(planes[start : start + rows]))
        result[start : start + rows] = resize_pixels(piece, height, width).round_().clamp_(0, 255).to(torch.uint8).numpy()
    return result.reshape(*images.shape[:2], height, width)
