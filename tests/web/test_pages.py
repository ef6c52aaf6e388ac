import httpx
from starlette.responses import Response

from torchnin.web.pages import PAGE, with_policy


def test_every_file_of_the_page_is_sent_with_the_policy(client: httpx.Client) -> None:
    for path in ("", *sorted(file.name for file in PAGE.iterdir() if file.is_file())):
        answer = client.get(f"/{path}")
        assert answer.status_code == 200, path
        assert answer.content == (PAGE / (path or "index.html")).read_bytes(), path
        assert answer.headers["content-security-policy"].startswith("default-src 'self'; "), path
        assert (answer.headers["referrer-policy"], answer.headers["cache-control"]) == ("no-referrer", "no-cache"), path


def test_the_policy_stays_where_a_browser_has_the_file_already(client: httpx.Client) -> None:
    known = client.get("/words.js").headers["etag"]
    again = client.get("/words.js", headers={"If-None-Match": known})
    assert (again.status_code, again.content) == (304, b"")
    assert "default-src 'self'" in again.headers["content-security-policy"]


def test_a_file_is_sent_whole_whatever_piece_of_it_is_asked_for(client: httpx.Client) -> None:
    for piece in ("bytes=0-9", "bytes=9-1", "bytes=", "items=0-1", "bytes=99999999-"):
        answer = client.get("/words.js", headers={"Range": piece})
        assert (answer.status_code, answer.content) == (200, (PAGE / "words.js").read_bytes()), piece


def test_nothing_beside_the_page_is_handed_out(client: httpx.Client) -> None:
    for path in ("/../pages.py", "/%2e%2e/pages.py", "/..%2fpages.py", "/pages.py"):
        assert client.get(path).status_code == 404, path


def test_a_policy_forbids_what_comes_from_elsewhere_and_embeds_nothing() -> None:
    policy = dict(part.split(" ", 1) for part in with_policy(Response()).headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'self'"  # and so scripts
    assert policy["frame-ancestors"] == policy["object-src"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "unsafe" not in " ".join(policy.values())
