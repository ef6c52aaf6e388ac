import contextlib
import gzip
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchnin.data import DataError
from torchnin.data.integrity import gunzip, read_bounded


@given(st.binary(max_size=2000), st.integers(1, 4))
def test_what_was_compressed_comes_back(data: bytes, members: int) -> None:
    packed = b"".join(gzip.compress(data) for _ in range(members))
    assert gunzip(packed, members * len(data), "x") == members * data
    assert gunzip(packed + b"\0\0\0", members * len(data), "x") == members * data


@given(st.binary(min_size=1, max_size=500))
def test_more_than_allowed_stops(data: bytes) -> None:
    with pytest.raises(DataError, match=r"at most .* found more \(stopped there\)"):
        gunzip(gzip.compress(data), len(data) - 1, "x")


def test_a_bomb_stops_at_the_bound() -> None:
    bomb = gzip.compress(bytes(200_000_000), compresslevel=1)
    start = time.process_time()
    with pytest.raises(DataError, match="stopped there"):
        gunzip(bomb, 1000, "bomb.gz")
    assert time.process_time() - start < 1


def test_a_file_of_empty_members_ends() -> None:
    with pytest.raises(DataError, match="members"):
        gunzip(gzip.compress(b"") * 100_000, 10, "x")


@given(st.binary(min_size=50, max_size=300), st.data())
def test_cut_or_flipped_gzip_is_an_error_or_harmless(data: bytes, draw: st.DataObject) -> None:
    packed = gzip.compress(data)
    cut = draw.draw(st.integers(1, len(packed) - 1))
    with pytest.raises(DataError, match="x: expected"):
        gunzip(packed[:cut], len(data), "x")
    flipped = bytearray(packed)
    flipped[draw.draw(st.integers(0, len(packed) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    # Name, time and system in the header carry no data: a flip there changes nothing.
    with contextlib.suppress(DataError):
        assert gunzip(bytes(flipped), len(data), "x") == data


def test_other_bytes_after_the_stream_are_an_error() -> None:
    with pytest.raises(DataError, match="valid gzip"):
        gunzip(gzip.compress(b"data") + b"more", 100, "x")


def test_plain_files_and_missing_ones(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_bounded(path, 5) == b"12345"
    with pytest.raises(DataError, match="at most 4 bytes"):
        read_bounded(path, 4)
    with pytest.raises(DataError, match="missing: expected a file, found none"):
        read_bounded(tmp_path / "missing", 5)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes have names on POSIX alone")
def test_a_pipe_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match="regular file"):
        read_bounded(tmp_path / "pipe", 5)
