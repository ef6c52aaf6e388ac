"""The IDX format of MNIST and its successors: a header of magic, type and dimensions, then the bare numbers.

Layout (http://yann.lecun.com/exdb/mnist, "the IDX file format"): two zero bytes, a byte for the type (8: unsigned byte), a byte for
the number of dimensions, one big-endian 32-bit integer per dimension, then the data in C order.
"""

import gzip
import math
import os
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from torchnin.data.errors import broken_file
from torchnin.data.integrity import read_bounded

_UNSIGNED_BYTE = 8
# Larger than the published sets in this format (EMNIST: 0.55 GB), so that a wrong header cannot ask for terabytes.
MAX_IDX_BYTES = 4 << 30

FILE_STEMS: Mapping[str, tuple[str, str]] = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}
"""The names that MNIST gave its files, without .gz: (pictures, labels) of each split."""


def read_idx(path: str | os.PathLike[str], num_dimensions: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, plain or gzip: uint8 with `num_dimensions` axes, writable. Raises DataError."""
    return parse_idx(read_idx_bytes(path, num_dimensions), num_dimensions, path)


def read_idx_bytes(path: str | os.PathLike[str], num_dimensions: int) -> bytes:
    """The decompressed bytes of an IDX file with `num_dimensions` axes, header included.

    Never reads or decompresses more than the header declares. Raises DataError where header, declared size and actual size do not agree.
    """
    size = 4 + 4 * num_dimensions
    header = read_head(path, size)
    dims = _parse_header(header, num_dimensions, path)
    declared = size + math.prod(dims)
    if declared > MAX_IDX_BYTES:
        found = f"a header that declares {declared:,} ({_times(dims)})"
        raise broken_file(path, expected=f"at most {MAX_IDX_BYTES:,} bytes", found=found, next_step="Fetch the file again.")
    data = read_bounded(path, declared)
    _check_size(data, dims, path)
    return data


def parse_idx(data: bytes, num_dimensions: int, path: str | os.PathLike[str]) -> np.ndarray:
    """The same from the decompressed bytes of a file; `path` is for the message."""
    dims = _parse_header(data[: 4 + 4 * num_dimensions], num_dimensions, path)
    _check_size(data, dims, path)
    # A copy, because torch warns about tensors over read-only memory.
    return np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * num_dimensions).reshape(dims).copy()


def read_head(path: str | os.PathLike[str], size: int) -> bytes:
    """The first `size` decompressed bytes of a file, fewer where it is shorter."""
    try:
        with Path(path).open("rb") as stream:
            if stream.read(2) != b"\x1f\x8b":
                stream.seek(0)
                return stream.read(size)
            stream.seek(0)
            with gzip.GzipFile(fileobj=stream) as unpacked:
                return unpacked.read(size)
    except FileNotFoundError as error:
        raise broken_file(path, expected="a file", found="none", next_step="Check the path, or fetch the data again.") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise broken_file(path, expected="valid gzip", found=f"an error in it ({error})", next_step="Fetch the file again.") from error


def encode_idx(array: np.ndarray) -> bytes:
    """The bytes of an IDX file that holds `array`: uint8, one to four axes."""
    if array.dtype != np.uint8 or not 1 <= array.ndim <= 4:
        raise ValueError(f"array: expected uint8 with one to four axes, found {array.dtype} of shape {array.shape}.")
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, _UNSIGNED_BYTE, array.ndim, *array.shape) + array.tobytes()


def _parse_header(header: bytes, num_dimensions: int, path: str | os.PathLike[str]) -> tuple[int, ...]:
    size = 4 + 4 * num_dimensions
    expected = f"an IDX header of {size} bytes that starts 00 00 08 {num_dimensions:02x} (unsigned bytes, {num_dimensions} dimensions)"
    if len(header) < size or header[:4] != bytes((0, 0, _UNSIGNED_BYTE, num_dimensions)):
        found = f"{header[:4].hex(' ')}" if len(header) >= size else f"{len(header)} bytes"
        raise broken_file(path, expected=expected, found=found or "nothing", next_step="Fetch the file again.")
    return struct.unpack(f">{num_dimensions}I", header[4:size])


def _check_size(data: bytes, dims: tuple[int, ...], path: str | os.PathLike[str]) -> None:
    count, found = math.prod(dims), len(data) - 4 - 4 * len(dims)
    # Of nothing there may still be more, along the other axes, than an array can have.
    if found != count or math.prod(dim or 1 for dim in dims) > MAX_IDX_BYTES:
        expected = f"{count:,} bytes of data ({_times(dims)}, as the header declares)"
        raise broken_file(path, expected=expected, found=f"{found:,}", next_step="Fetch the file again.")


def _times(dims: tuple[int, ...]) -> str:
    return " x ".join(f"{dim:,}" for dim in dims)
