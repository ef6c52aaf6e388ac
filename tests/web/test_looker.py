"""Processes that look at the pictures: the same answers as without them, and another one where one dies."""

import asyncio
import dataclasses
import io
import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal, cast

import httpx
import numpy as np
import pytest
import torch
from PIL import Image

from torchnin import Classifier, NiN, NiNConfig, Preprocessing, Run
from torchnin.web import Limits, ServiceSettings, queue
from torchnin.web.limits import RefusedError
from torchnin.web.looker import Looker, LookerProcess, Task

Serve = Callable[..., AbstractContextManager[httpx.Client]]
WaitUntil = Callable[..., None]
WORKS: tuple[Literal["predict", "explain"], ...] = ("predict", "explain")
PICTURE = (Path(__file__).parents[2] / "docs" / "pictures" / "ankle-boot.png").read_bytes()


def children() -> set[int]:
    """The processes that this one started."""
    return {int(number) for file in Path("/proc/self/task").glob("*/children") for number in file.read_text(encoding="utf-8").split()}


@pytest.fixture(scope="module")
def served(trained: Run, service: Serve) -> Iterator[tuple[httpx.Client, set[int]]]:
    """A client, and the processes that look."""
    before, threads = children(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with service(trained.classifier, ServiceSettings(own_processes=True, limits=Limits(answer_seconds=600))) as client:
            yield client, children() - before
        assert children() <= before
    finally:
        torch.set_num_threads(threads)


def ask(client: httpx.Client, body: bytes, path: str = "/v1/predict") -> httpx.Response:
    return client.post(path, content=body, headers={"Content-Type": "image/png"})


@pytest.mark.parametrize("width", [1, 2, 3, 4])
def test_narrow_pictures_are_explained_as_they_are_predicted(width: int, trained: Run) -> None:
    """Of an array the last axis may be its channels, where it is so short; what was decoded has them first."""
    file = io.BytesIO()
    Image.fromarray(np.arange(30 * width, dtype=np.uint8).reshape(30, width)).save(file, "PNG")
    looker = Looker(trained.classifier, 10**6)
    predicted, explained = (json.loads(cast("bytes", found)) for found in looker.look([Task(work, file.getvalue()) for work in WORKS]))
    told = dict(zip(explained["class_names"], explained["probabilities"], strict=True))
    assert told == pytest.approx(predicted["probabilities"], abs=1e-5)


def test_processes_answer_as_predict_does(served: tuple[httpx.Client, set[int]], trained: Run) -> None:
    client, processes = served
    assert len(processes) == 2
    large = io.BytesIO()
    Image.fromarray(np.arange(300 * 300, dtype=np.uint32).astype(np.uint8).reshape(300, 300)).save(large, "PNG")
    for picture in (PICTURE, large.getvalue()):
        expected = trained.classifier.predict(picture)
        answer = ask(client, picture).json()
        assert answer["label"] == expected.label
        assert answer["probabilities"] == pytest.approx(expected.probabilities, abs=1e-5)
        explained = ask(client, picture, "/v1/explain?layers=false").json()
        assert dict(zip(explained["class_names"], explained["probabilities"], strict=True)) == pytest.approx(
            expected.probabilities, abs=1e-5
        )
    broken = ask(client, PICTURE[:300])
    assert (broken.status_code, list(broken.json())) == (422, ["error"])
    files = [("picture", (f"{number}.png", PICTURE[: None if number % 2 else 300], "image/png")) for number in range(8)]
    rows = client.post("/v1/predict", files=files).json()
    assert [next(iter(row)) for row in rows] == ["error", "label"] * 4


def test_a_network_that_has_diverged_fails_at_every_picture(tiny: NiNConfig, caplog: pytest.LogCaptureFixture) -> None:
    network = NiN(dataclasses.replace(tiny, head="fc"))
    with torch.no_grad():
        for weights in network.head.parameters():
            weights.fill_(float("nan"))
    one = Preprocessing(channels=1, height=28, width=28, mean=(0.0,), std=(1.0,))
    looker = Looker(Classifier(network, one, [str(label) for label in range(10)], device="cpu"), 10**6)
    for outcome in looker.look([Task("predict", PICTURE)] * 2):
        assert isinstance(outcome, RefusedError)
        assert (outcome.status, outcome.reason) == (500, "the service failed at this picture (ValueError); its log says where")
    assert "are not finite, so they have no probabilities" in caplog.text


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's list of processes")
def test_their_memory_is_told(served: tuple[httpx.Client, set[int]]) -> None:
    client, processes = served
    lines = client.get("/metrics").text.splitlines()
    told = next(float(line.split()[1]) for line in lines if line.startswith("nin_lookers_resident_memory_bytes "))
    held = [re.search(r"VmRSS:\s*(\d+) kB", Path(f"/proc/{number}/status").read_text(encoding="utf-8")) for number in processes]
    assert told == pytest.approx(sum(1024 * int(each[1]) for each in held if each), rel=0.2)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's list of processes")
def test_where_one_dies_another_takes_its_place(
    served: tuple[httpx.Client, set[int]], caplog: pytest.LogCaptureFixture, wait_until: WaitUntil
) -> None:
    client, processes = served
    for number in processes:
        os.kill(number, signal.SIGKILL)
    wait_until(lambda: not any(Path(f"/proc/{number}/cmdline").read_bytes() for number in processes & children()))
    assert [ask(client, PICTURE).status_code for _ in range(4)] == [200] * 4
    assert client.get("/healthz").status_code == 200
    assert "another is started" in caplog.text


def test_a_picture_that_is_alone_has_all_cores(trained: Run, service: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, int, bool]] = []

    def send(process: LookerProcess, tasks: Sequence[Task], *, alone: bool = False) -> None:
        told.append((process.most_cores, len(tasks), alone))
        plain(process, tasks, alone=alone)

    plain, threads = LookerProcess.send, torch.get_num_threads()
    monkeypatch.setattr(LookerProcess, "send", send)
    monkeypatch.setattr(queue, "_SOME_WORK", 0)
    expected = trained.classifier.predict(PICTURE).probabilities
    torch.set_num_threads(3)
    try:
        with service(trained.classifier, ServiceSettings(own_processes=True, limits=Limits(answer_seconds=600))) as client:
            for _ in range(3):
                assert ask(client, PICTURE).json()["probabilities"] == pytest.approx(expected, abs=1e-5)
            assert told == [(3, 1, True)] * 3  # one of the processes, on all cores
            files = [("picture", (f"{number}.png", PICTURE, "image/png")) for number in range(7)]
            rows = client.post("/v1/predict", files=files).json()
            assert [row["probabilities"] for row in rows] == [pytest.approx(expected, abs=1e-5)] * 7
    finally:
        torch.set_num_threads(threads)
    assert sum(count for _, count, _ in told[3:]) == 7
    assert not any(alone for *_, alone in told[3:])


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's list of processes")
def test_one_that_hangs_is_replaced(trained: Run, service: Serve, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil) -> None:
    monkeypatch.setattr(queue, "_MOST_DEADLINES", 1)
    before, threads = children(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with service(trained.classifier, ServiceSettings(own_processes=True, limits=Limits(answer_seconds=2))) as client:
            processes = children() - before
            for number in processes:
                os.kill(number, signal.SIGSTOP)
            assert [ask(client, PICTURE).status_code for _ in processes] == [504, 504]
            wait_until(lambda: not children() & processes)
            wait_until(lambda: ask(client, PICTURE).status_code == 200)
    finally:
        torch.set_num_threads(threads)


def test_where_no_process_is_left_nobody_waits(
    trained: Run, service: Serve, monkeypatch: pytest.MonkeyPatch, wait_until: WaitUntil
) -> None:
    async def fails(process: LookerProcess) -> None:
        raise RuntimeError("no memory for another")

    monkeypatch.setattr(LookerProcess, "replace", fails)
    before, threads = children(), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with service(trained.classifier, ServiceSettings(own_processes=True, limits=Limits(answer_seconds=600))) as client:
            for number in children() - before:
                os.kill(number, signal.SIGKILL)
            wait_until(lambda: client.get("/healthz").status_code != 200)
            wait_until(lambda: ask(client, PICTURE).status_code == 500)
            assert "could start no others" in ask(client, PICTURE).json()["error"]
    finally:
        torch.set_num_threads(threads)


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs Linux's list of processes")
def test_where_one_cannot_begin_none_is_left(trained: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    before, threads, plain = children(), torch.get_num_threads(), LookerProcess.start
    refused: list[LookerProcess] = []

    async def start(process: LookerProcess) -> None:
        if refused:
            await plain(process)
        else:
            refused.append(process)
            while children() <= before:  # until another is beginning
                await asyncio.sleep(0.01)
            raise OSError(12, "Cannot allocate memory")

    async def begin() -> None:
        with pytest.raises(OSError, match="Cannot allocate memory"):
            await queue.BatchingQueue(trained.classifier, Limits(), own_processes=True).start()
        assert children() <= before

    monkeypatch.setattr(LookerProcess, "start", start)
    torch.set_num_threads(2)
    try:
        asyncio.run(begin())
    finally:
        torch.set_num_threads(threads)
