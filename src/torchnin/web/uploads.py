"""From a request to the bytes of its pictures, within bounds of time and size."""

import asyncio
import contextlib
from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.types import Receive, Scope

from torchnin.web.limits import Limits, RefusedError, busy, require_declared, require_picture

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

_MULTIPART = "multipart/form-data"
# Bytes of a form above which it is taken apart on a thread: what is hostile in it may take seconds.
_LARGE_FORM = 1 << 18
# Seconds for which a body may follow its headers, as many clients send it, before its upload counts as on its way.
_AT_ONCE = 1.0

Upload = bytes | RefusedError
"""A picture's file, or why it is not even looked at."""


class Taken(NamedTuple):
    """The files of one request."""

    files: list[Upload]
    """One, or as many as the form had, in its order."""
    several: bool
    """Whether they came as a form, so that the answer is a list."""
    size: int
    """Bytes of the body."""


class Uploads:
    """Reads the bodies of requests; knows how many are on their way and how many bytes are held."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._reading = 0
        self._held = 0

    async def take(self, scope: Scope, receive: Receive) -> "Taken":
        """The files of a request. Their bytes count as held until they are given back.

        Raises:
            RefusedError: 400, 408, 413, 415 or 503: the body is not what was declared, too slow, too large, no picture, or there is
                no room for it.
        """
        declared, length = _headers(scope["headers"])
        several = _is_form(declared)
        kind = "" if several else require_declared(declared)
        if length > self._limits.max_body_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            await self._read(receive, body)
            if several:
                # A large form may take its time: it is taken apart by the letter, in Python.
                parts = partial(_parts, declared, bytes(body), self._limits.max_pictures)
                found = await asyncio.to_thread(parts) if len(body) > _LARGE_FORM else parts()
                files = [_checked(declared, file) for declared, file in found]
                return Taken(files, True, len(body))
            picture = bytes(body)
            require_picture(picture, kind)
            return Taken([picture], False, len(body))
        except BaseException:
            self._held -= len(body)
            raise

    def take_whole(self, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> Taken | None:
        """`take` for a body that came with its headers; None for a form, which only `take` takes apart.

        Raises:
            RefusedError: as `take` does.
        """
        declared, _ = _headers(headers)
        if _is_form(declared):
            return None
        kind = require_declared(declared)
        self._hold(0, len(body))
        try:
            require_picture(body, kind)
        except RefusedError:
            self._held -= len(body)
            raise
        return Taken([body], False, len(body))

    def give_back(self, taken: "Taken") -> None:
        """The request is answered; its bytes are no longer held."""
        self._held -= taken.size

    def _hold(self, size: int, more: int) -> None:
        """Count `more` bytes of a body as held, of which `size` came before."""
        if size + more > self._limits.max_body_bytes:
            raise self._too_large()
        if self._held + more > self._limits.max_upload_bytes:
            raise busy(f"{self._held:,} bytes of pictures are held, which is nearly as many as may")
        self._held += more

    async def _read(self, receive: Receive, body: bytearray) -> None:
        """Fill `body`, which counts as held from its first byte on. A body that came with its headers waits for no other."""
        begin = asyncio.get_running_loop().time()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(begin + min(_AT_ONCE, self._limits.upload_seconds)):
                if not await self._receive(receive, body):
                    return
        if self._reading >= self._limits.max_uploads:
            raise busy(f"{self._reading} uploads are on their way, which is as many as may")
        self._reading += 1
        try:
            async with asyncio.timeout_at(begin + self._limits.upload_seconds):
                while await self._receive(receive, body):
                    pass
        except TimeoutError:
            reason = f"the body was not complete after {self._limits.upload_seconds:g} seconds; send it faster"
            raise RefusedError(408, reason, headers={"Connection": "close"}) from None
        finally:
            self._reading -= 1

    async def _receive(self, receive: Receive, body: bytearray) -> bool:
        """Take what has come; whether there is more."""
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "the body ended before it was complete")
        chunk = message.get("body", b"")
        self._hold(len(body), len(chunk))
        body += chunk
        return bool(message.get("more_body", False))

    def _too_large(self) -> RefusedError:
        return RefusedError(
            413, f"the body has more than {self._limits.max_body_bytes:,} bytes; shrink the picture, or send fewer at a time"
        )


def _headers(headers: Iterable[tuple[bytes, bytes]]) -> tuple[str, int]:
    """The declared type and length of a body; empty and 0 where they are not declared."""
    declared, length = "", 0
    for name, value in headers:
        if name == b"content-type":
            declared = value.decode("latin-1")
        elif name == b"content-length" and value.isdigit():
            length = int(value)
    return declared, length


def _is_form(declared: str) -> bool:
    return declared[: len(_MULTIPART)].lower() == _MULTIPART


def _checked(declared: str, file: bytes) -> Upload:
    try:
        require_picture(file, require_declared(declared))
    except RefusedError as refusal:
        return refusal
    return file


def _parts(content_type: str, body: bytes, most: int) -> list[tuple[str, bytes]]:
    """The files of a multipart body, each with its declared type.

    Raises:
        RefusedError: 400, it is no complete multipart body, or holds no file, something that is no file, or more than `most`.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise RefusedError(400, "the Content-Type multipart/form-data has no boundary; leave the header to the client library")
    form = _Form(most)
    try:
        parser = MultipartParser(boundary, form.callbacks(), max_size=len(body) + 1)
        parser.write(body)
        parser.finalize()
    except FormParserError:
        raise RefusedError(400, "the body is no multipart/form-data with the boundary that its header names") from None
    if not form.complete:
        raise RefusedError(400, "the multipart body ends before its closing boundary")
    if not form.files:
        raise RefusedError(400, "the multipart body holds no file; send pictures as its files")
    return form.files


class _Form:
    """Collects the files of a multipart body as the parser walks through it."""

    def __init__(self, most: int) -> None:
        self.files: list[tuple[str, bytes]] = []
        self.complete = False
        self._most = most
        self._headers: dict[bytes, bytes] = {}
        self._name = bytearray()
        self._value = bytearray()
        self._file = bytearray()

    def callbacks(self) -> "MultipartCallbacks":
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._name.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._header,
            "on_part_data": lambda data, start, end: self._file.extend(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        if len(self.files) == self._most:
            raise RefusedError(400, f"the request has more than {self._most} pictures; send fewer at a time")
        self._headers = {}
        self._file = bytearray()

    def _header(self) -> None:
        self._headers[bytes(self._name).lower()] = bytes(self._value)
        self._name.clear()
        self._value.clear()

    def _end(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        if b"filename" not in options:
            name = options.get(b"name", b"").decode("utf-8", "replace")[:50]
            raise RefusedError(400, f"the form's field {name!r} is no file; send pictures as files, and nothing else")
        self.files.append((self._headers.get(b"content-type", b"").decode("latin-1"), bytes(self._file)))

    def _finish(self) -> None:
        self.complete = True
