"""A request whose body comes with its headers goes a shorter way than one that comes in pieces; nobody can tell from the answer."""

import contextlib
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from time import sleep

import httpx
import pytest

from torchnin import Run
from torchnin.web import Access, Limits, ServiceSettings

Serve = Callable[..., AbstractContextManager[httpx.Client]]
PICTURE = (Path(__file__).parents[2] / "docs" / "pictures" / "ankle-boot.png").read_bytes()


@pytest.fixture(scope="module")
def client(trained: Run, service: Serve) -> Iterator[httpx.Client]:
    settings = ServiceSettings(access=Access(token="secret"), limits=Limits(max_body_bytes=len(PICTURE)))
    with service(trained.classifier, settings) as client:
        yield client


def request(body: bytes = PICTURE, *, line: str = "POST /v1/predict HTTP/1.1", last: bool = True, **headers: str | None) -> bytes:
    """A request; None leaves one of the usual headers out, and `last` closes the connection after the answer."""
    usual: dict[str, str | None] = {"Host": "127.0.0.1", "Content-Type": "image/png", "Authorization": "Bearer secret"}
    more = {name.replace("_", "-"): value for name, value in headers.items()}
    given = {**usual, "Content-Length": str(len(body)), "Connection": "close" if last else None, **more}
    lines = [line, *(f"{name}: {value}" for name, value in given.items() if value is not None)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def answer(client: httpx.Client, *pieces: bytes) -> bytes:
    """All that comes back until the connection ends, without its date."""
    with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=30) as connection:
        for piece in pieces:
            connection.sendall(piece)
            sleep(0.05 if len(pieces) > 1 else 0)
        told = b"".join(iter(lambda: connection.recv(65536), b""))
    return b"\r\n".join(line for line in told.split(b"\r\n") if not line.startswith(b"date:"))


FORM = b'--x\r\nContent-Disposition: form-data; name="p"; filename="p"\r\n\r\n' + PICTURE[:300] + b"\r\n--x--\r\n"
REQUESTS = {
    "a picture": (request(), b"200"),
    "of no declared type": (request(Content_Type=None), b"200"),
    "in chunks": (
        request(b"%x\r\n%b\r\n0\r\n\r\n" % (len(PICTURE), PICTURE), Content_Length=None, Transfer_Encoding="chunked"),
        b"200",
    ),
    "of the page": (request(Origin="http://127.0.0.1"), b"200"),
    "HTTP/1.0": (request(line="POST /v1/predict HTTP/1.0"), b"200"),
    "a form": (request(FORM, Content_Type="multipart/form-data; boundary=x"), b"422"),
    "no body": (request(b""), b"400"),
    "a truncated picture": (request(PICTURE[:300]), b"422"),
    "a text": (request(b"text", Content_Type="text/plain"), b"415"),
    "another kind": (request(Content_Type="image/gif"), b"415"),
    "too large": (request(PICTURE + b"x"), b"413"),
    "no host": (request(Host=None), b"400"),
    "two hosts": (request().replace(b"\r\n", b"\r\nHost: attacker.example\r\n", 1), b"400"),
    "another's host": (request(Host="attacker.example"), b"421"),
    "another's page": (request(Origin="http://attacker.example"), b"403"),
    "no token": (request(Authorization=None), b"401"),
    "a parameter": (request(line="POST /v1/predict?top=1 HTTP/1.1"), b"400"),
    "another method": (request(line="PUT /v1/predict HTTP/1.1"), b"405"),
    "another path": (request(line="POST /v1/predictions HTTP/1.1"), b"404"),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_in_one_piece_is_answered_as_one_in_two(client: httpx.Client, name: str) -> None:
    whole, status = REQUESTS[name]
    at_once = answer(client, whole)
    assert at_once.startswith(b"HTTP/1.1 " + status + b" ")
    assert at_once == answer(client, whole[:-2], whole[-2:])


def test_requests_one_behind_the_other_are_answered_in_their_order(client: httpx.Client) -> None:
    apart = [answer(client, request()), answer(client, request(PICTURE[:300])), answer(client, request())]
    kept = (b"content-type: ", b"\r\nconnection: close")
    bodies = [told.partition(b"\r\n\r\n")[2] for told in apart]
    told = answer(client, request(last=False) + request(PICTURE[:300], last=False) + request())
    assert told.count(kept[0]) == 3
    assert told.count(kept[1]) == 1  # at the end of the last
    found = [told.index(body) for body in bodies[:2]] + [told.rindex(bodies[2])]
    assert found == sorted(found)
    assert len(set(found)) == 3


def test_a_connection_that_is_kept_counts_each_of_its_requests(client: httpx.Client) -> None:
    def counted() -> float:
        lines = client.get("/metrics", headers={"Authorization": "Bearer secret"}).text.splitlines()
        counts = (float(line.split()[1]) for line in lines if line.startswith('nin_requests_total{path="/v1/predict",status="200"}'))
        return next(counts, 0.0)

    before = counted()
    with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=30) as connection:
        for _ in range(5):
            connection.sendall(request(last=False))
            told = b""
            while not told.endswith(b"}}"):
                told += connection.recv(65536)
            assert told.startswith(b"HTTP/1.1 200 ")
            assert b"connection: close" not in told
    assert counted() == before + 5


