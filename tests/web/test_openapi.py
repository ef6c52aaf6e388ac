"""The document at /openapi.json against the service that it describes: schemathesis asks what it promises, and what it forbids."""

import io
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from starlette.routing import Route

from torchnin import Run
from torchnin.web import create_app

Serve = Callable[..., AbstractContextManager[httpx.Client]]
FORMATS = {"jpeg": "JPEG", "png": "PNG", "gif": "GIF", "bmp": "BMP", "webp": "WEBP", "tiff": "TIFF", "x-portable-anymap": "PPM"}


def picture(kind: str, width: int, height: int, level: int) -> bytes:
    kept = io.BytesIO()
    Image.new("L", (width, height), level).convert("RGB").save(kept, FORMATS[kind])
    return kept.getvalue()


for kind in FORMATS:
    schemathesis.openapi.media_type(
        f"image/{kind}", st.builds(picture, st.just(kind), st.integers(1, 40), st.integers(1, 40), st.integers(0, 255))
    )


schemathesis.openapi.media_type(
    "application/octet-stream", st.builds(picture, st.sampled_from(sorted(FORMATS)), st.just(9), st.just(9), st.just(99))
)


@pytest.fixture(scope="module")
def described(client: httpx.Client) -> Any:
    return schemathesis.openapi.from_url(str(client.base_url.join("/openapi.json")))


POSTS = ["POST /v1/predict", "POST /v1/explain"]
GETS = ["GET /v1/model", "GET /v1/samples", "GET /healthz", "GET /metrics", "GET /openapi.json"]


@pytest.mark.parametrize(
    ("operation", "mode"),
    [(operation, GenerationMode.POSITIVE) for operation in (*POSTS, *GETS)] + [(operation, GenerationMode.NEGATIVE) for operation in POSTS],
)
def test_what_is_promised_holds(described: Any, operation: str, mode: GenerationMode) -> None:
    method, path = operation.split()
    cases = described[path][method].as_strategy(generation_mode=mode)

    @settings(max_examples=12, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(case=cases)
    def ask(case: Any) -> None:
        # The files of a form are made of any bytes, and most are no pictures.
        case.call_and_validate(excluded_checks=[positive_data_acceptance] if case.media_type == "multipart/form-data" else None)

    ask()


def test_every_path_is_described(described: Any, trained: Run) -> None:
    told = {route.path for route in create_app(trained.classifier).routes if isinstance(route, Route)}
    assert told == set(described.raw_schema["paths"])


def test_what_is_taken_and_when_it_is_too_much_is_said_as_it_is(described: Any) -> None:
    for operation in POSTS:
        told = described.raw_schema["paths"][operation.split()[1]]["post"]
        assert "application/octet-stream" in told["requestBody"]["content"]
        assert "too many pictures" in told["responses"]["400"]["description"]
        assert "number" not in told["responses"]["413"]["description"]


def test_below_a_path_of_a_proxy_the_addresses_are_those_of_the_proxy(described: Any) -> None:
    [server] = described.raw_schema["servers"]
    assert urljoin("https://box.example/nin/openapi.json", server["url"]) == "https://box.example/nin/"


def test_what_wants_no_token_says_so(described: Any) -> None:
    told = described.raw_schema
    assert all(operation.get("security", told["security"]) == [] for path in told["paths"].values() for operation in path.values())
