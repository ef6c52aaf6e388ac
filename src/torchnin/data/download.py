"""Fetching a named dataset into the cache: resumed when cut, checked before it counts, put in place whole or not at all."""

import contextlib
import gzip
import http.client
import io
import os
import shutil
import ssl
import tarfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath

from torchnin.data.catalog import MAX_FILE_BYTES, DataFile, Download, NamedDataset, read_checked
from torchnin.data.errors import DataError
from torchnin.data.progress import Progress, unheard
from torchnin.files import cache_folder, exists, is_file, lock, replace
from torchnin.version import __version__

TIMEOUT_SECONDS = 20.0
"""How long a server may stay silent."""
_MAX_ATTEMPTS = 6
_CHUNK_BYTES = 1 << 18
_WAIT_SECONDS = 0.2  # between looks whether another process is done


class _CutOffError(OSError):
    """The connection ended before the file did: what came is kept, and the rest can be asked for."""


def fetch(dataset: NamedDataset, progress: Progress | None = None) -> Path:
    """Download a dataset into the cache and return its folder there.

    The files come from the mirror $TORCHNIN_DATA_MIRROR (a base URL; below it <dataset>/<file>) where that is set, else from their public
    homes. An interrupted download goes on where it stopped. Raises DataError with the reason of each attempt where they cannot be had,
    ValueError where $TORCHNIN_DATA_MIRROR is no http or https address.
    """
    final = cache_folder() / "data" / dataset.name
    staging = final.with_name(f"{dataset.name}.part")
    report = progress or unheard
    try:
        staging.mkdir(parents=True, exist_ok=True)
        with _only_one(final.with_name(f"{dataset.name}.lock"), lambda: report(f"waiting for another download of {dataset.name}", 0, None)):
            if _is_complete(dataset, final):
                return final
            staging.mkdir(parents=True, exist_ok=True)
            try:
                _fetch_parts(dataset, staging, report)
            except DataError:
                # What came is kept for the next try; a folder with nothing in it is not.
                with contextlib.suppress(OSError):
                    staging.rmdir()
                raise
            _put_in_place(staging, final)
    except OSError as error:
        next_step = "Make room, or set TORCHNIN_HOME to a folder that can be written."
        raise DataError(f"{final}: the download could not be written ({_reason(error)}). {next_step}") from error
    return final


def _fetch_parts(dataset: NamedDataset, staging: Path, report: Progress) -> None:
    if dataset.archive:
        _fetch_archive(dataset, staging, report)
        return
    files = {f"{file.name}.gz": file for file in dataset.layouts[0].files}
    for part in dataset.downloads:
        _fetch_file(_urls(dataset, part), part, staging, report, partial(read_checked, dataset, files[part.file_name]))


def _is_complete(dataset: NamedDataset, folder: Path) -> bool:
    # Another process may have finished while this one waited for the lock.
    names = [file.name for file in dataset.layouts[0].files] if dataset.archive else [part.file_name for part in dataset.downloads]
    return all(is_file(folder / name) for name in names)


def _put_in_place(staging: Path, final: Path) -> None:
    if not exists(final):
        os.replace(staging, final)
        return
    # A folder is there already, with other or incomplete content: every file goes in by itself, whole.
    for path in sorted(staging.iterdir()):
        replace(path, final / path.name)
    staging.rmdir()


def _urls(dataset: NamedDataset, part: Download) -> tuple[str, ...]:
    mirror = os.environ.get("TORCHNIN_DATA_MIRROR")
    if not mirror:
        return part.urls
    if not mirror.lower().startswith(("http://", "https://")):
        raise ValueError(f"TORCHNIN_DATA_MIRROR: expected an address that starts with http:// or https://, found {mirror!r}.")
    return (f"{mirror.rstrip('/')}/{dataset.name}/{part.file_name}",)


def _fetch_file(urls: tuple[str, ...], part: Download, staging: Path, report: Progress, check: Callable[[Path], object]) -> Path:
    """Fetch one file from the first address that gives the right bytes; `check` raises DataError where they are wrong."""
    target, unfinished = staging / part.file_name, staging / f"{part.file_name}.part"
    if is_file(target):
        with contextlib.suppress(DataError):
            # An earlier download stopped after this file.
            check(target)
            return target
    reasons = []
    for url in urls:
        # What lies there may be of another release of the file: where it ends in wrong bytes, it is fetched once more from its start.
        for resumed in (True, False) if exists(unfinished) else (False,):
            if not resumed:
                unfinished.unlink(missing_ok=True)
            try:
                _transfer(url, unfinished, part, report)
                check(unfinished)
            except DataError as error:
                reasons.append(f"{url}: {error}")
                unfinished.unlink(missing_ok=True)
                continue
            except (urllib.error.URLError, http.client.HTTPException, _CutOffError, ssl.SSLError, TimeoutError, ConnectionError) as error:
                reasons.append(f"{url}: {_reason(error)}")
                break
            replace(unfinished, target)
            return target
    raise DataError("; ".join(reasons))