@pytest.mark.parametrize("begin", [b"GET /healthz HTTP/1.1\r\nX: ", request(b"0\r\nX: ", Content_Length=None, Transfer_Encoding="chunked")])
def test_a_header_that_never_ends_is_cut_off(client: httpx.Client, begin: bytes) -> None:
    with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=30) as connection:
        connection.sendall(begin)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 1 << 26:
                connection.sendall(b"a" * 65536)
                sent += 65536
        assert sent < 1 << 24  # what the system's buffers take
    assert client.get("/healthz").status_code == 200


def test_a_header_in_many_pieces_before_a_large_body_is_not(client: httpx.Client) -> None:
    head, _, body = request(PICTURE, X_Long="a" * 30000).partition(b"\r\n\r\n")
    pieces = [head[start : start + 10000] for start in range(0, len(head), 10000)]
    assert b" 200 " in answer(client, *pieces, b"\r\n\r\n" + body).partition(b"\r\n")[0]


UPGRADE: dict[str, str | None] = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAoAAAAAIAAAAA"}


@pytest.mark.parametrize("name", ["a picture", "a form", "in chunks", "another path", "another's host"])
def test_a_request_that_would_go_on_in_another_protocol_is_answered_in_this_one(client: httpx.Client, name: str) -> None:
    plain = REQUESTS[name][0]
    asking = b"Connection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"  # as curl --http2
    whole = plain.replace(b"Connection: close", asking)
    assert whole != plain
    told = answer(client, plain)
    assert answer(client, whole) == told
    head = whole.index(b"\r\n\r\n") + 4
    for cut in (30, whole.index(b"h2c"), *range(head - 3, head + 2)):
        assert answer(client, whole[:cut], whole[cut:]) == told, cut


def test_the_body_of_a_request_that_would_go_on_in_another_protocol_is_no_request(client: httpx.Client) -> None:
    within = request(b"", line="GET /healthz HTTP/1.1")
    asking = request(within, last=False, **UPGRADE)
    for pieces in ((asking + request(),), (asking[: -len(within)], within, request())):
        told = answer(client, *pieces)
        assert told.count(b"HTTP/1.1 ") == 2
        assert told.startswith(b"HTTP/1.1 415 ")
        assert b"HTTP/1.1 200 " in told
        assert b"ok" not in told


