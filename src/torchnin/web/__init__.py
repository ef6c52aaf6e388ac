"""The local page and the HTTP API."""

try:
    import prometheus_client  # noqa: F401
    import python_multipart  # noqa: F401
    import starlette  # noqa: F401
    import uvicorn.protocols.http.httptools_impl  # noqa: F401
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(f"the service needs {missing.name}, which is not installed: pip install 'torchnin[web]'") from missing

from torchnin.web.access import Access as Access
from torchnin.web.access import is_loopback as is_loopback
from torchnin.web.app import ServiceSettings as ServiceSettings
from torchnin.web.app import create_app as create_app
from torchnin.web.limits import Limits as Limits
from torchnin.web.server import listen as listen
from torchnin.web.server import make_server as make_server
from torchnin.web.watching import watched as watched
