"""`nin predict`: what a classifier says of pictures."""

import glob
from collections import Counter
from collections.abc import Iterator
from itertools import chain, tee
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

import torchnin
from torchnin.commands.loading import load_classifier
from torchnin.commands.networks import Csv, Given, JsonLines
from torchnin.commands.output import note, to_json, write
from torchnin.commands.progress import picture_bar
from torchnin.files import exists, is_folder
from torchnin.values import comma_separated, on_one_line

if TYPE_CHECKING:
    from torchnin import Classifier, ExportedClassifier, Prediction

_TOP = 3


def predict(
    classifier: Annotated[str, tyro.conf.Positional],
    pictures: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(help_behavior_hint="")],
    *,
    top: Given[int] = None,
    device: str = "auto",
    as_json: JsonLines = False,
    as_csv: Csv = False,
) -> int:
    """Classify pictures: a line each, the most probable classes first.

    A picture that cannot be read is reported, the others go on, and the exit code is 1.

    Args:
        classifier: A run folder, a saved classifier's folder, the name of weights that ship (see `nin models`), hf-hub:OWNER/NAME, or an
            .onnx file that nin export wrote, which runs without torch.
        pictures: Files, folders whose pictures are taken (those in subfolders too), or quoted patterns such as 'photos/**/*.jpg'.
        top: How many classes to show: 3 by default, with --json all.
        device: auto, cpu, cuda or mps; an .onnx file runs on the cpu.
        as_json: Print a line of JSON per picture.
        as_csv: Print comma-separated values, a line per picture.
    """
    if top is not None and top < 1:
        raise ValueError(f"--top is {top}; it must be at least 1")
    if as_json and as_csv:
        raise ValueError("--json and --csv are two forms of the same lines; give one of them")
    loaded = _load(classifier, device)
    shown = min(top or (len(loaded.class_names) if as_json else _TOP), len(loaded.class_names))
    line = _json_line if as_json else _csv_line if as_csv else _plain_line
    others: Counter[str] = Counter()
    paths, named = tee(each_picture(pictures, others))
    if as_csv:
        later = chain.from_iterable((f"label_{place}", f"probability_{place}") for place in range(2, shown + 1))
        write(comma_separated(("path", "label", "probability", *later, "error")))
    total = failed = 0
    with picture_bar(lambda: sum(1 for _ in each_picture(pictures))) as say:
        for path, found in zip(named, loaded.predict_or_error(paths), strict=True):
            total += 1
            if isinstance(found, torchnin.DataError):
                failed += 1
                reason = str(found).removeprefix(f"{path}: ")
                say(line(path, reason, shown))
                if not (as_json or as_csv):
                    note(on_one_line(f"{path}: {reason}"))
            else:
                say(line(path, found, shown))
    if others:
        note(torchnin.data.others_sentence(others))
    if failed:
        note(f"{failed:,} of {total:,} pictures could not be read")
    return 1 if failed else 0


def _load(classifier: str, device: str) -> "Classifier | ExportedClassifier":
    if Path(classifier).suffix.lower() != ".onnx" or is_folder(Path(classifier)):
        return load_classifier(classifier, device=device, backend="torch")
    if device not in ("auto", "cpu"):
        raise ValueError(
            f"--device is {device!r}; an .onnx file runs on the cpu: leave it out, or give the folder that it was exported from"
        )
    return torchnin.ExportedClassifier(classifier)


def _plain_line(path: Path, found: "Prediction | str", top: int) -> str | None:
    if isinstance(found, str):
        return None
    return on_one_line(f"{path}: " + ", ".join(f"{name} {probability:.4f}" for name, probability in _best(found, top)))


def _json_line(path: Path, found: "Prediction | str", top: int) -> str:
    document: dict[str, Any] = {"path": str(path)}
    if isinstance(found, str):
        document["error"] = found
    else:
        document |= {"label": found.label, "probability": found.probability, "probabilities": dict(_best(found, top))}
    return to_json(document)


def _csv_line(path: Path, found: "Prediction | str", top: int) -> str:
    if isinstance(found, str):
        return comma_separated((path, *("" for _ in range(2 * top)), found))
    return comma_separated((path, *chain.from_iterable(_best(found, top)), ""))


def _best(found: "Prediction", top: int) -> list[tuple[str, float]]:
    return list(found.probabilities.items())[:top]


def each_picture(given: tuple[Path, ...], others: Counter[str] | None = None) -> Iterator[Path]:
    """The pictures that the arguments stand for, one after the other; whether they stand for any is checked before the first.

    `others` counts the files in folders that are not read, by the endings of their names.

    Raises:
        ValueError: no argument was given, a folder holds no pictures, or nothing but such folders has a name of the given pattern.
    """
    if not given:
        raise ValueError("no picture was named; give files, folders or quoted patterns")
    names = f"their names end in {', '.join(sorted(torchnin.data.SUFFIXES))}"
    for path in given:
        if is_folder(path) and next(torchnin.data.each_picture_below(path), None) is None:
            raise ValueError(f"{path} holds no pictures; {names}")
        if not _is_pattern(path):
            continue
        if next(_matches(path), None) is None:
            raise ValueError(f"nothing has a name like {str(path)!r}; give files, folders, or a quoted pattern such as 'photos/**/*.jpg'")
        if next(chain.from_iterable(_of_match(Path(found), path, None) for found in _matches(path)), None) is None:
            raise ValueError(f"only folders have a name like {str(path)!r}, and they hold no pictures; {names}")
    return chain.from_iterable(_below(path, others) for path in given)


def _below(path: Path, others: Counter[str] | None) -> Iterator[Path]:
    if is_folder(path):
        yield from torchnin.data.each_picture_below(path, others)
    elif _is_pattern(path):
        for found in sorted(_matches(path), key=torchnin.data.natural_key):
            yield from _of_match(Path(found), path, others)
    else:
        yield path


def _matches(pattern: Path) -> Iterator[str]:
    return glob.iglob(str(pattern), recursive=True)


def _of_match(found: Path, pattern: Path, others: Counter[str] | None) -> Iterator[Path]:
    """The pictures that a file or folder of the pattern's name stands for."""
    if not is_folder(found):
        yield found
    elif "**" not in pattern.parts:  # which names the files inside by itself
        yield from torchnin.data.each_picture_below(found, others)


def _is_pattern(path: Path) -> bool:
    """A file whose name has brackets is that file; `photos/*.jpg` is a pattern where no file has that name."""
    return glob.has_magic(str(path)) and not exists(path)
