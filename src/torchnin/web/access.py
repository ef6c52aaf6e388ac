"""Who may ask: the Host header, the Origin, the token. And what every answer carries."""

import dataclasses
import hmac
import ipaddress
import re
from collections.abc import Iterable
from time import perf_counter

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from torchnin.web.answers import send_outcome
from torchnin.web.limits import RefusedError, failed
from torchnin.web.metrics import Metrics
from torchnin.web.pages import PATHS

# What is answered without the token: the page, the document that describes the service and the sign of life.
_OPEN = PATHS | {"/openapi.json", "/healthz"}
# The name or address in a Host header, without its port; IPv6 addresses stand in brackets.
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^:@/\[\]]+)(?::[0-9]{0,5})?", re.IGNORECASE)
# As browsers send it: in small letters, without the scheme's own port. Of a page that was opened from a file they send `null`.
_ORIGIN = re.compile(r"http://[a-z0-9._:\[\]-]+(?<!:80)|https://[a-z0-9._:\[\]-]+(?<!:443)")
SAFETY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
"""What every answer carries: a browser guesses no types, and other pages embed nothing."""
MODEL = "Torchnin-Model"
"""The header that tells classifiers apart whose descriptions differ, where an answer belongs to one."""
EXPOSED = ("Retry-After", MODEL)
"""The headers that pages elsewhere, where they may ask, may read too."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Access:
    """Who may ask. By default: programs and pages of this machine, by its loopback names."""

    host: str = "127.0.0.1"
    """The address that is listened on."""
    token: str | None = None
    """What requests must send as `Authorization: Bearer TOKEN`; None lets everyone ask who reaches the address."""
    allow_hosts: tuple[str, ...] = ()
    """Names under which the service is also known, such as that of a proxy in front of it; a port with them counts for nothing."""
    allow_origins: tuple[str, ...] = ()
    """Pages elsewhere that may ask from a browser, such as `https://example.org`."""

    def __post_init__(self) -> None:
        if self.token is not None and not (self.token.isascii() and self.token.isprintable() and self.token == self.token.strip() != ""):
            raise ValueError("the token must be of printable ASCII characters, at least one, with no blank at either end")
        for origin in self.allow_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"{origin!r} is no origin; give scheme and host as a browser sends them, in small letters and with no port that the "
                    "scheme implies, such as https://example.org"
                )
        object.__setattr__(self, "allow_hosts", tuple(_allowed(host) for host in self.allow_hosts))

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches the address."""
        return is_loopback(self.host)

    def knows(self, host: str) -> bool:
        """Whether a Host header names this service.

        A page elsewhere whose name was made to point here (DNS rebinding) sends its own name, which is not known. Addresses
        cannot be made to point elsewhere, so on other than loopback addresses all of them are known.
        """
        name = _name(host)
        if name is None:
            return False
        if name in (self.host.lower(), *self.allow_hosts):
            return True
        return is_loopback(name) or (not self.is_local and _is_address(name))


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own, reached from nowhere else."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


class Door:
    """Turns away who may not ask."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._known: set[bytes] = set()  # Host headers that were found good: there are few, and each request has one
        self._token = None if access.token is None else access.token.encode()

    def admit(self, path: str, method: str, headers: Iterable[tuple[bytes, bytes]]) -> None:
        """Let a request pass; its path is the application's own, and the names of its headers are in lower case.

        Raises:
            RefusedError: 400, 401, 403 or 421: its Host, its Origin or its token is not as it must be.
        """
        host = origin = authorization = None
        for name, value in headers:
            if name == b"host":
                if host is not None:
                    raise RefusedError(400, "the request has two Host headers; name the service that is asked once")
                host = value
            elif name == b"origin":
                origin = value
            elif name == b"authorization":
                authorization = value
        if host is None or host not in self._known:
            self._check_host(host)
        if origin is not None:
            self._check_origin(origin.decode("latin-1"), (host or b"").decode("latin-1"))
        if self._token is not None and path not in _OPEN and method != "OPTIONS":
            _check_token(authorization or b"", self._token)

    def readable(self, headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
        """What lets a page elsewhere that may ask read what is answered before the application is asked, or in its stead."""
        origin = next((value.decode("latin-1") for name, value in headers if name == b"origin"), None)
        if origin is None or origin not in self._access.allow_origins:
            return {}
        return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": ", ".join(EXPOSED), "Vary": "Origin"}

    def _check_host(self, host: bytes | None) -> None:
        if host is None:
            raise RefusedError(400, "the request has no Host header; name the service that is asked")
        name = host.decode("latin-1")
        if not self._access.knows(name):
            name = _name(name) or name
            raise RefusedError(421, f"this service is not known as {name[:100]!r}; where that is its name, start it with --allow-host")
        if len(self._known) < 100:
            self._known.add(host)

    def _check_origin(self, origin: str, host: str) -> None:
        if origin.partition("://")[2] != host and origin not in self._access.allow_origins:
            remedy = f"to let them, start the service with --allow-origin {origin[:100]}"
            if not _ORIGIN.fullmatch(origin):
                remedy = "only pages that come from a web server can be let in, and none that was opened from a file"
            raise RefusedError(403, f"pages of {origin[:100]!r} may not ask here; {remedy}")


class Gate:
    """The outermost layer: asks at the door, answers where the application fails, and counts what was answered."""

    def __init__(self, app: ASGIApp, door: Door, metrics: Metrics) -> None:
        self._app = app
        self._door = door
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begin = perf_counter()
        begun = False
        path = _path(scope)

        async def counted(message: Message) -> None:
            nonlocal begun
            if message["type"] == "http.response.start":
                begun = True
                message["headers"] = [*message.get("headers", ()), *SAFETY_HEADERS]
                self._metrics.answered(path, message["status"], perf_counter() - begin)
            await send(message)

        async def refuse(refusal: RefusedError) -> None:
            headers = {**refusal.headers, **self._door.readable(scope["headers"])}
            await send_outcome(counted, RefusedError(refusal.status, refusal.reason, headers=headers))

        try:
            self._door.admit(path, scope["method"], scope["headers"])
        except RefusedError as refusal:
            await refuse(refusal)
            return
        try:
            await self._app(scope, receive, counted)
        except Exception as error:
            if begun:
                raise  # what was sent is no whole answer; the connection ends, and the server logs why
            await refuse(failed(error))


def _name(host: str) -> str | None:
    """The name or address in a Host header, in lower case, without its port; None where it is no such header."""
    found = _HOST.fullmatch(host)
    return None if found is None else found[1].lower().strip("[]").rstrip(".")


def _allowed(host: str) -> str:
    """A name as `_name` gives it; one with a port, as a browser shows it, is taken without."""
    name = host.lower() if _is_address(host) else _name(host)
    if not name or re.search(r"[\s*]", name):
        raise ValueError(f"{host!r} names no host; give a name or an address without anything around it, such as box.local")
    return name


def _check_token(given: bytes, token: bytes) -> None:
    scheme, _, secret = given.partition(b" ")  # the scheme in letters of any size (RFC 9110, 11.1)
    same = hmac.compare_digest(secret, token)  # in a time that does not depend on where they differ
    if scheme.lower() != b"bearer" or not same:
        reason = "this service wants its token; send it as Authorization: Bearer TOKEN"
        raise RefusedError(401, reason, headers={"WWW-Authenticate": "Bearer"})


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _path(scope: Scope) -> str:
    """The path below that under which the application hangs in another, or behind a proxy: what its routes are compared with."""
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    return path[len(root) :] if path == root or path.startswith(f"{root}/") else path
