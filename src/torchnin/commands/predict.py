"""`nin predict`: what a classifier says of pictures."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import tyro

import torchnin
from torchnin.commands.networks import Json
from torchnin.commands.output import note


def predict(
    classifier: Annotated[str, tyro.conf.Positional],
    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional],
    *,
    top: int = 3,
    device: str = "auto",
    as_json: Json = False,
) -> int:
    """Classify pictures: a line each, the most probable classes first.

    Args:
        classifier: A run folder or a saved classifier's folder.
        pictures: Files, or folders whose pictures are taken, those in subfolders too.
        top: How many classes to show.
        device: auto, cpu, cuda or mps.
        as_json: Print a line of JSON per picture.
    """
    if top < 1:
        raise ValueError(f"--top is {top}; it must be at least 1")
    loaded = torchnin.load(classifier, device=device)
    paths = list(_files(pictures))
    failed = 0
    for path, prediction in zip(paths, loaded.predict_or_error(paths), strict=True):
        if isinstance(prediction, torchnin.DataError):
            failed += 1
            reason = str(prediction).removeprefix(f"{path}: ")
            if as_json:
                print(json.dumps({"path": str(path), "error": reason}, ensure_ascii=False))
            else:
                note(f"{path}: {reason}")
        elif as_json:
            document = {"path": str(path), "label": prediction.label, "probability": prediction.probability}
            print(json.dumps({**document, "probabilities": prediction.probabilities}, ensure_ascii=False))
        else:
            best = list(prediction.probabilities.items())[:top]
            print(f"{path}: " + ", ".join(f"{name} {probability:.4f}" for name, probability in best))
    if failed:
        note(f"{failed} of {len(paths)} pictures could not be read")
    return 1 if failed else 0


def _files(given: tuple[Path, ...]) -> Iterator[Path]:
    if not given:
        raise ValueError("no picture was named; give files or folders")
    for path in given:
        if not path.is_dir():
            yield path
            continue
        inside = torchnin.data.pictures_below(path)
        if not inside:
            raise ValueError(f"{path} holds no pictures; their names end in {', '.join(sorted(torchnin.data.SUFFIXES))}")
        yield from inside
