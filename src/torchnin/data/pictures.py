"""From one picture, in whatever form it comes, to unsigned bytes. Imports no torch, as an exported classifier needs none."""

import io
import os
import re
import sys
import threading
import warnings
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Union, cast

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from torchnin.data.errors import DataError, TooManyPixelsError
from torchnin.files import exists, is_file

if TYPE_CHECKING:
    import torch

SUFFIXES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"))
"""The file names that count as pictures in a folder, in lower case."""

MAX_PIXELS = 64_000_000
"""The largest picture that is decoded, height times width; a larger one is refused before its pixels are read."""

# The same for BMP files in runs, which Pillow decodes in Python: a hundred bytes that promise MAX_PIXELS would hold a thread for seconds.
_MOST_PIXELS_IN_RUNS = 4_000_000

# Only these decoders see a file, whatever its name says: others that Pillow has would start programs (EPS) or are never met as photos.
# The first five are what Image.preinit() loads; at one that is not there yet Pillow loads all of its forty.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "WEBP", "TIFF")
# EXIF tag 0x0112; values 5 to 8 swap height and width.
_ORIENTATION_TAG = 0x0112
_TIFF_WIDTH, _TIFF_HEIGHT, _TIFF_PHOTOMETRIC = 256, 257, 262
# Where a file says how the camera was held, by these names among what Pillow knows of it; a TIFF has it in its tags.
_ORIENTED = ("exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp")
# Of PNG files with so many bits, Pillow brings the levels to 0..255 and leaves the transparent one as it is in the file: how many there
# are, and what one of them becomes.
_GREY_LEVELS = {"L;2": (4, 85), "L;4": (16, 17)}
_ACCEPTED_ARRAYS = "uint8 of shape (H, W), (H, W, C) or (C, H, W) with 1, 3 or 4 channels, 0 to 255"

PictureFile = str | os.PathLike[str] | bytes | bytearray | Image.Image
"""A picture that Pillow decodes: a path, the bytes of a file, a PIL image."""
PICTURE_FILES = (bytes, str, bytearray, Image.Image, os.PathLike)
"""Its types, those that come most first."""
PictureSource = Union[PictureFile, np.ndarray, "torch.Tensor"]
"""What counts as a picture: a path, the bytes of a file, a PIL image, an array or a tensor."""


def decode_picture(source: PictureSource, channels: int) -> np.ndarray:
    """Decode one picture to uint8 of shape (C, H, W), 0 to 255.

    Alpha is composited over white, 16-bit grey is scaled by 1/257, EXIF rotation is applied, of an animation the first frame is taken;
    grey becomes colour by repetition, colour becomes grey by ITU-R 601 luma (299 R + 587 G + 114 B over 1000).

    Args:
        source: a path, the bytes of a file, a PIL image; or an array or tensor, uint8 of shape (H, W), (H, W, C) or (C, H, W) with 1, 3
            or 4 channels. Where both readings fit, as in (3, H, 3), (H, W, C) wins.
        channels: 1 (grey) or 3 (red, green, blue); any other number is for arrays that have exactly as many.

    Raises:
        DataError: a file does not decode, or has more than MAX_PIXELS pixels; the message names it and the reason.
        ValueError: an array has a shape or type that is no picture, or `channels` does not suit it.
        TypeError: `source` is none of these.
    """
    imported = sys.modules.get("torch")  # where it was not imported, nothing is a tensor
    if imported is not None and isinstance(source, imported.Tensor):
        source = array_of_tensor(source)
    if channels not in (1, 3):
        if isinstance(source, np.ndarray) and source.dtype == np.uint8 and source.ndim == 3 and channels in source.shape[::2]:
            # A network of any other channel count takes arrays that have exactly its own.
            return np.array(source if source.shape[2] != channels else source.transpose(2, 0, 1), order="C")
        raise ValueError(
            f"channels: expected 1 (grey) or 3 (colour), found {channels!r}. Pictures of other channel counts cannot be decoded from files."
        )
    if isinstance(source, np.ndarray):
        if source.dtype == np.uint8 and source.ndim == 3 and source.size and len(source) == channels and source.shape[2] not in (1, 3, 4):
            return np.array(source, order="C")  # as what follows, for what comes most, without its steps
        return _to_channels(_from_array(source), channels)
    if not isinstance(source, PICTURE_FILES):
        raise TypeError(f"a picture is a path, a file's bytes, a PIL image, an array or a tensor, and not of type {type(source).__name__}")
    with _QUIET:
        return decode_quietly(source, channels)


