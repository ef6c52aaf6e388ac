"""The page's files, and the policy that keeps everything else out of it."""

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

PAGE = Path(__file__).parent / "page"
"""Where the files lie."""
PATHS = frozenset(("/", *(f"/{file.name}" for file in PAGE.iterdir())))
"""What they are asked by."""

# Nothing from elsewhere, no script but the page's own files; pictures may also be those that a visitor brings.
_POLICY = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


def add_page(app: Starlette, index: str = "index.html") -> None:
    """Let an application answer with the page's files where it has no path of its own, with `index` at `/`."""
    app.router.default = _Files(index)  # no route: it would go before those that are asked with a wrong method
    app.router.redirect_slashes = False


class _Files(StaticFiles):
    """The page's files, each whole and with the policy."""

    def __init__(self, index: str) -> None:
        super().__init__(directory=PAGE)
        self._index = index

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request. No piece of a file is handed out: files are small, and Starlette refuses wrong pieces in plain text."""
        await super().__call__({**scope, "headers": [each for each in scope["headers"] if each[0] != b"range"]}, receive, send)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file; where there is none, a request of any method is told so."""
        name = self._index if path == "." else path
        if f"/{name}" not in PATHS:
            raise HTTPException(404)
        if scope["method"] not in ("GET", "HEAD"):
            raise HTTPException(405, headers={"Allow": "GET, HEAD"})  # as older Starlettes do not say
        return await super().get_response(name, scope)

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file as it is sent."""
        return with_policy(super().file_response(*args, **kwargs))


def with_policy(response: Response) -> Response:
    """The response with what a browser is to keep to."""
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-cache"
    response.headers["Accept-Ranges"] = "none"
    return response
