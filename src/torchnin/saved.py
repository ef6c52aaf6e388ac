"""A saved classifier's folder: the weights, and `config.json` with their checksum; both of one classifier, whatever happens."""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from torchnin.data import CATALOG, DataError
from torchnin.data.paths import natural_key
from torchnin.files import MAX_JSON_BYTES, exists, in_command, is_file, is_folder, parse_json, replace, write_atomically, write_json
from torchnin.models.shipped import what_ships

FORMAT = "torchnin classifier 1"
"""What `config.json` calls itself; another number where an older torchnin would read it wrongly."""
WEIGHTS = "model.safetensors"
ELSEWHERE = "another machine"
"""Where data lie whose place is not told, see `without_places`."""
_MOST_NAMED = 3  # of the classifiers in a folder that is none
_WAITING = "model.safetensors.new"  # between the moment when config.json names new weights and the one when they get their name


def place_of(folder: Path) -> Path | None:
    """Where below a run's or a classifier's folder its files lie; None where there are none."""
    for path in (folder / "classifier", folder):
        if is_file(path / "config.json") and any(is_file(path / name) for name in (WEIGHTS, _WAITING)):
            return path
    return None


def write_saved(folder: Path, config: Mapping[str, Any], weights: bytes) -> None:
    """Write both files, so that a crash at any moment leaves a folder that `read_saved` reads: the classifier that was there, or this one.

    Raises:
        OSError: the disk is full or the folder cannot be written to; the classifier that was there before is untouched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    _settle(folder)
    waiting = folder / _WAITING
    write_atomically(waiting, weights)
    try:
        write_json(folder / "config.json", {"format": FORMAT, **config, "weights_sha256": hashlib.sha256(weights).hexdigest()})
    except OSError:
        waiting.unlink(missing_ok=True)
        raise
    replace(waiting, folder / WEIGHTS)


def read_saved(folder: Path) -> tuple[dict[str, Any], bytes]:
    """`config.json`, and the weights whose checksum it names: under their name, or aside where `save` was cut off before that."""
    text, before = _read_config(folder), None
    while text != before:  # another process may save at this moment: then the weights fit the next config.json
        try:
            config = parse_json(text)
            if (found_format := config.get("format", FORMAT)) != FORMAT:
                raise ValueError(f"it is {found_format!r}, and this torchnin reads {FORMAT!r}")
            expected = str(config["weights_sha256"])
        except (ValueError, KeyError) as error:
            raise no_description(folder, error) from error
        found = "none"
        for name in (_WAITING, WEIGHTS):
            with contextlib.suppress(FileNotFoundError):
                weights = (folder / name).read_bytes()
                found = hashlib.sha256(weights).hexdigest()
                if found == expected:
                    return config, weights
        text, before = _read_config(folder), text
    raise DataError(
        f"{folder / WEIGHTS} is not the file that config.json was written for: expected SHA-256 {expected[:12]}..., "
        f"found {found[:12]}. Copy both files again, or save the classifier again."
    )


def _read_config(folder: Path) -> bytes:
    with (folder / "config.json").open("rb") as file:
        return file.read(MAX_JSON_BYTES + 1)


def _settle(folder: Path) -> None:
    """Give weights that a `save` left aside when it was cut off their name, so that the next `save` can use the place."""
    with contextlib.suppress(FileNotFoundError, DataError):
        _, weights = read_saved(folder)
        if (folder / _WAITING).read_bytes() == weights:
            replace(folder / _WAITING, folder / WEIGHTS)


def halved(name: str, tensor: Tensor) -> Tensor:
    """A weight in float16. Vectors stay as they are: biases and batch normalisation are few, and its variances may be very small."""
    if tensor.dim() < 2:
        return tensor
    if not (half := tensor.half()).isfinite().all():
        raise ValueError(f"{name} holds {float(tensor.abs().max()):.3g}, and float16 ends at 65,504; save it without half")
    return half


def no_description(folder: Path, error: Exception) -> DataError:
    """The error for a `config.json` that is broken."""
    return DataError(f"{folder / 'config.json'} describes no classifier: {error}. Save the classifier again.")


def require_plain(metadata: Mapping[str, Any]) -> None:
    """Raise ValueError where metadata hold what JSON does not: another object than numbers, text, lists and the like, or NaN."""
    for key, value in metadata.items():
        try:
            json.dumps({key: value}, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"metadata {key!r} is {_shortened(value)}, which JSON cannot hold ({error}); give plain values") from error


def _shortened(value: object) -> str:
    said = repr(value)
    return said if len(said) <= 80 else f"{said[:77]}..."


def record_of_data(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """What a classifier's record says of its data; nothing where that is no table of facts, as one's own metadata may have it."""
    data = metadata.get("data")
    return dict(data) if isinstance(data, Mapping) else {}


def number_in(record: Mapping[str, Any], key: str) -> float | None:
    """A number of a classifier's record; None where it has none, or something else under that name."""
    value = record.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def without_places(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A classifier's record as others may read it: without the paths of the machine that trained it, of folders the last name alone."""
    told, data = dict(metadata), record_of_data(metadata)
    if isinstance(begun := told.get("begun_from"), Mapping) and "data" in begun:
        told["begun_from"] = {**begun, "data": _last_name(begun.get("data"))}
    if not data:
        return told
    kept: dict[str, Any] = {**data, **{key: [] for key in ("notes", "skipped") if key in data}}
    if "name" in data:
        kept["name"] = _last_name(data["name"])
    if data.get("source", "arrays") != "arrays":
        kept["source"] = ELSEWHERE
    return {**told, "data": kept}


def _last_name(name: Any) -> Any:
    return Path(name).name or name if isinstance(name, str) else name


def known_as(data: Mapping[str, Any]) -> str | None:
    """The name of the dataset that a record of data is about; None where they are called like one at most, as one's own folder `mnist`."""
    name = data.get("name")
    # Records of earlier versions do not say; those of folders of pictures name no files.
    return name if isinstance(name, str) and name in CATALOG and data.get("published", data.get("files") != {}) else None


def no_classifier(folder: Path) -> str:
    """What to say where `place_of` finds nothing."""
    if folder.suffix == ".onnx":
        return f"{folder} is an exported file, which nin predict and torchnin.ExportedClassifier run; here give the classifier it is from"
    if not exists(folder):
        return (
            f"{folder} is no classifier: there is no such folder, and no weights of that name ship; {what_ships(str(folder))}; "
            "or give a run folder or a saved classifier's folder"
        )
    if is_folder(folder / "checkpoint"):
        return f"{folder} is a run that has not finished: go on with nin train --resume --out {in_command(folder)}"
    if inside := _classifiers_in(folder):  # as in a study of several seeds
        more = ", ..." if len(inside) > _MOST_NAMED else ""
        return f"{folder} holds classifiers and is none itself; give one of them: {', '.join(map(str, inside[:_MOST_NAMED]))}{more}"
    return f"{folder} holds no classifier: expected config.json and model.safetensors in it, or in {folder / 'classifier'}"


def _classifiers_in(folder: Path) -> list[Path]:
    """The folders in it that are a run's or a classifier's, in the order in which people count."""
    found = []
    for path in folder.glob("*/"):
        with contextlib.suppress(OSError):  # who may not look into it cannot be meant
            if place_of(path) is not None:
                found.append(path)
    return sorted(found, key=lambda path: natural_key(path.name))
