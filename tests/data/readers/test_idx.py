import gzip
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from torchnin.data import DataError
from torchnin.data.readers.idx import encode_idx, parse_idx, read_idx


def outcome_of(work: Callable[[], np.ndarray]) -> np.ndarray | str:
    try:
        return work()
    except DataError as error:
        return str(error)


arrays = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0, max_side=6))


@given(arrays, st.booleans())
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray, packed: bool) -> None:
    path = tmp_path_factory.getbasetemp() / "round-trip"
    path.write_bytes(gzip.compress(encode_idx(array)) if packed else encode_idx(array))
    found = read_idx(path, array.ndim)
    assert found.shape == array.shape
    assert (found == array).all()
    assert found.flags.writeable


@given(st.binary(max_size=60), st.integers(1, 3))
def test_any_bytes_give_an_array_or_the_named_error(data: bytes, num_dimensions: int) -> None:
    outcome = outcome_of(lambda: parse_idx(data, num_dimensions, "file"))
    assert outcome.startswith("file: expected") if isinstance(outcome, str) else outcome.ndim == num_dimensions


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "found nothing|found 0 bytes"),
        (b"\x00\x00\x08\x01\x00\x00", "found 6 bytes"),
        (struct.pack(">4BI", 0, 0, 8, 2, 4) + b"1234", "starts 00 00 08 01 .*found 00 00 08 02"),
        (struct.pack(">4BI", 0, 0, 0x0D, 1, 4) + b"1234", "found 00 00 0d 01"),
        (struct.pack(">4BI", 0, 0, 8, 1, 5) + b"1234", "5 bytes of data .*found 4"),
        (struct.pack(">4BI", 0, 0, 8, 1, 3) + b"1234", "at most 11 bytes|found 4"),
        (struct.pack(">4BI", 0, 0, 8, 1, 2**32 - 1) + b"1234", "4,294,967,295"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_broken_files_say_what_was_expected_and_found(tmp_path: Path, data: bytes, said: str, packed: bool) -> None:
    path = tmp_path / "labels"
    path.write_bytes(gzip.compress(data) if packed else data)
    if packed and said.startswith("at most"):
        said = "at most 11 decompressed bytes"
    with pytest.raises(DataError, match=f"labels: expected .*({said})"):
        read_idx(path, 1)


def test_a_bomb_stops_at_the_declared_size(tmp_path: Path) -> None:
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, 1000) + bytes(100_000_000), compresslevel=1))
    tracemalloc.start()
    with pytest.raises(DataError, match="at most 1,008 decompressed bytes, found more"):
        read_idx(path, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_header_alone_makes_no_memory(tmp_path: Path) -> None:
    path = tmp_path / "liar"
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 1000, 1000, 1000) + b"few")
    tracemalloc.start()
    with pytest.raises(DataError, match="1,000,000,000 bytes of data"):
        read_idx(path, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


def test_only_bytes_are_written() -> None:
    with pytest.raises(ValueError, match="expected uint8"):
        encode_idx(np.zeros(3, dtype=np.int16))


def test_nothing_of_a_size_that_no_array_has(tmp_path: Path) -> None:
    """Found by fuzzing: no pictures, each of terabytes, are no bytes; yet no array has that shape."""
    path = tmp_path / "x"
    path.write_bytes(bytes((0, 0, 8, 3)) + struct.pack(">3I", 0, 0xFFFFFFFF, 0xFFFFFFFF))
    with pytest.raises(DataError, match="as the header declares"):
        read_idx(path, 3)
