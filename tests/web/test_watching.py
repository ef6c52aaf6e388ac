"""The training view's state: what a training tells, as another program reads it over HTTP."""

import dataclasses
import json
import socket
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from torchnin import NiNConfig, Recipe, Run, resume, train, train_seeds
from torchnin.web import listen, watched
from torchnin.web.watching import Watcher

RECIPE = Recipe(num_epochs=2, batch_size=32, lr=0.1)


def ask(address: str, path: str = "v1/training", **options: Any) -> httpx.Response:
    return httpx.get(address + path, timeout=600, trust_env=False, **options)


def test_a_training_from_its_beginning_to_its_end(tiny: NiNConfig, few_file: Path, tmp_path: Path) -> None:
    with watched(0) as (watcher, address):
        before = ask(address).json()
        assert (before["phase"], before["final"], before["rows"]) == ("waiting", False, [])
        run = train(tiny, str(few_file), RECIPE, name="tiny", out=tmp_path / "run", watcher=watcher, quiet=True)
        told = ask(address).json()
    assert told["phase"] == "done"
    assert told["rows"] == run.metrics
    assert told["result"] == run.result
    assert (told["path"], told["name"], told["num_classes"], told["can_die"]) == (str(tmp_path / "run"), "tiny", 10, True)
    assert (told["progress"], told["epoch"], told["num_epochs"]) == (1.0, 2, 2)
    assert any("320 pictures" in note for note in told["notes"])


def test_before_a_fully_connected_head_there_are_no_class_maps_that_could_die(tiny: NiNConfig, few_file: Path, tmp_path: Path) -> None:
    network = dataclasses.replace(tiny, head="fc")
    with watched(0) as (watcher, _):
        train(network, str(few_file), dataclasses.replace(RECIPE, num_epochs=1), out=tmp_path / "run", watcher=watcher, quiet=True)
        told = watcher.state()
    assert (told["phase"], told["num_classes"], told["can_die"], told["dead"]) == ("done", 0, False, [])


def test_the_stream_ends_with_the_last_word(tiny: NiNConfig, few_file: Path, tmp_path: Path) -> None:
    with watched(0) as (watcher, address), httpx.Client(trust_env=False, timeout=600) as client:
        stream = client.stream("GET", address + "v1/training/events")
        response = stream.__enter__()
        lines = response.iter_lines()
        assert json.loads(next(lines).removeprefix("data: "))["phase"] == "waiting"
        train(tiny, str(few_file), RECIPE, out=tmp_path / "run", watcher=watcher, quiet=True)
        watcher.finish()
        last = [json.loads(line.removeprefix("data: ")) for line in lines if line][-1]
        stream.__exit__(None, None, None)
    assert (last["phase"], last["final"]) == ("done", True)


def test_a_training_that_fails_says_why_and_the_view_ends(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of luck"), watched(0) as (watcher, address):
        raise RuntimeError("out of luck")
    assert (watcher.state()["phase"], watcher.state()["reason"]) == ("stopped", "out of luck")
    with pytest.raises(httpx.ConnectError):
        ask(address)


def test_many_seeds_of_which_the_last_diverges_end_with_what_was_found(tiny: NiNConfig, few_file: Path, tmp_path: Path) -> None:
    recipe = dataclasses.replace(RECIPE, lr=1e30, warmup=0.0)
    with watched(0) as (watcher, _):
        summary = train_seeds(tiny, str(few_file), recipe, seeds=1, out=tmp_path / "study", watcher=watcher, quiet=True)
        assert summary["failures"] == 1
    told = watcher.state()
    assert told["phase"] == "stopped"
    assert "not finite" in told["reason"]


def test_a_training_that_goes_on_shows_what_was_before(trained: Run, tiny: NiNConfig, few_file: Path, tmp_path: Path) -> None:
    with watched(0) as (watcher, _):
        watcher.begin(trained.path)
        watcher.begin_epoch(2, 2, 0, 10)
        watcher.step(5, 1.25, 0.5, 100.0, ["Bag"])
    told = watcher.state()
    assert [row["epoch"] for row in told["rows"]] == [1]  # the second epoch runs anew
    assert told["dead"] == ["Bag"]
    assert told["trace"] == [(1.5, 1.25, 0.5)]
    assert told["progress"] == 0.75
    with watched(0) as (watcher, _):
        assert resume(trained.path, watcher=watcher).result == trained.result  # finished: there is nothing to watch


def test_the_curve_within_epochs_stays_short(trained: Run) -> None:
    with watched(0) as (watcher, _):
        watcher.begin(trained.path)
        watcher.begin_epoch(1, 1, 0, 5000)
        for step in range(5000):
            watcher.step(step, 1.0, 0.5, 100.0)
    trace = watcher.state()["trace"]
    assert len(trace) <= 400
    assert trace[0][0] < 0.01
    assert trace[-1][0] > 0.9


def test_the_time_left_after_going_back_is_that_of_the_steps_since(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher, now = Watcher(), [0.0]
    monkeypatch.setattr("torchnin.web.watching.time", SimpleNamespace(monotonic=lambda: now[0]))
    watcher.begin(trained.path)
    watcher.begin_epoch(1, 1, 0, 10)
    now[0] = 600.0
    watcher.step(5, 1.0, 0.5, 100.0)
    assert watcher.state()["seconds_left"] == 600
    watcher.begin_epoch(1, 1, 0, 10)
    assert watcher.state()["seconds_left"] is None
    now[0] = 601.0
    watcher.step(1, 1.0, 0.5, 100.0)
    assert watcher.state()["seconds_left"] == pytest.approx(9)


def test_a_loss_that_is_no_number_is_shown_as_none(trained: Run) -> None:
    with watched(0) as (watcher, address):
        watcher.begin(trained.path)
        watcher.begin_epoch(1, 2, 0, 100)
        watcher.step(10, 2.0, 0.1, 100.0)
        for step, loss in ((20, float("nan")), (30, float("inf"))):
            watcher.step(step, loss, 0.1, 100.0)
            told = ask(address).json()
            assert (told["loss"], told["progress"]) == (None, step / 200)
        assert told["trace"] == [[0.1, 2.0, 0.1]]


def test_only_this_machine_by_its_own_name() -> None:
    with watched(0) as (_, address):
        assert address.startswith("http://127.0.0.1:")
        assert ask(address, headers={"host": "elsewhere.example"}).status_code == 421
        page = ask(address, "")
        assert "default-src 'self'" in page.headers["content-security-policy"]
        assert "training.js" in page.text


def test_a_port_that_is_taken() -> None:
    with listen("127.0.0.1", 0) as taken:
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ValueError, match=f"cannot listen on 127.0.0.1 port {port}"), watched(port):
            pass
    with watched() as (_, first), watched() as (_, second):
        assert first != second


def test_from_the_command_line(nin: Callable[..., Any], few_file: Path, tmp_path: Path) -> None:
    answer = nin("train", few_file, "--watch", "--out", tmp_path / "run", "--num-epochs", "1", "--batch-size", "80")
    assert answer.code == 0, answer.err
    address = answer.err.partition("watch it at ")[2].split()[0]
    host, port = address.removeprefix("http://").strip("/").split(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)), timeout=5)
