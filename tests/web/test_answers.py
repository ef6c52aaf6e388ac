import json

import httpx
import pytest

from torchnin.web.answers import compose, encode, respond
from torchnin.web.limits import RefusedError, busy


def test_what_came_out_is_answered_as_it_is_and_a_refusal_in_one_sentence() -> None:
    assert compose(b"{}") == (
        200,
        [(b"content-type", b"application/json"), (b"cache-control", b"no-store"), (b"content-length", b"2")],
        b"{}",
    )
    status, headers, body = compose(busy("4 pictures are waiting"))
    assert (status, json.loads(body)) == (503, {"error": "4 pictures are waiting; try again in a second"})
    assert dict(headers)[b"retry-after"] == b"1"
    assert dict(headers)[b"content-length"] == b"%d" % len(body)
    assert compose(RefusedError(415, "外套"))[2] == '{"error": "外套"}'.encode()


def test_what_is_no_number_is_no_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        encode({"loss": float("nan")})
    answer = respond({"loss": 0.5})
    assert (answer.status_code, answer.body, answer.headers["cache-control"]) == (200, b'{"loss": 0.5}', "no-store")


def test_what_is_not_there_or_not_asked_so_is_told_with_where_to_read_more(client: httpx.Client) -> None:
    nothing = client.get("/v1/nothing")
    assert (nothing.status_code, nothing.headers["cache-control"]) == (404, "no-store")
    assert nothing.json() == {"error": "there is nothing at /v1/nothing; /openapi.json describes what there is"}
    for path in ("/v1/nothing", "/predict", "/v1/predict/"):
        posted = client.post(path, content=b"picture")
        assert posted.status_code == 404
        assert posted.json() == {"error": f"there is nothing at {path}; /openapi.json describes what there is"}
    reading = {"GET", "HEAD"}
    for method, path, allowed in (("PUT", "/v1/predict", {"POST"}), ("DELETE", "/v1/model", reading), ("POST", "/", reading)):
        wrong = client.request(method, path)
        assert (wrong.status_code, set(wrong.headers["allow"].split(", "))) == (405, allowed)
        assert wrong.json() == {"error": f"{path} is not asked with {method}; /openapi.json says how"}