def decode_quietly(source: PictureFile, channels: int) -> np.ndarray:
    """decode_picture for a file, bytes or a PIL image, with Pillow's warnings as they are: for many pictures under `quiet_pillow()`."""
    try:
        if isinstance(source, Image.Image):
            return _to_channels(_first_frame(source), channels)
        with _open(source) as picture:
            return _to_channels(_first_frame(picture, ours=True), channels)
    except DataError as error:
        raise DataError(f"{_named(source)}: {error}") from error
    # Fuzzed files make decoders raise almost anything; none of it may escape as anything but the one error that names the file.
    except Exception as error:
        raise DataError(f"{_named(source)}: {_reason(error)}") from error


def open_quietly(source: str | os.PathLike[str] | bytes | bytearray, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """A picture of which only the header was read: `decode_picture` takes it, its `size` is (width, height).

    Raises TooManyPixelsError where the header promises more than `max_pixels`, DataError as decode_picture does.
    """
    try:
        return _open(source, max_pixels)
    except DataError as error:
        raise type(error)(f"{_named(source)}: {error}") from error
    except Exception as error:
        kind = TooManyPixelsError if isinstance(error, Image.DecompressionBombError) else DataError
        raise kind(f"{_named(source)}: {_reason(error, max_pixels)}") from error


def measure_quietly(source: str | os.PathLike[str]) -> tuple[int, int, bool]:
    """Height, width (after EXIF rotation) and whether it is grey, from the header alone. Raises DataError as decode_picture does."""
    try:
        with _open(source) as picture:
            width, height = _stored_size(picture)
            if _orientation(picture) in (5, 6, 7, 8):
                width, height = height, width
            return height, width, _is_grey(picture)
    except DataError as error:
        raise DataError(f"{_named(source)}: {error}") from error
    except Exception as error:
        raise DataError(f"{_named(source)}: {_reason(error)}") from error


def convert_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """Bring uint8 pictures of shape (..., C, H, W) to `channels` by decode_picture's rule: repetition, or ITU-R 601 luma.

    Raises ValueError where neither applies.
    """
    found = images.shape[-3]
    if found == channels:
        return images
    if found == 1 and channels == 3:
        return np.repeat(images, 3, axis=-3)
    if found == 3 and channels == 1:
        # Pillow's fixed-point luma, so that arrays and files of the same picture agree to the bit.
        red, green, blue = (images[..., index : index + 1, :, :].astype(np.uint32) for index in range(3))
        return ((19595 * red + 38470 * green + 7471 * blue + 0x8000) >> 16).astype(np.uint8)
    raise ValueError(
        f"channels: expected 1 or 3 for pictures of {found} channels, found {channels!r}. "
        "Only grey and colour are converted into each other."
    )


class _QuietPillow:
    """Silences Pillow's warnings about metadata and large pictures while any thread is inside.

    The list of warning filters belongs to the process: the first one in adds to it and the last one out takes that away again. By
    `warnings.catch_warnings` it would take a tenth of what decoding a small picture does, and undo what other threads do meanwhile.
    """

    _RULE = ("ignore", None, Warning, re.compile("PIL"), 0)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._filters: list[Any] = []

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._filters = cast("list[Any]", warnings.filters)
                self._filters.insert(0, self._RULE)
            self._inside += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0 and self._RULE in self._filters:  # unless someone has emptied it
                self._filters.remove(self._RULE)


_QUIET = _QuietPillow()


def quiet_pillow() -> _QuietPillow:
    """A context in which Pillow's warnings stay quiet, in every thread: what matters of them is raised as DataError."""
    return _QUIET


def _open(source: str | os.PathLike[str] | bytes | bytearray, max_pixels: int = MAX_PIXELS) -> Image.Image:
    Image.preinit()
    if isinstance(source, bytes | bytearray):
        if not source:
            raise DataError("expected a picture, found 0 bytes.")
        picture = Image.open(io.BytesIO(source), formats=_FORMATS)
    else:
        if not os.fspath(source):
            raise DataError("expected a picture, found an empty path.")
        path = Path(source)
        if not is_file(path):
            raise DataError(
                "expected a picture, found a folder or a special file." if exists(path) else "expected a picture, found no such file."
            )
        if path.stat().st_size == 0:
            raise DataError("expected a picture, found 0 bytes.")
        picture = Image.open(path, formats=_FORMATS)
    _check_size(picture.size, max_pixels)
    if picture.width * picture.height > _MOST_PIXELS_IN_RUNS and any(tile[0] == "bmp_rle" for tile in getattr(picture, "tile", ())):
        raise TooManyPixelsError(
            f"expected at most {_MOST_PIXELS_IN_RUNS:,} pixels of a BMP file that is compressed in runs (RLE), found "
            f"{picture.width * picture.height:,}. Save it as PNG."
        )
    return picture


def _stored_size(picture: Image.Image) -> tuple[int, int]:
    """Width and height as the pixels lie in the file: of a TIFF, newer Pillows give those of the upright picture at once."""
    tags = getattr(picture, "tag_v2", None)
    return picture.size if tags is None else (tags[_TIFF_WIDTH], tags[_TIFF_HEIGHT])


def _check_size(size: tuple[int, int], max_pixels: int = MAX_PIXELS) -> None:
    if size[0] * size[1] > max_pixels:
        raise TooManyPixelsError(
            f"expected at most {max_pixels:,} pixels, found {size[0] * size[1]:,} ({size[0]} x {size[1]}). Shrink the picture first."
        )


def _may_be_turned(picture: Image.Image) -> bool:
    """Whether there is anything that may say how the camera was held: to read it where there is nothing takes a fifth of a small picture's
    decoding. What somebody asked for, and may have changed since, Pillow keeps as `_exif`.
    """
    told = hasattr(picture, "tag_v2") or getattr(picture, "_exif", None) is not None
    return told or any(name in picture.info for name in _ORIENTED)


def _orientation(picture: Image.Image) -> int:
    """How the camera was held, by EXIF; as if it had said nothing where that part of the file is damaged, for the pixels are not."""
    try:
        return int(picture.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # Pillow's parsers raise almost anything
        return 1


def _first_frame(picture: Image.Image, *, ours: bool = False) -> np.ndarray:
    """The upright first frame as uint8 (H, W) or (H, W, 3); a picture that is `ours` may be changed, which saves a copy."""
    if 0 in picture.size:  # a piece cut out beside the picture
        raise DataError("expected a picture, found one without pixels.")
    _check_size(picture.size)
    tile = getattr(picture, "tile", ())
    raw = tile[0][3] if tile else None  # how the values lie in the file: once it is loaded, Pillow does not know any more
    white_is_zero = getattr(picture, "tag_v2", {}).get(_TIFF_PHOTOMETRIC) == 0
    picture.load()  # says what is broken of the pixels, before what follows of the camera is passed over
    if _may_be_turned(picture) and _orientation(picture) != 1:
        if ours:
            ImageOps.exif_transpose(picture, in_place=True)
        else:
            picture = ImageOps.exif_transpose(picture)
    mode = picture.mode
    if mode.startswith("I"):
        values = np.asarray(picture)
        if white_is_zero and mode.startswith("I;16"):  # which Pillow sees to where there are 8 bits
            values = 65535 - values
        return _from_integers(values, transparent=picture.info.get("transparency"))
    if mode == "F":
        raise DataError("expected whole-number pixels, found floating-point ones (mode F). Save the picture with 8 or 16 bits.")
    grey = _is_grey(picture)
    if mode == "La":
        # Pillow knows one way out of premultiplied grey.
        picture = picture.convert("LA")
    if picture.has_transparency_data:
        picture = _with_colour_of_bytes(picture, raw).convert("RGBA")
        white = Image.new("RGBA", picture.size, (255, 255, 255, 255))
        picture = Image.alpha_composite(white, picture)
    wanted = "L" if grey else "RGB"
    return np.asarray(picture if picture.mode == wanted else picture.convert(wanted))


def _with_colour_of_bytes(picture: Image.Image, raw: object) -> Image.Image:
    """Of a PNG file with 2, 4 or 16 bits a channel, Pillow has the pixels in 8 bits and the transparent colour in those of the file."""
    colour = picture.info.get("transparency")
    if picture.mode == "L" and isinstance(colour, int) and isinstance(raw, str) and raw in _GREY_LEVELS:
        count, step = _GREY_LEVELS[raw]
        colour = colour % count * step
    elif picture.mode == "RGB" and isinstance(colour, tuple) and (raw == "RGB;16B" or max(colour) > 255):
        colour = tuple(value >> 8 for value in colour)
    else:
        return picture
    picture = picture.copy()
    picture.info["transparency"] = colour
    return picture


def _from_integers(values: np.ndarray, transparent: object = None) -> np.ndarray:
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 65535:
        raise DataError(f"expected 16-bit grey values (0 to 65535), found {low} to {high}. Save the picture with 8 or 16 bits.")
    # 65535 / 257 is 255 exactly; adding half of 257 rounds to the nearest level.
    levels = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if isinstance(transparent, int):
        levels[values == transparent] = 255
    return levels


def _is_grey(picture: Image.Image) -> bool:
    if picture.mode in ("1", "L", "LA", "La", "F") or picture.mode.startswith("I"):
        return True
    if picture.mode in ("P", "PA"):
        palette = np.array(picture.getpalette("RGB") or [0], dtype=np.uint8)
        return len(palette) % 3 == 0 and bool((palette.reshape(-1, 3) == palette.reshape(-1, 3)[:, :1]).all())
    return False


def array_of_tensor(tensor: "torch.Tensor") -> np.ndarray:
    """The values of a tensor on the host; of types that numpy lacks, such as bfloat16, as float32."""
    values = tensor.detach().cpu()
    try:
        return values.numpy()
    except TypeError:
        return values.float().numpy()


def as_uint8_advice(dtype: np.dtype[Any]) -> str:
    """How values of another type become pixels."""
    if dtype.kind == "f":
        return "Multiply pixels in 0..1 by 255, round them, and convert to uint8."
    if dtype.kind == "b":
        return "Convert them to uint8, and multiply by 255."
    if dtype == np.uint16:
        return "Divide 16-bit values by 257, round them, and convert to uint8."
    return "Convert them to uint8: values are 0 to 255."


def _from_array(array: np.ndarray) -> np.ndarray:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or 0 in array.shape:
        advice = "" if array.dtype == np.uint8 else f" {as_uint8_advice(array.dtype)}"
        raise ValueError(f"picture: expected an array of {_ACCEPTED_ARRAYS}, found dtype {array.dtype} and shape {array.shape}.{advice}")
    if array.ndim == 2:
        return array
    if array.shape[2] not in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.shape[2] == 1:
        return array[:, :, 0]
    if array.shape[2] == 3:
        return array
    if array.shape[2] == 4:
        return _first_frame(Image.fromarray(np.ascontiguousarray(array)))
    raise ValueError(f"picture: expected an array of {_ACCEPTED_ARRAYS}, found shape {array.transpose(2, 0, 1).shape}.")


def _to_channels(picture: np.ndarray, channels: int) -> np.ndarray:
    planes = picture[None] if picture.ndim == 2 else picture.transpose(2, 0, 1)
    return np.array(convert_channels(planes, channels), dtype=np.uint8, order="C")


def _named(source: object) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    if isinstance(source, Image.Image):
        return getattr(source, "filename", "") or "picture"
    return "picture"


def _reason(error: Exception, max_pixels: int = MAX_PIXELS) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "expected a picture (JPEG, PNG, BMP, GIF, WebP, TIFF, PPM), found a file of another kind or a broken header."
    if isinstance(error, Image.DecompressionBombError):
        return f"expected at most {max_pixels:,} pixels, found far more. Shrink the picture first."
    if isinstance(error, OSError) and error.errno is not None:  # the system's, not a decoder's
        return f"expected a file that can be read, found: {error.strerror}."
    return f"expected a picture that decodes, found a broken or truncated one ({type(error).__name__}: {error})."
