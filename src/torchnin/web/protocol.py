"""HTTP as it arrives: uvicorn's protocol with errors in JSON, a bound on headers, and a short way for what is asked most.

A prediction for one picture is answered without a task, an ASGI scope and two writes to the socket of its own, which would cost
as much of the processor's time as the picture does. Whatever is not such a request in every respect, or is not complete in one
piece, goes the whole way through the application; the answers are the same.
"""

import asyncio
import json
from typing import Any

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from torchnin.web.access import SAFETY_HEADERS
from torchnin.web.answers import Outcome, compose, send_outcome
from torchnin.web.app import Service
from torchnin.web.limits import RefusedError

_MOST_HEADER_BYTES = 65_536
_PREDICT = b"/v1/predict"
_UNREADABLE = RefusedError(400, "this is no HTTP request that can be read")
# Seconds for which a connection that was just made may still send its request when the service is told to stop.
_FIRST_SECONDS = 2.0


class Protocol(HttpToolsProtocol):
    """One connection to an application that `create_app` gave."""

    _header_bytes = 0
    _untold = 0  # bytes that came since the parser last told of something, the piece in which it did aside
    _early: bytearray | None = None  # the body so far of a request that may go the short way
    _begun = False  # whether a header is on its way
    _last = False  # whether the next request is the last
    _ended = False  # whether something came that cannot be read

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._service: Service = self.config.app.state.service  # type: ignore[union-attr]

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody has connected."""
        super().connection_made(transport)
        self._made = self.loop.time()

    def shutdown(self) -> None:
        """The service stops: a request that is on its way, or of a client that has only just connected, is still answered."""
        asked = self.cycle is not None or self.loop.time() - self._made > _FIRST_SECONDS
        if asked and not self._begun:
            super().shutdown()
        else:
            self._last = True
            self.loop.call_later(_FIRST_SECONDS, super().shutdown)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        if self._ended:
            return
        # The parser tells of a header when it is complete, and puts together what is not, however long it grows.
        if self._untold > _MOST_HEADER_BYTES:
            self.send_400_response("")
            return
        self._untold += len(data)
        self._unset_keepalive_if_required()
        pieces: list[bytes | memoryview] = [data]
        try:
            while pieces:
                piece = pieces.pop()
                try:
                    self.parser.feed_data(piece)
                except httptools.HttpParserUpgrade as upgrade:
                    # The parser has passed over the body, which begins here, as if it were of the other protocol.
                    pieces += (memoryview(piece)[upgrade.args[0] :], self._without_upgrade())
        except httptools.HttpParserError:
            self.logger.warning("Invalid HTTP request received.")
            self.send_400_response("")
        if self._early is not None:
            self._go_the_whole_way()

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client sends no more; what it has asked is still answered, and then the connection ends."""
        if self._begun or self.cycle is None or self.cycle.response_complete or self.cycle.more_body:
            return False
        self.cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._header_bytes = self._untold = 0
        self._begun = True
        self._unset_keepalive_if_required()  # also where the request before it came, and was refused, in the same piece

    def on_url(self, url: bytes) -> None:
        """A piece of its address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header."""
        self._count(len(name) + len(value))
        if self._begun:  # what follows a body says nothing of who asks
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """There are no more of them."""
        self._begun, self._untold = False, 0
        if self._is_short():
            self._early = bytearray()
        elif not self.parser.should_upgrade():  # or it is read anew
            self._go_on()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._untold = 0
        if self._early is not None:
            self._early += body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is complete."""
        self._untold = 0
        if self._early is None:
            if not self.parser.should_upgrade():
                super().on_message_complete()
            return
        before, self.cycle = self.cycle, (cycle := _Answer(self))
        if self._service.predict_at_once(self.headers, bytes(self._early), cycle.answer):
            self._early = None
        else:
            self.cycle = before
            self._go_the_whole_way()
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, once all that was asked before it is answered."""
        self._early, self._ended = None, True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and (self.pipeline or not cycle.more_body):
            cycle.keep_alive = False
            if cycle.more_body:  # it is the body of this request that cannot be read, and others are answered before it
                self.pipeline[0] = (cycle, _refuse)  # type: ignore[assignment]
            return
        body = json.dumps(_UNREADABLE.to_dict()).encode()
        headers = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.transport.write(STATUS_LINE[400] + headers + body)
        self.transport.close()

    def _is_short(self) -> bool:
        """Whether a request whose headers are complete may go the short way: if its body comes with them, and is no form."""
        return (
            self.url == _PREDICT
            and self.parser.get_method() == b"POST"
            and self.parser.get_http_version() == "1.1"
            and not self.expect_100_continue
            and not self.parser.should_upgrade()
            and (self.cycle is None or self.cycle.response_complete)  # no answer is due before this one
            and not self.flow.write_paused  # a client that reads no answers gets no more of them
            and not self.transport.is_closing()
        )

    def _without_upgrade(self) -> bytes:
        """The head of a request that would go on in another protocol, as one that stays with this (RFC 9110, 7.8), for a new parser."""
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            raise httptools.HttpParserError("what follows is for another server")
        headers = (b"%b: %b" % header for header in self.headers if header[0] != b"upgrade")
        self.parser = httptools.HttpRequestParser(self)
        return b"\r\n".join((b"%b %b HTTP/%b" % (method, self.url, version.encode()), *headers, b"\r\n"))

    def _go_the_whole_way(self) -> None:
        early, self._early = self._early, None
        self._go_on()
        if early:
            super().on_body(bytes(early))

    def _go_on(self) -> None:
        super().on_headers_complete()
        if self._last and self.cycle is not None:
            self.cycle.keep_alive = False

    def _count(self, size: int) -> None:
        self._untold = 0
        self._header_bytes += size
        if self._header_bytes > _MOST_HEADER_BYTES:
            raise ValueError  # the parser ends, and with it the connection


async def _refuse(scope: Scope, receive: Receive, send: Send) -> None:
    await send_outcome(send, _UNREADABLE)


_NOBODY_WAITS = asyncio.Event()


class _Answer(RequestResponseCycle):
    """A request on the short way: to the connection what a request of the application is."""

    def __init__(self, connection: Protocol) -> None:
        # Only what a connection and `Server` look at.
        self.connection = connection
        self.disconnected = False
        self.keep_alive = connection.parser.should_keep_alive() and not connection._last
        self.message_event = _NOBODY_WAITS
        self.more_body = False
        self.response_complete = False
        self.body = bytearray()

    def answer(self, outcome: Outcome) -> None:
        """Send the answer, and let the connection go on; nothing where it has ended meanwhile."""
        connection, transport = self.connection, self.connection.transport
        self.response_complete = True
        if transport.is_closing():
            return
        status, headers, body = compose(outcome)
        lines = [STATUS_LINE[status]]
        for name, value in (*connection.server_state.default_headers, *headers, *SAFETY_HEADERS):
            lines += (name, b": ", value, b"\r\n")
        if not self.keep_alive:
            lines.append(b"connection: close\r\n")
        transport.write(b"".join((*lines, b"\r\n", body)))
        if not self.keep_alive:
            transport.close()
        connection.on_response_complete()
