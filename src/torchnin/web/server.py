"""The application on a socket: uvicorn with the house's ways of stopping, and no patience for connections that say nothing."""

import asyncio
import contextlib
import logging
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from torchnin.web.app import Service
from torchnin.web.limits import Limits
from torchnin.web.protocol import Protocol

_TICK = 1.0  # seconds between looks for connections that have been quiet for too long
_UNREAD_SECONDS = 5.0  # for which a client may take nothing of its answer once the service is told to stop


class StartError(RuntimeError):
    """The service could not begin."""


class Server(uvicorn.Server):
    """A server that ends with exit code 0 when it is asked to stop, and closes connections that never finish a request."""

    def __init__(self, config: uvicorn.Config, limits: Limits, on_start: Callable[[str], None]) -> None:
        super().__init__(config)
        self._limits = limits
        self._on_start = on_start
        # Of each connection the request that it is at (None: at its header) and since when.
        self._since: dict[Any, tuple[Any, float]] = {}

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM finish what is in flight; a second one does not wait for it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop; at the second signal at once."""
        self.force_exit = self.should_exit
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen, and say where.

        Raises:
            StartError: the application could not begin.
        """
        service: Service = self.config.app.state.service  # type: ignore[union-attr]
        log = logging.getLogger("uvicorn.error")

        def is_unsaid(record: logging.LogRecord) -> bool:
            return service.failure is None  # what is raised says it

        log.addFilter(is_unsaid)
        try:
            await super().startup(sockets)
        except SystemExit:
            if service.failure is None:
                raise
        finally:
            log.removeFilter(is_unsaid)
        if service.failure is not None:
            reason = str(service.failure) or type(service.failure).__name__
            raise StartError(f"the service could not begin: {reason}") from service.failure
        if self.started:
            for listener in sockets or ():
                self._on_start(address(listener))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop listening, answer what is in flight, and end.

        Those who have connected and were not let in yet are, for closing the socket would turn them away without a word.
        """
        waiting = [connection for listener in sockets or () for connection in _waiting_at(listener)]
        for server in self.servers:
            server.close()
        for connection in waiting:
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: Protocol(config=self.config, server_state=self.server_state, app_state=self.lifespan.state), connection
            )
        unread = asyncio.create_task(self._leave_those_who_read_nothing())
        try:
            await super().shutdown(sockets)
        finally:
            unread.cancel()

    async def _leave_those_who_read_nothing(self) -> None:
        """Close connections whose clients take nothing of their answers, or the end would wait for them; what is in flight has its time."""
        left: dict[Any, tuple[int, float]] = {}  # of each connection how much is still to be sent, and since when
        while True:
            now = asyncio.get_running_loop().time()
            for connection in list(self.server_state.connections):
                assert isinstance(connection, HttpToolsProtocol)
                size = connection.transport.get_write_buffer_size()
                before, since = left.get(connection, (0, now))
                left[connection] = (size, since if size == before else now)
                if size > 0 and now - left[connection][1] > _UNREAD_SECONDS:
                    connection.transport.abort()
            await asyncio.sleep(_TICK)

    async def on_tick(self, counter: int) -> bool:
        """Called ten times a second."""
        if counter % 10 == 0:
            self._close_quiet_ones(asyncio.get_running_loop().time())
        return await super().on_tick(counter)

    def _close_quiet_ones(self, now: float) -> None:
        """Close connections that take too long over a header, or over a request as a whole, such as by not reading its answer.

        A slow body is the application's to refuse; a connection between two requests uvicorn's own.
        """
        longest = self._limits.upload_seconds + self._limits.answer_seconds + self._limits.upload_seconds
        since: dict[Any, tuple[Any, float]] = {}
        for connection in list(self.server_state.connections):
            assert isinstance(connection, HttpToolsProtocol)
            cycle = connection.cycle
            request = None if cycle is None or cycle.response_complete else cycle
            seen, begin = self._since.get(connection, (request, now))
            unread = connection.transport.get_write_buffer_size() > 0  # an answer that its client does not take
            if seen is not request or (request is None and connection.timeout_keep_alive_task is not None and not unread):
                begin = now
            since[connection] = (request, begin)
            if now - begin > (self._limits.upload_seconds if request is None and not unread else longest):
                connection.transport.abort()
        self._since = since


def _waiting_at(listener: socket.socket) -> Iterator[socket.socket]:
    listener.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            yield listener.accept()[0]


def address(listener: socket.socket) -> str:
    """`http://host:port/` of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def make_server(app: Starlette, limits: Limits, on_start: Callable[[str], None] = lambda address: None) -> Server:
    """A server for the application; `run([listener])` answers until SIGTERM or Ctrl-C, finishes what is in flight and returns.

    Args:
        app: what `create_app` gave.
        limits: the application's.
        on_start: told the address once requests are answered.
    """
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(limits.upload_seconds + limits.answer_seconds),
    )
    return Server(config, limits, on_start)


def listen(host: str, port: int) -> socket.socket:
    """A socket bound to an address, before anything large is loaded.

    Raises:
        ValueError: the port is no port, the address is none of this machine, or something else listens there.
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"--port is {port}; it must be from 0 (any free one) to 65535")
    try:
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise ValueError(
            f"--host is {host!r}, which is no address: {error.strerror}; give one of this machine's, such as 127.0.0.1"
        ) from error
    try:
        if sys.platform == "win32":  # where SO_REUSEADDR lets several programs have one port
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_EXCLUSIVEADDRUSE, 1)
        else:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
    except OSError as error:
        listener.close()
        raise ValueError(f"cannot listen on {host} port {port}: {error.strerror}; choose another with --host and --port") from error
    return listener
