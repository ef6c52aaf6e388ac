"""Answers as they leave: JSON, and every error as `{"error": "one sentence"}`."""

import http
import json
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Send

from torchnin.files import utf8
from torchnin.web.limits import RefusedError

_JSON = (b"content-type", b"application/json")
_FRESH = (b"cache-control", b"no-store")


Outcome = bytes | RefusedError
"""What a request comes to: finished JSON, or why there is none."""


def compose(outcome: Outcome) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    """Status, headers and body of an answer: 200 with the JSON, or the refusal's."""
    if isinstance(outcome, bytes):
        return 200, [_JSON, _FRESH, (b"content-length", b"%d" % len(outcome))], outcome
    body = encode(outcome.to_dict())
    headers = [_JSON, _FRESH, (b"content-length", b"%d" % len(body))]
    headers += [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in outcome.headers.items()]
    return outcome.status, headers, body


async def send_outcome(send: Send, outcome: Outcome, *more: tuple[bytes, bytes]) -> None:
    """Answer a request; `more` are headers beside the usual ones."""
    status, headers, body = compose(outcome)
    await send({"type": "http.response.start", "status": status, "headers": [*headers, *more]})
    await send({"type": "http.response.body", "body": body})


def encode(document: Any) -> bytes:
    """JSON in UTF-8; what is no number is an error, as in every JSON of this project."""
    return utf8(json.dumps(document, ensure_ascii=False, allow_nan=False))


def respond(document: Any) -> Response:
    """A document as an answer of 200."""
    return Response(encode(document), media_type="application/json", headers={"Cache-Control": "no-store"})


def not_asked_so(path: str, method: str) -> str:
    """Why a request of the wrong method is refused."""
    return f"{path} is not asked with {method}; /openapi.json says how"


async def refused(request: Request, error: Exception) -> Response:
    """What Starlette calls for a RefusedError or one of its own HTTPExceptions."""
    if isinstance(error, RefusedError):
        status, reason, headers = error.status, error.reason, error.headers
    else:
        assert isinstance(error, HTTPException)
        status, headers = error.status_code, dict(error.headers or {})
        path = request.url.path[:200]
        reason = http.HTTPStatus(status).phrase.lower()
        if status == 404:
            reason = f"there is nothing at {path}; /openapi.json describes what there is"
        elif status == 405:
            reason = not_asked_so(path, request.method)
    return Response(encode({"error": reason}), status, {"Cache-Control": "no-store", **headers}, "application/json")
