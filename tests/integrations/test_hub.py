"""The Hub: upload and download over HTTP, against a server here that speaks as much of its language as is needed."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from PIL import Image

import torchnin
from torchnin import Classifier
from torchnin.commands.main import main
from torchnin.integrations.hub import load_from_hub, model_card, push_to_hub
from torchnin.saved import without_places

constants = pytest.importorskip("huggingface_hub.constants")

TOKEN = "hf_right"


class Hub(ThreadingHTTPServer):
    """Repositories in memory, one branch each; what is uploaded with the right token can be downloaded."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *arguments: object) -> None:
        """Nothing."""

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def tell(self, value: object) -> None:
        self.reply(200, json.dumps(value).encode(), Content_Type="application/json")

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.asked.append(f"{self.command} {self.path}")
        path, repositories = self.path.partition("?")[0], self.server.repositories
        if self.command == "POST" and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self.reply(403, b"{}")
        if path == "/api/models/me/limited/revision/main":
            return self.reply(429)
        if path == "/api/models/me/forbidden/revision/main":
            return self.reply(403)
        if path == "/api/validate-yaml":
            return self.tell({"errors": [], "warnings": []})
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked['organization']}/{asked['name']}"
            there = name in repositories
            repositories.setdefault(name, {})
            if there:
                return self.reply(409, json.dumps({"url": f"{self.server.address}/{name}"}).encode())
            return self.tell({"url": f"{self.server.address}/{name}"})
        if match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(preupload|commit|revision|tree)/([^/]+))?.*", path):
            name, what, revision = match.groups()
            files = repositories.get(name)
            if files is None:
                return self.reply(404, b"{}", X_Error_Code="RepoNotFound")
            if revision not in (None, "main", commit_of(files)):
                return self.reply(404, b"{}", X_Error_Code="RevisionNotFound")
            if what == "preupload":
                paths = [each["path"] for each in json.loads(body)["files"]]
                return self.tell({"files": [{"path": each, "uploadMode": "regular", "shouldIgnore": False} for each in paths]})
            if what == "commit":
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                oid = commit_of(files)
                return self.tell({"commitUrl": f"{self.server.address}/{name}/commit/{oid}", "commitOid": oid, "success": True})
            if what == "tree":
                return self.tell(
                    [{"type": "file", "path": each, "size": len(content), "oid": digest(content)} for each, content in files.items()]
                )
            return self.tell({"id": name, "sha": commit_of(files), "siblings": [{"rfilename": each} for each in files]})
        if match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            name, file = match.groups()
            if name not in repositories:
                return self.reply(404, X_Error_Code="RepoNotFound")
            files = repositories[name]
            if file not in files:
                return self.reply(404, X_Error_Code="EntryNotFound", X_Repo_Commit=commit_of(files))
            return self.reply(200, files[file], X_Repo_Commit=commit_of(files), ETag=f'"{digest(files[file])}"')
        return self.reply(404, b"{}")

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def do_HEAD(self) -> None:
        self.answer()


def digest(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def commit_of(files: dict[str, bytes]) -> str:
    return digest(b"".join(name.encode() + content for name, content in sorted(files.items())))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    server = Hub()
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}")
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_PROGRESS_BARS", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setenv("TORCHNIN_HOME", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    return torchnin.load("mnist", device="cpu", backend="torch")


def test_what_is_pushed_is_loaded(hub: Hub, classifier: Classifier, tmp_path: Path) -> None:
    address = push_to_hub(classifier, "me/digits", license="mit", token=TOKEN)
    assert address.startswith(f"{hub.address}/me/digits/commit/")
    assert set(hub.repositories["me/digits"]) >= {"config.json", "model.safetensors", "README.md"}
    loaded = load_from_hub("me/digits", backend="torch")
    pictures = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    assert loaded.predict(list(pictures)) == classifier.predict(list(pictures))
    assert (loaded.class_names, loaded.metadata) == (classifier.class_names, without_places(classifier.metadata))
    assert list((tmp_path / "cache" / "hub").iterdir())  # and nowhere else
    commit = address.rpartition("/")[2]
    assert load_from_hub("me/digits", revision=commit, backend="torch").class_names == classifier.class_names


