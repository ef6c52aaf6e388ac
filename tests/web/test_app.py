import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import httpx
import pytest

from torchnin import Classifier, Preprocessing, Run, create_model
from torchnin.web import Access, ServiceSettings, app
from torchnin.web.samples import samples_json
from torchnin.web.uploads import Uploads

Serve = Callable[..., AbstractContextManager[httpx.Client]]


def post(client: httpx.Client, body: bytes, declared: str | None = "image/png", path: str = "/v1/predict", **more: Any) -> Any:
    return client.post(path, content=body, headers={"Content-Type": declared} if declared else {}, **more)


def test_one_picture_is_answered_as_predict_does(client: httpx.Client, trained: Run, files: list[bytes]) -> None:
    answer = post(client, files[0])
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    document = answer.json()
    expected = trained.classifier.predict(files[0])
    assert list(document) == ["label", "probability", "probabilities"]
    assert document["label"] == expected.label
    assert document["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)


def test_names_of_classes_that_are_no_utf8_are_answered_too(trained: Run, service: Serve, files: list[bytes]) -> None:
    own = trained.classifier
    names = [os.fsdecode(b"caf\xe9"), *own.class_names[1:]]
    with service(Classifier(own.network, own.preprocessing, names, metadata={"name": names[0]})) as client:
        assert list(post(client, files[0]).json()["probabilities"]).count(names[0]) == 1
        assert post(client, files[0], path="/v1/explain?layers=false").json()["class_names"] == names
        assert client.get("/v1/model").json()["class_names"] == names


def test_answers_tell_classifiers_apart(client: httpx.Client, trained: Run, service: Serve, files: list[bytes]) -> None:
    own = trained.classifier
    known_by = client.get("/v1/model").headers["Torchnin-Model"]
    assert post(client, files[0], path="/v1/explain?layers=false").headers["Torchnin-Model"] == known_by
    assert "Torchnin-Model" not in post(client, files[0]).headers  # the short way stays short
    for metadata, same in ((own.metadata, True), ({**own.metadata, "name": "another"}, False)):
        with service(Classifier(own.network, own.preprocessing, own.class_names, metadata=metadata)) as other:
            assert (other.get("/v1/model").headers["Torchnin-Model"] == known_by) == same


def test_several_pictures_are_a_list_in_which_a_broken_one_has_its_error(client: httpx.Client, trained: Run, files: list[bytes]) -> None:
    named = [("picture", (f"{number}.png", file, "image/png")) for number, file in enumerate((*files[:3], files[3][:100], b"no picture"))]
    answer = client.post("/v1/predict", files=named)
    assert answer.status_code == 200
    rows = answer.json()
    assert [row.get("label") for row in rows[:3]] == [prediction.label for prediction in trained.classifier.predict(files[:3])]
    assert [list(row) for row in rows[3:]] == [["error"], ["error"]]
    assert "truncated" in rows[3]["error"]


def test_what_was_not_foreseen_is_answered_and_counted_as_all_else(
    trained: Run, service: Serve, files: list[bytes], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise LookupError("not foreseen")

    monkeypatch.setattr(app, "samples_json", fails)
    # A body may come with its headers or after them.
    monkeypatch.setattr(Uploads, "take_whole", fails)
    monkeypatch.setattr(Uploads, "take", fails)
    told = {"error": "the service failed (LookupError); its log says where"}
    theirs = {"Origin": "https://example.org"}
    with service(trained.classifier, ServiceSettings(access=Access(allow_origins=("https://example.org",)))) as client:
        answer = client.get("/v1/samples", headers=theirs)
        assert (answer.status_code, answer.json(), answer.headers["x-content-type-options"]) == (500, told, "nosniff")
        assert answer.headers["access-control-allow-origin"] == "https://example.org"
        assert 'nin_requests_total{path="/v1/samples",status="500"} 1.0' in client.get("/metrics").text
        monkeypatch.setattr(app, "samples_json", samples_json)
        assert client.get("/v1/samples", headers=theirs).json() == {"samples": []}  # the next one is not told of it
        assert "not foreseen" in caplog.text
    with service(trained.classifier) as client:
        answer = post(client, files[0])
        assert (answer.status_code, answer.json(), answer.headers["x-content-type-options"]) == (500, told, "nosniff")
        assert 'nin_requests_total{path="/v1/predict",status="500"} 1.0' in client.get("/metrics").text


def test_a_service_of_pictures_that_no_file_holds_does_not_begin() -> None:
    preprocessing = Preprocessing(channels=2, height=28, width=28, mean=(0.3, 0.3), std=(0.3, 0.3))
    classifier = Classifier(create_model("nin_small", in_channels=2), preprocessing, [str(label) for label in range(10)])
    with pytest.raises(ValueError, match="takes pictures of 2 channels; what is sent to a service has 1"):
        app.create_app(classifier)
