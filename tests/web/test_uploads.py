"""Uploads that are not what they should be: refused in one sentence, or answered as `predict` answers; never a 500."""

import asyncio
import io
import runpy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from torchnin import DataError, Run
from torchnin.web import Limits, ServiceSettings
from torchnin.web.limits import kind_of

Serve = Callable[..., AbstractContextManager[httpx.Client]]
MUTATIONS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "serve" / "mutations.py"))
GOOD: dict[str, bytes] = MUTATIONS["good_ones"]()
BAD: dict[str, tuple[bytes, str, int]] = MUTATIONS["bad_ones"]()


def post(client: httpx.Client, body: bytes, declared: str | None, path: str = "/v1/predict") -> httpx.Response:
    return client.post(path, content=body, headers={"Content-Type": declared} if declared else {})


def is_one_sentence(answer: httpx.Response) -> bool:
    document = answer.json()
    return list(document) == ["error"] and 10 < len(document["error"]) < 400 and "\n" not in document["error"]


def test_every_kind_of_picture_is_answered_as_predict_does(client: httpx.Client, trained: Run) -> None:
    for name, file in GOOD.items():
        for declared in (MUTATIONS["TYPES"][name.split("-")[0]], None, "application/octet-stream"):
            answer = post(client, file, declared)
            assert answer.status_code == 200, (name, answer.text)
            assert answer.json()["probabilities"] == pytest.approx(trained.classifier.predict(file).probabilities, abs=1e-5), name


def test_tiff_files_of_64_bit_offsets_are_taken(client: httpx.Client, trained: Run) -> None:
    assert (kind_of(b"II+\0"), kind_of(b"MM\0+")) == ("tiff", "tiff")
    file = io.BytesIO()
    Image.linear_gradient("L").save(file, "TIFF", big_tiff=True)  # which older Pillows do not know and pass over
    answer = post(client, file.getvalue(), "image/tiff")
    assert answer.status_code == 200, answer.text
    assert answer.json()["label"] == trained.classifier.predict(file.getvalue()).label


@pytest.mark.parametrize("path", ["/v1/predict", "/v1/explain?layers=false"])
def test_bad_uploads_are_refused_in_one_sentence(client: httpx.Client, path: str) -> None:
    for name, (file, declared, status) in BAD.items():
        answer = post(client, file, declared, path)
        assert answer.status_code == status, (name, answer.text)
        assert is_one_sentence(answer), (name, answer.text)


def test_mutated_files_never_break_it_and_get_what_predict_gives_them(client: httpx.Client, trained: Run) -> None:
    seen = set()
    for name, file, declared in MUTATIONS["mutated"](400, seed=1):
        answer = post(client, file, declared)
        seen.add(answer.status_code)
        try:
            expected = trained.classifier.predict(file).label
        except DataError:
            assert 400 <= answer.status_code < 500, name
        else:
            # A file may decode and still be refused: what was declared is another kind, or it has no signature that is known.
            assert (answer.status_code == 200 and answer.json()["label"] == expected) or answer.status_code in (413, 415), (
                name,
                answer.text,
            )
        assert answer.status_code == 200 or is_one_sentence(answer), (name, answer.text)
    assert {200, 415, 422} <= seen


def test_bounds_hold(trained: Run, service: Serve) -> None:
    limits = Limits(max_body_bytes=5000, max_pixels=2000, max_pictures=3)
    with service(trained.classifier, ServiceSettings(limits=limits)) as client:
        small, large = MUTATIONS["png"](1, 20_000), MUTATIONS["png"](2001, 1)
        assert post(client, GOOD["png-grey"], None).status_code == 200
        assert [post(client, file, "image/png").status_code for file in (small, large)] == [413, 413]
        assert "2,001 (2001 x 1)" in post(client, large, "image/png").json()["error"]
        for side in (9_000, 20_000):  # more than predict takes too, and more than Pillow does
            assert "at most 2,000 pixels" in post(client, MUTATIONS["png"](side, side), "image/png").json()["error"]
        assert post(client, bytes(5001), "image/png").status_code == 413

        def chunks() -> Iterator[bytes]:
            yield from (bytes(1000) for _ in range(6))

        assert client.post("/v1/predict", content=chunks()).status_code == 413  # without a Content-Length to look at
        four = client.post("/v1/predict", files=[("picture", ("a.png", GOOD["png-grey"])) for _ in range(4)])
        assert (four.status_code, four.json()) == (400, {"error": "the request has more than 3 pictures; send fewer at a time"})


