from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from torchnin.data import decode_picture, resize_pixels
from torchnin.data.readers.idx import read_idx
from torchnin.data.resize import _is_too_much, resize_bytes


@pytest.mark.parametrize("size", [(224, 224), (112, 112), (14, 14), (96, 50), (20, 40), (28, 31)])
def test_resizing_is_pillows_within_one_grey_level(fashion_mnist: Path, size: tuple[int, int]) -> None:
    pictures = read_idx(fashion_mnist / "t10k-images-idx3-ubyte.gz", 3)[:64]
    ours = resize_pixels(torch.from_numpy(pictures)[:, None], *size)
    assert ours.dtype == torch.float32
    theirs = np.stack([np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BILINEAR)) for picture in pictures])
    assert abs(ours[:, 0].numpy() - theirs).max() < 1.5
    assert abs(ours[:, 0].round().numpy() - theirs).max() <= 1
    assert (resize_bytes(pictures[:, None], *size) == ours.round().numpy()).all()


def test_photos_are_resized_as_pillow_does_it(shared_data: Path) -> None:
    for path in sorted((shared_data / "sign-language-digits" / "7").iterdir())[:8]:
        picture = decode_picture(path, 3)
        ours = resize_pixels(torch.from_numpy(picture)[None], 64, 48).round()[0].numpy()
        theirs = np.asarray(Image.open(path).resize((48, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
        assert abs(ours - theirs).max() <= 1


def test_a_batch_of_that_size_is_untouched() -> None:
    batch = torch.arange(24 * 32).remainder(256).to(torch.uint8).view(1, 1, 24, 32)
    assert (resize_pixels(batch, 24, 32) == batch).all()
    assert (resize_bytes(batch.numpy(), 24, 32) == batch.numpy()).all()


def test_what_a_gpu_refuses_to_shrink_is_known() -> None:
    for size, expected in (((1080, 1920), False), ((2660, 2660), True), ((3000, 4000), True), ((4000, 28), False), ((9000, 28), True)):
        assert _is_too_much(torch.empty(1, 1, *size, device="meta"), 28, 28) == expected, size
