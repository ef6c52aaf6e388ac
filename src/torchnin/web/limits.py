"""What the service takes, and how it says no: bounds, kinds of picture, refusals."""

import dataclasses
import logging
import math
from typing import Any

_MEBI = 1024 * 1024

# The first bytes of the kinds of picture that torchnin.data decodes, and the types under which they are sent.
_SIGNATURES = (
    (b"\xff\xd8\xff", "jpeg"),
    (b"\x89PNG\r\n\x1a\n", "png"),
    (b"GIF87a", "gif"),
    (b"GIF89a", "gif"),
    (b"BM", "bmp"),
    (b"II*\0", "tiff"),
    (b"MM\0*", "tiff"),
    (b"II+\0", "tiff"),  # BigTIFF, and the next
    (b"MM\0+", "tiff"),
    *((b"P%d" % number, "ppm") for number in range(1, 7)),
)
_TYPES = {
    "image/jpeg": "jpeg",
    "image/jpg": "jpeg",
    "image/pjpeg": "jpeg",
    "image/png": "png",
    "image/apng": "png",
    "image/x-png": "png",
    "image/gif": "gif",
    "image/bmp": "bmp",
    "image/x-bmp": "bmp",
    "image/x-ms-bmp": "bmp",
    "image/tiff": "tiff",
    "image/webp": "webp",
    "image/x-portable-anymap": "ppm",
    "image/x-portable-bitmap": "ppm",
    "image/x-portable-graymap": "ppm",
    "image/x-portable-pixmap": "ppm",
}
_UNDECLARED = frozenset(("", "application/octet-stream", "image/*"))
DECLARED = ("image/jpeg", "image/png", "image/gif", "image/bmp", "image/webp", "image/tiff", "image/x-portable-anymap")
"""The types to declare, one for each kind of picture."""
KINDS = "JPEG, PNG, GIF, BMP, WebP, TIFF, PPM"
"""The same for people."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
    """How much the service takes. Whatever exceeds a bound is refused at once, in one sentence."""

    max_body_bytes: int = 16 * _MEBI
    """Bytes of a request's body."""
    max_pixels: int = 25_000_000
    """Height times width of a picture, read from its header before it is decoded."""
    max_pictures: int = 64
    """Pictures in one request."""
    max_waiting: int = 512
    """Pictures that are accepted and not yet answered; beyond it 503."""
    max_uploads: int = 64
    """Requests whose body is still on its way; beyond it 503. Bodies that come with their headers never wait for those that do not."""
    max_upload_bytes: int = 256 * _MEBI
    """Bytes of all bodies that are held at the same time; beyond it 503."""
    upload_seconds: float = 20.0
    """A body that is not complete by then is given up: 408. So is a connection that sends no complete header."""
    answer_seconds: float = 30.0
    """A complete request that is not answered by then: 504."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{field.name} is {value}; it must be above 0")
        if self.max_pictures > self.max_waiting:
            raise ValueError(
                f"max_pictures is {self.max_pictures}; at most max_waiting, {self.max_waiting}, or such a request is never taken"
            )


class RefusedError(Exception):
    """A request that is not answered: an HTTP status of 4xx or 5xx, and why, in one sentence."""

    def __init__(self, status: int, reason: str, *, headers: dict[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason
        self.headers = headers or {}

    def to_dict(self) -> dict[str, Any]:
        """The body of the answer."""
        return {"error": self.reason}


def busy(reason: str) -> RefusedError:
    """503: there is no room just now."""
    return RefusedError(503, f"{reason}; try again in a second", headers={"Retry-After": "1"})


def failed(error: Exception) -> RefusedError:
    """500: what was not foreseen; the log says more."""
    logging.getLogger("torchnin.web").error("a request could not be answered", exc_info=error)
    return RefusedError(500, f"the service failed ({type(error).__name__}); its log says where")


def require_declared(content_type: str) -> str:
    """The declared type without its parameters, in lower case; empty where none was declared.

    Raises:
        RefusedError: 415, it is none of a picture.
    """
    declared = content_type.partition(";")[0].strip().lower()
    if declared not in _UNDECLARED and declared not in _TYPES:
        raise RefusedError(
            415,
            f"the body is declared as {declared[:100]!r}; send one picture with its own type, such as Content-Type: image/png, "
            f"or several as multipart/form-data; read are {KINDS}",
        )
    return declared


def require_picture(body: bytes, declared: str) -> None:
    """Check the first bytes of a body against what pictures begin with, and against the declared type.

    Raises:
        RefusedError: 400, there is no body; 415, it is no picture of a kind that is decoded, or of another kind than declared.
    """
    if not body:
        raise RefusedError(400, "there are 0 bytes; send those of a picture")
    kind = kind_of(body)
    if kind is None:
        raise RefusedError(415, f"the body is no picture that begins like one of {KINDS}")
    if declared not in _UNDECLARED and _TYPES[declared] != kind:
        raise RefusedError(415, f"the body is declared as {declared} and begins like image/{kind}; declare what it is")


def kind_of(body: bytes) -> str | None:
    """The kind of picture that a file's first bytes announce: jpeg, png, gif, bmp, webp, tiff, ppm, or None."""
    if body[:4] == b"RIFF" and body[8:12] == b"WEBP":
        return "webp"
    return next((kind for signature, kind in _SIGNATURES if body.startswith(signature)), None)