def test_many_that_would_go_on_in_another_protocol_are_answered_one_behind_the_other(client: httpx.Client) -> None:
    asking = request(b"", line="GET /healthz HTTP/1.1", last=False, **UPGRADE)
    told = answer(client, asking * 1500 + request())
    assert told.count(b'{"status": "ok"}') == 1500
    assert told.count(b"HTTP/1.1 ") == 1501


def test_nothing_is_passed_on_to_another_server(client: httpx.Client) -> None:
    for where in ("example.org:443", "/v1/predict"):
        told = answer(client, request(line=f"CONNECT {where} HTTP/1.1", last=False) + request())
        assert told.startswith(b"HTTP/1.1 400 ")
        assert told.count(b"HTTP/1.1 ") == 1


READING = request(b"", line="GET /v1/model HTTP/1.1", last=False)
BROKEN_BODY = request(b"zz\r\n", Content_Length=None, Transfer_Encoding="chunked", last=False)


@pytest.mark.parametrize("first", [request(last=False), request(FORM, Content_Type="multipart/form-data; boundary=x", last=False), READING])
@pytest.mark.parametrize("broken", [b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 70_000 + b"\r\n\r\n", BROKEN_BODY])
def test_what_was_asked_before_something_that_cannot_be_read_is_answered(client: httpx.Client, first: bytes, broken: bytes) -> None:
    expected = answer(client, first.replace(b"\r\n", b"\r\nConnection: close\r\n", 1))
    told = answer(client, first + broken)
    if broken is BROKEN_BODY:  # a request, which has its answer too
        told, _, last = told.rpartition(b"HTTP/1.1 ")
        assert last.startswith(b"400 ")
        assert b"no HTTP request that can be read" in last
        expected = expected.replace(b"connection: close\r\n", b"")
    assert told == expected


def test_all_that_was_asked_before_something_that_cannot_be_read_is_answered(client: httpx.Client) -> None:
    told = answer(client, READING + request(last=False) + READING + b"nonsense\r\n\r\n" + READING)
    assert told.count(b"HTTP/1.1 200 ") == told.count(b"HTTP/1.1 ") == 3


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/explain?layers=false"])
def test_what_follows_a_body_says_nothing_of_who_asks(client: httpx.Client, path: str) -> None:
    def chunked(**headers: str | None) -> bytes:
        return request(line=f"POST {path} HTTP/1.1", Content_Length=None, Transfer_Encoding="chunked", **headers)[: -len(PICTURE)]

    body = b"%x\r\n%b\r\n0\r\n" % (len(PICTURE), PICTURE)
    trailers = b"Host: 127.0.0.1\r\nAuthorization: Bearer secret\r\nContent-Type: text/plain\r\n\r\n"
    for headers, status in (
        ({}, b"200"),
        ({"Host": "attacker.example"}, b"421"),
        ({"Host": None}, b"400"),
        ({"Authorization": None}, b"401"),
    ):
        assert answer(client, chunked(**headers) + body + trailers).startswith(b"HTTP/1.1 " + status), headers


@pytest.mark.parametrize("name", ["a picture", "a form", "in chunks", "no token", "another path"])
def test_who_has_said_all_and_closes_that_way_is_answered_all_the_same(client: httpx.Client, name: str) -> None:
    whole = REQUESTS[name][0]
    status, _, body = answer(client, whole).partition(b"\r\n")
    body = body.rpartition(b"\r\n")[2]
    for times in (1, 2):
        with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=30) as connection:
            connection.sendall(whole.replace(b"Connection: close\r\n", b"") * times)
            connection.shutdown(socket.SHUT_WR)
            told = b"".join(iter(lambda: connection.recv(65536), b""))
        assert (told.count(status), told.count(body)) == (times, times)


def test_who_closes_before_all_is_said_is_not(client: httpx.Client) -> None:
    with socket.create_connection(("127.0.0.1", client.base_url.port), timeout=30) as connection:
        connection.sendall(request(last=False)[:-1])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536) == b""
    assert client.get("/healthz").status_code == 200
