"""`nin explain`: what the network saw where, and what its layers make of a picture."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

import torchnin
from torchnin.commands.loading import load_classifier
from torchnin.commands.networks import Given, Json, Switch
from torchnin.commands.output import note, result, table
from torchnin.files import exists
from torchnin.values import on_one_line

if TYPE_CHECKING:
    from torchnin import Classifier

_TOP = 3


def explain(
    classifier: Annotated[str, tyro.conf.Positional],
    picture: Annotated[Path, tyro.conf.Positional],
    *,
    out: Path,
    top: Given[int] = None,
    layers: Switch = False,
    pixel: Annotated[Given[str], tyro.conf.arg(metavar="X,Y")] = None,
    resize: bool = True,
    language: Literal["en", "zh"] = "en",
    device: str = "auto",
    as_json: Json = False,
) -> None:
    """Draw what the network saw where: the class maps of the most probable classes over the picture.

    With --layers the feature maps of every block are drawn instead, with --pixel the channels at one pixel before and after
    each 1x1 convolution.

    Args:
        classifier: A run folder, a saved classifier's folder, the name of weights that ship (see `nin models`), or hf-hub:OWNER/NAME.
        picture: The picture to explain.
        out: The file to draw into: .png, .pdf or .svg.
        top: How many classes to draw, 3 by default.
        layers: Draw the feature maps of every block instead.
        pixel: Draw the channels at this pixel of the picture instead; 0,0 is at the top left.
        resize: Bring the picture to the size of the training pictures first, as `nin predict` does.
        language: Language of the labels: en or zh.
        device: auto, cpu, cuda or mps.
        as_json: Print one JSON document on standard output.
    """
    if layers and pixel is not None:
        raise ValueError("--layers and --pixel are two drawings, and --out is one file; give one of them at a time")
    if top is not None and (layers or pixel is not None):
        raise ValueError("--top says how many class maps are drawn; leave it out with --layers and --pixel")
    if top is not None and top < 1:
        raise ValueError(f"--top is {top}; it must be at least 1")
    place = None if pixel is None else _place(pixel)
    torchnin.plots.require_drawable(out)
    if not exists(picture):
        raise FileNotFoundError(f"{picture}: there is no such picture")
    if exists(out) and out.samefile(picture):
        raise ValueError(f"--out {out} is the picture itself, which the drawing would replace; give another name")
    loaded = load_classifier(classifier, device=device, backend="torch")
    if layers:
        found, text = _feature_maps(loaded, picture, out, resize, language)
    elif place is not None:
        found, text = _pixel(loaded, picture, place, out, resize, language)
    else:
        found, text = _class_maps(loaded, picture, out, top or _TOP, resize, language)
    result({"path": str(picture), "out": str(out), **found}, text, as_json)


def _class_maps(
    loaded: "Classifier", picture: Path, out: Path, top: int, resize: bool, language: Literal["en", "zh"]
) -> tuple[dict[str, Any], str]:
    explanation = loaded.explain(picture, resize=resize)
    explanation.save(out, top=top, language=language)
    grid = explanation.grid
    size, seen, given = ("x".join(map(str, sides)) for sides in (grid.size, grid.seen, grid.picture_size))
    note(f"class maps: {out}; each has {size} values, and each value sees up to {seen} of the {given} pixels that the network was given")
    rows: list[dict[str, Any]] = [
        {
            "label": explanation.class_names[index],
            "probability": float(explanation.probabilities[index]),
            "logit": float(explanation.logits[index]),
        }
        for index in explanation.top(len(explanation.class_names))
    ]
    text = "\n".join(
        f"{on_one_line(row['label'])}: probability {row['probability']:.4f}, mean of its map {row['logit']:.3f}" for row in rows[:top]
    )
    facts = {"map_size": list(grid.size), "seen_pixels": list(grid.seen), "given_pixels": list(grid.picture_size)}
    return {"classes": rows, **facts}, text


def _feature_maps(
    loaded: "Classifier", picture: Path, out: Path, resize: bool, language: Literal["en", "zh"]
) -> tuple[dict[str, Any], str]:
    blocks = loaded.feature_maps(picture, resize=resize)
    torchnin.plots.feature_maps([maps.numpy() for _, maps in blocks], out, class_names=loaded.class_names, language=language)
    note(f"feature maps: {out}")
    rows: list[dict[str, Any]] = [
        {
            "block": name,
            "shape": list(maps.shape),
            "silent_channels": int((maps == 0).flatten(1).all(1).sum()),
            "mean": float(maps.mean()),
            "largest": float(maps.max()),
        }
        for name, maps in blocks
    ]
    text = table(
        ("block", "channels x rows x columns", "zero everywhere", "mean", "largest"),
        [
            (
                row["block"],
                "x".join(map(str, row["shape"])),
                f"{row['silent_channels']} of {row['shape'][0]}",
                f"{row['mean']:.3f}",
                f"{row['largest']:.3f}",
            )
            for row in rows
        ],
        right=frozenset({2, 3, 4}),
    )
    return {"blocks": rows}, text


def _pixel(
    loaded: "Classifier", picture: Path, place: tuple[int, int], out: Path, resize: bool, language: Literal["en", "zh"]
) -> tuple[dict[str, Any], str]:
    blocks = loaded.pixel_vectors(picture, *place, resize=resize)
    torchnin.plots.pixel_mlp(
        loaded.preprocessing.pixels(picture).numpy(),
        place,
        [((block.row, block.column), [(name, values.numpy()) for name, values in block.layers]) for block in blocks],
        out,
        class_names=loaded.class_names,
        language=language,
    )
    note(f"channels at pixel {place[0]},{place[1]}: {out}")
    rows: list[dict[str, Any]] = [
        {
            "block": block.block,
            "row": block.row,
            "column": block.column,
            "layers": [{"layer": name, "values": values.tolist()} for name, values in block.layers],
        }
        for block in blocks
    ]
    text = table(
        ("block", "row", "column", "layer", "channels", "above zero", "largest"),
        [
            (
                row["block"] if index == 0 else "",
                str(row["row"]) if index == 0 else "",
                str(row["column"]) if index == 0 else "",
                layer["layer"],
                str(len(layer["values"])),
                str(sum(value > 0 for value in layer["values"])),
                f"{max(layer['values']):.3f}",
            )
            for row in rows
            for index, layer in enumerate(row["layers"])
        ],
        right=frozenset({1, 2, 4, 5, 6}),
    )
    return {"pixel": list(place), "blocks": rows}, text


def _place(text: str) -> tuple[int, int]:
    if not re.fullmatch(r"[0-9]+,[0-9]+", text):
        raise ValueError(f"--pixel is {text!r}; give column and row as X,Y, such as 14,9; 0,0 is at the top left")
    x, y = text.split(",")
    return int(x), int(y)