@pytest.mark.parametrize(
    ("declared", "body", "said"),
    [
        ("multipart/form-data", b"", "has no boundary"),
        ("multipart/form-data; boundary=x", b"", "ends before its closing boundary"),
        ("multipart/form-data; boundary=x", b"--y\r\n", "is no multipart/form-data"),
        ("multipart/form-data; boundary=x", b"--x--\r\n", "holds no file"),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="p"; filename="p"\r\n\r\nabc\r\n',
            "ends before its closing boundary",
        ),
        (
            "multipart/form-data; boundary=x",
            b'--x\r\nContent-Disposition: form-data; name="note"\r\n\r\nhi\r\n--x--\r\n',
            "'note' is no file",
        ),
    ],
)
def test_broken_forms_say_what_is_wrong(client: httpx.Client, declared: str, body: bytes, said: str) -> None:
    answer = post(client, body, declared)
    assert answer.status_code == 400
    assert said in answer.json()["error"]


def test_a_form_of_broken_pictures_only_is_refused(client: httpx.Client) -> None:
    files = [("picture", ("a.png", GOOD["png-grey"][:200], "image/png")), ("picture", ("b.txt", b"text", "text/plain"))]
    one = client.post("/v1/predict", files=files[:1])
    assert one.status_code == 422
    assert "truncated" in one.json()["error"]
    both = client.post("/v1/predict", files=files)
    assert both.status_code == 422
    assert both.json()["error"].startswith("none of the 2 pictures could be used; of the first: ")
    several = client.post("/v1/explain", files=[("picture", ("a.png", GOOD["png-grey"])) for _ in range(2)])
    assert (several.status_code, several.json()) == (400, {"error": "the request has 2 pictures; one is explained at a time"})


def test_slow_and_vanishing_clients_keep_nobody_waiting(trained: Run, service: Serve) -> None:
    limits = Limits(max_uploads=8, upload_seconds=2)
    head = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: 500\r\n\r\n"

    async def ask(client: httpx.Client) -> tuple[list[bytes], list[bytes]]:
        port = client.base_url.port
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(40)]
        for number, (_, writer) in enumerate(connections):
            writer.write((head + b"\x89PNG", head[:30])[number % 2])  # half send a body slowly, half not even a header
        gone = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for _, writer in gone:
            writer.write(head + b"\x89PNG")
            await writer.drain()
            writer.transport.abort()
        for _ in range(20):
            answer = await asyncio.to_thread(post, client, GOOD["png-grey"], "image/png")
            assert answer.status_code == 200
            assert answer.elapsed.total_seconds() < limits.upload_seconds  # none of them is waited for
        told = [await asyncio.wait_for(reader.read(), 30) for reader, _ in connections]
        for _, writer in (*connections, *gone):
            writer.close()
        return told[::2], told[1::2]

    with service(trained.classifier, ServiceSettings(limits=limits)) as client:
        bodies, headers = asyncio.run(ask(client))
        assert all(b" 408 " in told or b" 503 " in told for told in bodies)
        assert sum(b" 408 " in told for told in bodies) == 8
        assert all(b"not complete after 2 seconds" in told for told in bodies if b" 408 " in told)
        assert set(headers) == {b""}  # closed without a word
        assert post(client, GOOD["png-grey"], "image/png").status_code == 200


def test_uploads_of_which_not_a_byte_comes_are_bounded_too(trained: Run, service: Serve) -> None:
    limits = Limits(max_uploads=4, upload_seconds=3)
    whole = b"POST /v1/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: %d\r\n\r\n" % len(GOOD["png-grey"]) + GOOD["png-grey"]

    async def ask(port: int | None) -> list[bytes]:
        connections = [await asyncio.open_connection("127.0.0.1", port) for _ in range(12)]
        for _, writer in connections:
            writer.write(whole[: -len(GOOD["png-grey"])])
        reading = asyncio.gather(*(reader.read() for reader, _ in connections))
        while not reading.done():  # a body that comes with its headers waits for none of them
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(whole)
            assert b" 200 " in await asyncio.wait_for(reader.readline(), 30)
            writer.close()
            await asyncio.sleep(0.1)
        for _, writer in connections:
            writer.close()
        return await reading

    with service(trained.classifier, ServiceSettings(limits=limits)) as client:
        told = asyncio.run(asyncio.wait_for(ask(client.base_url.port), 30))
    assert sum(b" 408 " in one for one in told) == 4
    assert sum(b" 503 " in one for one in told) == 8


def test_what_is_no_http_is_told_so_in_json(client: httpx.Client) -> None:
    async def ask(request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(request)
        told = await asyncio.wait_for(reader.read(), 30)
        writer.close()
        return told

    def answered(request: bytes) -> Any:
        return asyncio.run(ask(request)).partition(b"\r\n\r\n")

    head, _, body = answered(b"nonsense\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert body == b'{"error": "this is no HTTP request that can be read"}'
    endless = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"x: " + b"y" * 100_000 + b"\r\n\r\n"
    assert answered(endless)[0].startswith(b"HTTP/1.1 400 ")
    missing = b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n"
    assert b"has no Host header" in answered(missing)[2]