def _transfer(url: str, unfinished: Path, part: Download, report: Progress) -> None:
    """Fetch `url` into `unfinished`, going on as often as the connection is cut while bytes still come."""
    for attempt in range(_MAX_ATTEMPTS):
        before = _size(unfinished)
        try:
            _transfer_once(url, unfinished, part, report)
            return
        except urllib.error.HTTPError as error:
            error.close()  # its answer is not read
            # 416: the server has nothing beyond what is here, so this is the whole file or not this file at all; the checksum tells.
            if error.code == 416 and before:
                return
            if error.code < 500 or attempt + 1 == _MAX_ATTEMPTS or attempt > 1:
                raise
        except (_CutOffError, http.client.HTTPException, ssl.SSLError, TimeoutError, ConnectionError):
            if _size(unfinished) <= before or attempt + 1 == _MAX_ATTEMPTS:
                raise
        time.sleep(0.2 * 2**attempt)


def _transfer_once(url: str, unfinished: Path, part: Download, report: Progress) -> None:
    offset = _size(unfinished)
    request = urllib.request.Request(url, headers={"User-Agent": f"torchnin/{__version__}", "Accept-Encoding": "identity"})
    if offset:
        request.add_header("Range", f"bytes={offset}-")
    # A mirror may have compressed the file anew, so the published size is a measure and no exact bound.
    limit = 2 * part.size + (1 << 20)
    with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as response:
        if response.status != 206 or not (response.headers.get("Content-Range") or "").startswith(f"bytes {offset}-"):
            offset = 0
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length and length.isdigit() else None
        if total is not None and total > limit:
            raise DataError(f"expected about {part.size:,} bytes, found {total:,} announced.")
        with unfinished.open("ab" if offset else "wb") as out:
            done = offset
            while chunk := response.read(_CHUNK_BYTES):
                done += len(chunk)
                if done > limit:
                    raise DataError(f"expected about {part.size:,} bytes, found more than {limit:,}.")
                out.write(chunk)
                report(f"downloading {part.file_name}", done, total)
            out.flush()
            os.fsync(out.fileno())
    if total is not None and done < total:
        raise _CutOffError(f"the connection ended after {done:,} of {total:,} bytes")


def _fetch_archive(dataset: NamedDataset, staging: Path, report: Progress) -> None:
    (part,) = dataset.downloads
    archive = _fetch_file(_urls(dataset, part), part, staging, report, lambda path: _unpack(dataset, path, staging))
    archive.unlink()


def _unpack(dataset: NamedDataset, archive: Path, staging: Path) -> None:
    """Write the dataset's files out of a .tar.gz into `staging`, each checked.

    No name or path of the archive is ever used for writing, links and devices in it are passed over, and it is read to a bound.
    """
    wanted: dict[str, DataFile] = {file.name: file for file in dataset.layouts[0].files}
    try:
        with archive.open("rb") as packed, gzip.GzipFile(fileobj=packed) as unpacked:
            bounded = _Bounded(unpacked, 2 * MAX_FILE_BYTES)
            # As a stream, so that nothing is unpacked twice. Members past the last wanted one are not read at all.
            with tarfile.open(fileobj=bounded, mode="r|") as members:
                for member in members:
                    file = wanted.get(PurePosixPath(member.name).name)
                    content = members.extractfile(member) if file is not None and member.isreg() else None
                    if file is None or content is None:
                        continue
                    aside = staging / f"{file.name}.tmp"
                    with aside.open("wb") as out:
                        shutil.copyfileobj(content, out, _CHUNK_BYTES)
                    read_checked(dataset, file, aside)
                    replace(aside, staging / file.name)
                    del wanted[file.name]
                    if not wanted:
                        return
    except DataError:
        raise
    # Broken numbers in a header reach us as plain ValueErrors.
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError, ValueError, OverflowError) as error:
        raise DataError(f"expected a tar archive compressed with gzip, found a broken or truncated one ({error}).") from error
    raise DataError(
        f"expected an archive with {', '.join(file.name for file in dataset.layouts[0].files)}, found none of {', '.join(wanted)}."
    )


class _Bounded(io.RawIOBase):
    """A stream that ends in DataError where it gives more than it should: a bomb, or an archive of something else."""

    def __init__(self, stream: gzip.GzipFile, limit: int) -> None:
        super().__init__()
        self._stream = stream
        self._left = limit

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        # tarfile asks for as many bytes as a header claims; no more than the bound is ever made of that.
        data = self._stream.read(self._left + 1 if size < 0 else min(size, self._left + 1))
        self._left -= len(data)
        if self._left < 0:
            raise DataError("expected an archive of a known dataset, found far more bytes in it (stopped there).")
        return data


@contextlib.contextmanager
def _only_one(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock file while downloading, so that two processes never write the same partial file."""
    with path.open("a") as file:
        if not lock(file.fileno()):
            waiting()
            while not lock(file.fileno()):
                time.sleep(_WAIT_SECONDS)
        yield


def _size(path: Path) -> int:
    return path.stat().st_size if exists(path) else 0


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"no answer within {TIMEOUT_SECONDS:.0f} seconds"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__
