import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from torchnin import Run
from torchnin.web import Access, Limits, ServiceSettings, create_app
from torchnin.web.access import is_loopback

Serve = Callable[..., AbstractContextManager[httpx.Client]]


def test_wrong_hosts_origins_and_tokens_are_turned_away(trained: Run, service: Serve, client: httpx.Client, files: list[bytes]) -> None:
    assert client.get("/healthz", headers={"Host": "localhost:9"}).status_code == 200
    assert client.get("/healthz", headers={"Host": "localhost:"}).status_code == 200  # an empty port is the usual one
    assert client.get("/healthz", headers={"Host": "attacker.example"}).status_code == 421
    assert client.get("/healthz", headers={"Origin": "http://attacker.example"}).status_code == 403
    assert client.get("/healthz", headers={"Origin": str(client.base_url).rstrip("/")}).status_code == 200
    for origin in ("null", "chrome-extension://abc"):  # of which no --allow-origin could be made
        answer = client.get("/healthz", headers={"Origin": origin})
        assert (answer.status_code, "--allow-origin" in answer.text) == (403, False)
    settings = ServiceSettings(access=Access(host="0.0.0.0", token="secret"))
    with service(trained.classifier, settings) as guarded:
        assert guarded.get("/healthz").status_code == 200
        for path in ("/v1/model", "/metrics"):
            assert guarded.get(path).status_code == 401
            assert guarded.get(path, headers={"Authorization": "Bearer secre"}).status_code == 401
            assert guarded.get(path, headers={"Authorization": "Basic secret"}).status_code == 401
            assert guarded.get(path, headers={"Authorization": "Bearer secret"}).status_code == 200
            assert guarded.get(path, headers={"Authorization": "bearer secret"}).status_code == 200
        assert guarded.post("/v1/predict", content=files[0], headers={"Content-Type": "image/png"}).json() == {
            "error": "this service wants its token; send it as Authorization: Bearer TOKEN"
        }


@pytest.mark.parametrize(("root", "mounted"), [("", False), ("/nin", False), ("/nin", True), ("/v1", False)])
def test_all_but_the_page_and_what_says_nothing_wants_the_token_wherever_the_service_hangs(trained: Run, root: str, mounted: bool) -> None:
    app = create_app(trained.classifier, ServiceSettings(access=Access(token="secret")))
    hung = Starlette(routes=[Mount(root, app)]) if mounted else app

    async def ask() -> None:
        transport = httpx.ASGITransport(hung, root_path="" if mounted else root)
        async with httpx.AsyncClient(transport=transport) as client:
            for path in ("/", "/index.html", "/words.js", "/healthz", "/openapi.json"):
                assert (await client.get(f"http://127.0.0.1{root}{path}")).status_code != 401, path
            for path in ("/v1/model", "/metrics", "/v1/explain", "/v1", "//v1/model", "/v2/model", "/words.js/", "/nothing"):
                assert (await client.get(f"http://127.0.0.1{root}{path}")).status_code == 401, path
            counted = (await client.get(f"http://127.0.0.1{root}/metrics", headers={"Authorization": "Bearer secret"})).text
            assert 'nin_requests_total{path="/v1/model",status="401"} 1.0' in counted

    asyncio.run(ask())


def test_a_host_is_known_with_any_port_and_named_without(client: httpx.Client) -> None:
    told = client.get("/healthz", headers={"Host": "box.local:8000"}).json()["error"]
    assert "known as 'box.local';" in told  # what --allow-host takes
    for given, asked in (
        ("box.local:8000", "box.local"),
        ("Box.local.", "box.local:80"),
        ("[fd00::1]:8000", "[fd00::1]:9000"),
        ("fd00::1", "[fd00::1]"),
    ):
        access = Access(allow_hosts=(given,))
        assert access.knows(asked), given
        assert not access.knows("elsewhere.local")


def test_pages_of_allowed_origins_read_refusals_too(trained: Run, service: Serve) -> None:
    access, limits = Access(token="secret", allow_origins=("https://example.org",)), Limits(max_waiting=1, max_pictures=1)
    with service(trained.classifier, ServiceSettings(access=access, limits=limits)) as client:
        theirs = {"Origin": "https://example.org"}
        for answer, status in (
            (client.get("/v1/model", headers=theirs), 401),
            (client.get("/healthz", headers={**theirs, "Host": "elsewhere.example"}), 421),
            (client.get("/healthz", headers=theirs), 200),
        ):
            assert answer.status_code == status
            assert answer.headers.get_list("access-control-allow-origin") == ["https://example.org"]
            assert answer.headers["access-control-expose-headers"] == "Retry-After, Torchnin-Model"
            assert answer.headers["vary"] == "Origin"
        asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        assert client.options("/v1/predict", headers={**theirs, **asked}).status_code == 200
        other = client.get("/v1/model", headers={"Origin": "https://example.com"})
        assert (other.status_code, "access-control-allow-origin" in other.headers) == (403, False)


def test_an_address_is_this_machines_own_or_others_reach_it() -> None:
    for host in ("localhost", "box.localhost", "127.0.0.1", "127.1.2.3", "::1"):
        assert is_loopback(host), host
        assert Access(host=host).is_local
    for host in ("0.0.0.0", "::", "192.168.0.7", "box.local", "localhost.example", ""):
        assert not is_loopback(host), host


def test_other_addresses_are_known_only_where_others_reach_the_service() -> None:
    assert not Access().knows("192.168.0.7")  # a name may have been made to point here, an address cannot
    assert Access(host="0.0.0.0").knows("192.168.0.7:8000")
    assert not Access(host="0.0.0.0").knows("attacker.example")
    assert not any(Access().knows(host) for host in ("", "a b@127.0.0.1", "http://127.0.0.1"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"token": ""}, "the token must be of printable ASCII characters, at least one"),
        ({"token": "schlüssel"}, "the token must be"),
        ({"token": "a\nb"}, "the token must be"),
        ({"token": "secret "}, "with no blank at either end"),
        ({"allow_origins": ("example.org",)}, "'example.org' is no origin; give scheme and host as a browser sends them"),
        ({"allow_origins": ("https://example.org/",)}, "is no origin"),
        ({"allow_origins": ("https://Example.org",)}, "in small letters"),
        ({"allow_origins": ("https://example.org:443",)}, "with no port that the scheme implies"),
        ({"allow_origins": ("null",)}, "is no origin"),
        ({"allow_hosts": ("http://box.local",)}, "'http://box.local' names no host; give a name or an address"),
    ],
)
def test_what_nobody_could_send_is_refused_before_the_service_begins(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Access(**wrong)
