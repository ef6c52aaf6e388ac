from typing import Any

import pytest

from torchnin.web import Limits
from torchnin.web.limits import DECLARED, RefusedError, failed, kind_of, require_declared, require_picture

PNG, JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"max_body_bytes": 0}, "max_body_bytes is 0; it must be above 0"),
        ({"upload_seconds": -1.0}, "upload_seconds is -1.0; it must be above 0"),
        ({"answer_seconds": float("nan")}, "answer_seconds is nan"),
        ({"max_pixels": float("inf")}, "max_pixels is inf"),
        ({"max_pictures": 9, "max_waiting": 8}, "max_pictures is 9; at most max_waiting, 8, or such a request is never taken"),
    ],
)
def test_bounds_that_nothing_could_keep_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Limits(**wrong)
    assert Limits(max_pictures=8, max_waiting=8).max_pictures == 8


def test_the_kind_of_a_picture_is_told_by_its_first_bytes() -> None:
    begin = {"jpeg": JPEG, "png": PNG, "gif": b"GIF89a", "bmp": b"BM", "webp": b"RIFF\0\0\0\0WEBP", "tiff": b"II*\0", "ppm": b"P6"}
    assert {kind: kind_of(first + b"...") for kind, first in begin.items()} == {kind: kind for kind in begin}
    assert [kind_of(other) for other in (b"", b"text", b"RIFF\0\0\0\0WAVE", b"P7", PNG[:4])] == [None] * 5


def test_a_declared_type_is_one_of_a_picture_or_says_nothing() -> None:
    for declared in (*DECLARED, "", "application/octet-stream", "image/*"):
        assert require_declared(declared) == declared
    assert require_declared(" Image/PNG ; charset=binary") == "image/png"
    with pytest.raises(RefusedError, match="the body is declared as 'text/plain'; send one picture with its own type") as refused:
        require_declared("text/plain")
    assert refused.value.status == 415
    with pytest.raises(RefusedError, match=r"image/heic.*; read are JPEG, PNG, GIF"):  # which is its own type
        require_declared("image/heic")


@pytest.mark.parametrize(
    ("body", "declared", "status", "said"),
    [
        (b"", "image/png", 400, "there are 0 bytes"),
        (b"text", "", 415, "the body is no picture that begins like one of JPEG, PNG, GIF, BMP, WebP, TIFF, PPM"),
        (JPEG, "image/png", 415, "the body is declared as image/png and begins like image/jpeg; declare what it is"),
    ],
)
def test_a_body_is_a_picture_of_the_kind_that_was_declared(body: bytes, declared: str, status: int, said: str) -> None:
    with pytest.raises(RefusedError, match=said) as refused:
        require_picture(body, declared)
    assert (refused.value.status, refused.value.to_dict()) == (status, {"error": refused.value.reason})
    for right in ("image/jpeg", "image/pjpeg", "application/octet-stream", ""):
        require_picture(JPEG, right)


def test_what_was_not_foreseen_is_told_by_its_kind_alone(caplog: pytest.LogCaptureFixture) -> None:
    refusal = failed(LookupError("a path of this machine"))
    assert (refusal.status, refusal.reason) == (500, "the service failed (LookupError); its log says where")
    assert "a path of this machine" in caplog.text
