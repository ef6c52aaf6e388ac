"""Files read whole under a ceiling, and their checksums: the only way that bytes from outside enter the data room."""

import hashlib
import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path

from torchnin.data.errors import broken_file

_FETCH_AGAIN = "Fetch the file again."
_GZIP_MAGIC = b"\x1f\x8b"
# zlib's window bits for a gzip wrapper: header and CRC are then checked by zlib itself.
_GZIP_WINDOW_BITS = 31
# Small pieces and a ceiling on members: what follows a member is copied once per member, which a file of empty members would make endless.
_CHUNK_BYTES = 1 << 16
_MAX_GZIP_MEMBERS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Digest:
    """The checksum that a file's decompressed bytes must have."""

    algorithm: str
    """"sha256", or "md5" where the publisher gives nothing better."""
    value: str
    """Lower-case hex."""

    def of(self, data: bytes) -> str:
        """What `data` has in place of it, as words for a message: algorithm and hex."""
        return f"{self.algorithm} {hashlib.new(self.algorithm, data, usedforsecurity=False).hexdigest()}"

    def matches(self, data: bytes, sha256: str) -> bool:
        """Whether `data`, whose SHA-256 is known already, has this checksum."""
        return self.value == sha256 if self.algorithm == "sha256" else self.of(data) == f"{self.algorithm} {self.value}"


def read_bounded(path: str | os.PathLike[str], max_bytes: int, next_step: str = _FETCH_AGAIN) -> bytes:
    """The bytes of a regular file, decompressed where it is gzip, and never more than `max_bytes` of them.

    Raises DataError where the file is missing, no regular file, longer than `max_bytes`, or broken gzip; `next_step` says what helps then.
    """
    file = Path(path)
    try:
        # A pipe or a device under a data file's name would block for ever or never end.
        status = file.stat()
        if not stat.S_ISREG(status.st_mode):
            raise broken_file(path, expected="a regular file", found="another kind of file", next_step="Put the data file in its place.")
        with file.open("rb") as stream:
            start = stream.read(2)
            if start == _GZIP_MAGIC:
                # Nothing compresses below its own size by more than a header, so this bounds the compressed bytes as well.
                packed_bytes = max_bytes + (max_bytes >> 8) + 4096
                return gunzip(start + stream.read(min(packed_bytes, status.st_size)), max_bytes, path, next_step)
            # Asking for more than there is would make room for all of it first.
            data = start + stream.read(min(max(0, max_bytes + 1 - len(start)), status.st_size))
    except FileNotFoundError as error:
        raise broken_file(path, expected="a file", found="none", next_step="Check the path, or fetch the data again.") from error
    if len(data) > max_bytes:
        raise broken_file(path, expected=f"at most {max_bytes:,} bytes", found="more", next_step=next_step)
    return data


def gunzip(data: bytes, max_bytes: int, path: str | os.PathLike[str], next_step: str = _FETCH_AGAIN) -> bytes:
    """Decompress gzip (one or several members), stopping at `max_bytes` however much more the file would give.

    Raises DataError where the stream is broken, cut off, followed by other bytes, or gives too much. `path` and `next_step` are for the
    message.
    """
    pieces: list[bytes] = []
    left = max_bytes
    view = memoryview(data)
    position = members = 0
    while position < len(view):
        members += 1
        if members > _MAX_GZIP_MEMBERS:
            raise broken_file(path, expected=f"at most {_MAX_GZIP_MEMBERS:,} gzip members", found="more", next_step=next_step)
        stream = zlib.decompressobj(_GZIP_WINDOW_BITS)
        while not stream.eof:
            chunk = view[position : position + _CHUNK_BYTES]
            if not len(chunk):
                found = f"the stream cut off after {max_bytes - left:,} decompressed bytes"
                raise broken_file(path, expected="a complete gzip stream", found=found, next_step=next_step)
            try:
                piece = stream.decompress(chunk, left + 1)
            except zlib.error as error:
                raise broken_file(path, expected="valid gzip", found=f"an error in it ({error})", next_step=next_step) from error
            pieces.append(piece)
            left -= len(piece)
            if left < 0:
                raise broken_file(
                    path,
                    expected=f"at most {max_bytes:,} decompressed bytes",
                    found="more (stopped there)",
                    next_step=next_step,
                )
            position += len(chunk) - len(stream.unconsumed_tail) - len(stream.unused_data)
        # Zero bytes after a member are padding that the gzip format allows.
        while position < len(view) and view[position] == 0:
            position += 1
    return b"".join(pieces)