def test_a_download_is_used_again(hub: Hub, classifier: Classifier) -> None:
    push_to_hub(classifier, "me/digits", token=TOKEN, half=True)
    load_from_hub("me/digits")
    assert len(hub.repositories["me/digits"]["model.safetensors"]) < 750_000
    hub.asked.clear()
    assert load_from_hub("me/digits").class_names == classifier.class_names
    assert not [line for line in hub.asked if line.startswith("GET") and "/resolve/" in line]
    hub.asked.clear()
    assert load_from_hub("me/digits", local_files_only=True).class_names == classifier.class_names
    assert not hub.asked


def test_commands_take_what_lies_on_the_hub(hub: Hub, classifier: Classifier, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    commit = push_to_hub(classifier, "me/digits", token=TOKEN).rpartition("/")[2]
    Image.new("L", (28, 28)).save(tmp_path / "black.png")
    for source in ("hf-hub:me/digits", f"hf-hub:me/digits@{commit}"):
        with pytest.raises(SystemExit) as ended:
            main(["predict", source, str(tmp_path / "black.png"), "--json"])
        assert not ended.value.code
        found = json.loads(capsys.readouterr().out)
        assert found["label"] == classifier.predict(tmp_path / "black.png").label
    for command in (["summary"], ["compare", "--seconds", "0"]):
        with pytest.raises(SystemExit) as ended:
            main([command[0], "hf-hub:me/digits", *command[1:]])
        assert not ended.value.code
        assert "349,674" in capsys.readouterr().out
    with pytest.raises(SystemExit) as ended:
        main(["predict", "hf-hub:me/nothing", str(tmp_path / "black.png")])
    assert ended.value.code == 2
    assert "there is no me/nothing on the Hub" in capsys.readouterr().err


def test_a_card_that_is_there_stays(hub: Hub, classifier: Classifier) -> None:
    push_to_hub(classifier, "me/digits", token=TOKEN)
    hub.repositories["me/digits"]["README.md"] = b"my own words"
    push_to_hub(classifier, "me/digits", token=TOKEN)
    assert hub.repositories["me/digits"]["README.md"] == b"my own words"
    with pytest.warns(UserWarning, match="me/digits has a card, which stays as it is, without license and picture; replace_card=True"):
        push_to_hub(classifier, "me/digits", token=TOKEN, license="mit", picture=np.zeros((28, 28), np.uint8))
    assert hub.repositories["me/digits"]["README.md"] == b"my own words"
    picture = np.zeros((28, 28), np.uint8)
    push_to_hub(classifier, "me/digits", token=TOKEN, replace_card=True, picture=picture)
    files = hub.repositories["me/digits"]
    assert b"](class-maps.png)" in files["README.md"]
    assert files["class-maps.png"].startswith(b"\x89PNG")


def test_names_on_the_card_are_no_markup(classifier: Classifier) -> None:
    names = ("<b>bold", "a *b* _c_", "one, two", "two\nlines", "a `tick`", *"56789")
    metadata = {"data": {"name": "my <i>pictures"}, "test_accuracy": 0.5}
    card = model_card(Classifier(classifier.network, classifier.preprocessing, names, metadata=metadata), "me/odd")
    assert "one of 10 classes: `<b>bold`, `a *b* _c_`, `one, two`, `two lines`, `` a `tick` ``, `5`, `6`, `7`, `8`, `9`.\n" in card
    assert "trained on `my <i>pictures`." in card
    assert "50.00% of the test pictures of `my <i>pictures`." in card


def test_the_card_says_what_is_known(classifier: Classifier) -> None:
    card = model_card(classifier, "me/digits", license="mit")
    assert card.startswith("---\n")
    data = card.split("---")[1]
    for line in ("library_name: torchnin", "pipeline_tag: image-classification", "license: mit", "- ylecun/mnist", "value: 0.9968"):
        assert line in data
    assert 'load_from_hub("me/digits")' in card
    assert "349,674 parameters" in card
    assert "99.68% of the test pictures of mnist (95 % interval 99.55% to 99.77%)" in card
    metadata = classifier.metadata | {"data": classifier.metadata["data"] | {"published": False}}  # one's own pictures, called mnist
    own = model_card(Classifier(classifier.network, classifier.preprocessing, classifier.class_names, metadata=metadata), "me/own")
    assert "ylecun/mnist" not in own
    assert "trained on `mnist`" in own
    bare = Classifier(classifier.network, classifier.preprocessing, classifier.class_names)
    said = model_card(bare, "me/bare")
    assert "model-index" not in said
    assert "How good it is" not in said
    assert "license" not in said
    assert "class-activation-map" in said
    connected = Classifier(torchnin.create_model("nin_mnist", head="fc"), classifier.preprocessing, classifier.class_names)
    assert "class-activation-map" not in model_card(connected, "me/connected")
    bare.metadata = {"data": "my photos", "test_accuracy": "0.9"}
    assert model_card(bare, "me/bare") == said


def test_what_is_not_there_is_told(hub: Hub, classifier: Classifier) -> None:
    with pytest.raises(ValueError, match="there is no me/nothing on the Hub, or it is not for you"):
        load_from_hub("me/nothing")
    hub.repositories["me/other"] = {"config.json": b"{}", "pytorch_model.bin": b"?"}
    with pytest.raises(ValueError, match=r"me/other holds no classifier of torchnin: model\.safetensors missing"):
        load_from_hub("me/other")
    with pytest.raises(ValueError, match="me/other has no revision 'v9' on the Hub"):
        load_from_hub("me/other", revision="v9")
    with pytest.raises(ValueError, match="Repo id must"):
        load_from_hub("no name")
    with pytest.raises(PermissionError, match=r"me/forbidden cannot be read with this token \(403\)"):
        load_from_hub("me/forbidden")
    hub.repositories["me/broken"] = {"config.json": b"{}", "model.safetensors": b"?"}
    with pytest.raises(torchnin.DataError):
        load_from_hub("me/broken")


def test_nothing_is_said_of_this_machine(hub: Hub, classifier: Classifier, tmp_path: Path) -> None:
    data = {"name": str(tmp_path / "patients"), "source": str(tmp_path / "patients"), "notes": [f"of {tmp_path}"]}
    data["skipped"] = [[str(tmp_path / "patients" / "one.png"), "broken"]]
    mine = Classifier(classifier.network, classifier.preprocessing, classifier.class_names, metadata={"data": data, "test_accuracy": 0.5})
    push_to_hub(mine, "me/mine", token=TOKEN)
    assert not [name for name, content in hub.repositories["me/mine"].items() if str(tmp_path).encode() in content]
    assert load_from_hub("me/mine").metadata["data"]["name"] == "patients"
    assert b"50.00% of the test pictures of `patients`." in hub.repositories["me/mine"]["README.md"]
    assert mine.metadata["data"] == data


def test_a_repository_is_made_when_it_can_be_filled(hub: Hub, classifier: Classifier, tmp_path: Path) -> None:
    with pytest.raises(torchnin.DataError):
        push_to_hub(classifier, "me/digits", token=TOKEN, picture=tmp_path / "none.png")
    with pytest.raises(ValueError, match="me/digits has no revision 'v1' on the Hub"):
        push_to_hub(classifier, "me/digits", token=TOKEN, revision="v1")
    with pytest.raises(ValueError, match="'digits' names no owner; a repository is written to as owner/name"):
        push_to_hub(classifier, "digits", token=TOKEN)
    with pytest.raises(TypeError, match=r"classifier is of type str; accepted: a Classifier, such as torchnin\.load"):
        push_to_hub("runs/first", "me/digits", token=TOKEN)  # type: ignore[arg-type]
    assert not hub.repositories


def test_without_a_right_to_write_nothing_is_written(hub: Hub, classifier: Classifier) -> None:
    for token in ("hf_wrong", None):
        with pytest.raises(PermissionError, match=r"me/digits cannot be written to .*hf auth login"):
            push_to_hub(classifier, "me/digits", token=token)
    assert not hub.repositories


def test_without_a_network_it_is_told(hub: Hub, classifier: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ConnectionError, match="me/digits cannot be read: the Hub cannot be reached"):
        load_from_hub("me/digits")
    with pytest.raises(ConnectionError, match="me/digits cannot be written to"):
        push_to_hub(classifier, "me/digits", token=TOKEN)
    with pytest.raises(ConnectionError, match="was not downloaded before"):
        load_from_hub("me/digits", local_files_only=True)
