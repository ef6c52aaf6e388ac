"""The page's files, and the policy that keeps everything else out of it."""

from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.staticfiles import StaticFiles

PAGE = Path(__file__).parent / "page"
"""Where the files lie."""
PATHS = frozenset(("/", *(f"/{file.name}" for file in PAGE.iterdir())))
"""What they are asked by."""

# Nothing from elsewhere, no script but the page's own files; pictures may also be those that a visitor brings.
_POLICY = "default-src 'self'; img-src 'self' data: blob:; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


class Page(StaticFiles):
    """The page's files, each with the policy."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        """A file as it is sent."""
        return with_policy(super().file_response(*args, **kwargs))


def with_policy(response: Response) -> Response:
    """The response with what a browser is to keep to."""
    response.headers["Content-Security-Policy"] = _POLICY
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-cache"
    return response
