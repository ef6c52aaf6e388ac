import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from torchnin import Classifier, DatasetSplits, NiN, NiNConfig, Preprocessing, Run


@pytest.fixture
def picture(few: DatasetSplits, tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(few.test.images[0, 0]).save(path)
    return path


def test_class_maps(nin: Callable[..., Any], trained: Run, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "maps.png"
    answer = nin("explain", trained.path, picture, "--out", out, "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    prediction = trained.classifier.predict(picture)
    assert [row["label"] for row in document["classes"]] == list(prediction.probabilities)
    assert sum(row["probability"] for row in document["classes"]) == pytest.approx(1)
    assert out.read_bytes().startswith(b"\x89PNG")
    plain = nin("explain", trained.path, picture, "--out", out, "--top", "2")
    assert plain.out.count("\n") == 2
    assert plain.err.startswith(f"class maps: {out}; each has 2x2 values, and each value sees up to 28x28 of the 28x28 pixels")
    assert (document["map_size"], document["seen_pixels"], document["given_pixels"]) == ([2, 2], [28, 28], [28, 28])


def test_a_larger_picture_at_its_own_size_gives_larger_maps(nin: Callable[..., Any], trained: Run, picture: Path, tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    with Image.open(picture) as opened:
        opened.resize((84, 56)).save(large)
    rows = {}
    for flag in ("--resize", "--no-resize"):
        answer = nin("explain", trained.path, large, "--out", tmp_path / "layers.png", "--layers", flag, "--json")
        rows[flag] = json.loads(answer.out)["blocks"]
    assert rows["--resize"][0]["shape"] == [8, 14, 14]
    assert rows["--no-resize"][0]["shape"] == [8, 28, 42]


def test_layers(nin: Callable[..., Any], trained: Run, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "layers.svg"
    answer = nin("explain", trained.path, picture, "--out", out, "--layers", "--json")
    assert answer.code == 0, answer.err
    blocks = json.loads(answer.out)["blocks"]
    assert [block["block"] for block in blocks] == ["block 1", "block 2", "block 3"]
    assert out.read_bytes().startswith(b"<?xml")
    header, first, *_ = nin("explain", trained.path, picture, "--out", out, "--layers").out.splitlines()
    assert header.startswith("block    channels x rows x columns")
    assert first.startswith("block 1  8x14x14")


def test_the_last_vector_at_a_pixel_is_that_place_of_the_class_maps(
    nin: Callable[..., Any], trained: Run, picture: Path, tmp_path: Path
) -> None:
    answer = nin("explain", trained.path, picture, "--out", tmp_path / "pixel.png", "--pixel", "14,9", "--json")
    assert answer.code == 0, answer.err
    document = json.loads(answer.out)
    assert document["pixel"] == [14, 9]
    last = document["blocks"][-1]
    maps = trained.classifier.explain(picture).class_maps
    found = torch.tensor(last["layers"][-1]["values"])
    torch.testing.assert_close(found, maps[:, last["row"], last["column"]], rtol=1e-4, atol=1e-5)


def test_a_fully_connected_head_has_no_class_maps_but_layers(
    nin: Callable[..., Any], tiny: NiNConfig, picture: Path, tmp_path: Path
) -> None:
    names = [f"class {number}" for number in range(10)]
    preprocessing = Preprocessing(channels=1, height=28, width=28, mean=(0.0,), std=(1.0,))
    folder = Classifier(NiN(dataclasses.replace(tiny, head="fc")), preprocessing, names).save(tmp_path / "connected")
    answer = nin("explain", folder, picture, "--out", tmp_path / "maps.png")
    assert (answer.code, answer.out) == (2, "")
    assert "this network's head is 'fc'" in answer.err
    assert not (tmp_path / "maps.png").exists()
    for flags in (("--layers",), ("--pixel", "0,27")):
        assert nin("explain", folder, picture, "--out", tmp_path / "other.png", *flags).code == 0


def test_wrong_calls(nin: Callable[..., Any], trained: Run, picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    small = tmp_path / "small.png"
    Image.fromarray(np.zeros((2, 2), np.uint8)).save(small)
    for arguments, said in (
        ((picture, "--out", out, "--pixel", "28,0"), "pixel 28,0 lies outside the picture: x goes from 0 to 27, y from 0 to 27"),
        ((picture, "--out", out, "--pixel", "14"), "--pixel is '14'; give column and row as X,Y, such as 14,9"),
        ((picture, "--out", out, "--pixel", "1,2,3"), "--pixel is '1,2,3'"),
        ((picture, "--out", out, "--pixel", "1,2", "--layers"), "give one of them at a time"),
        ((picture, "--out", out, "--layers", "--top", "2"), "leave it out with --layers and --pixel"),
        ((picture, "--out", out, "--top", "0"), "--top is 0"),
        ((picture, "--out", tmp_path / "out.gif"), "ends in '.gif'; accepted: .png"),
        ((tmp_path / "missing.png", "--out", out), "missing.png: there is no such picture"),
        ((picture, "--out", picture.parent / "." / picture.name), "is the picture itself, which the drawing would replace"),
        ((small, "--out", out, "--no-resize"), "too small for this network"),
    ):
        answer = nin("explain", trained.path, *arguments)
        assert (answer.code, answer.out) == (2, ""), arguments
        assert said in answer.err
        assert not out.exists()


def test_a_picture_that_does_not_decode_is_a_failure(nin: Callable[..., Any], trained: Run, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG no")
    answer = nin("explain", trained.path, broken, "--out", tmp_path / "out.png")
    assert (answer.code, answer.out) == (1, "")
    assert "broken.png" in answer.err
