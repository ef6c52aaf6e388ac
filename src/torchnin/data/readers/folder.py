"""A folder of pictures: one folder a class, below train/ with val/, validation/ or test/, or alone."""

import os
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from torchnin.data.copies import copies
from torchnin.data.dataset import DatasetSplits, ImageDataset, held_out_mask, held_out_sentence
from torchnin.data.errors import DataError
from torchnin.data.paths import NO_PICTURES, count_other, is_run, natural_key, others_sentence, pictures_below
from torchnin.data.pictures import SUFFIXES, decode_quietly, measure_quietly, quiet_pillow
from torchnin.data.progress import Progress, unheard
from torchnin.data.resize import resize_bytes
from torchnin.files import is_file, is_folder

DEFAULT_SIZE = 64
"""Height and width that pictures of mixed or larger sizes are brought to where none is asked for, in pixels."""

_SPLIT_NAMES: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("val", "validation", "valid"),
    "test": ("test", "testing"),
}
_LAYOUTS = "train/CLASS/PICTURE with val/, validation/ or test/ beside it, or CLASS/PICTURE alone, with two classes or more"
_CHUNK = 512
_SMALL_PIXELS = 256 * 256
_T = TypeVar("_T")


@dataclass
class _Files:
    """The pictures of one split: paths and labels side by side."""

    paths: list[Path] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)


def read_folder(
    root: Path,
    *,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    seed: int = 0,
    skip_broken: bool = False,
    test_fraction: float = 0.2,
    progress: Progress | None = None,
) -> DatasetSplits:
    """Read a folder of pictures into memory as uint8.

    Classes are the folders' names in natural order (2 before 10), matched by name across splits. Where there are no splits, a stratified
    share `test_fraction` is held out, fixed by `seed`; 1 makes all of them test pictures, and one class is enough. `image_size` is (height,
    width): where it is None, pictures that share one size of at most 64 pixels keep it and others are stretched to 64 x 64 (bilinear,
    antialiased). `channels` is 1 or 3: where it is None, 1 if all pictures are grey. What was decided stands in the notes. Raises DataError
    naming the path where a folder or a picture is not as it should be; with `skip_broken` pictures that do not decode are left out and
    listed in `skipped`.
    """
    notes: list[str] = []
    report = progress or unheard
    names, found = _find_pictures(root, notes, fewest=1 if test_fraction == 1 else 2)
    fraction = None if "test" in found else test_fraction
    to_judge = fraction == 1
    if to_judge:
        found = {"train": _Files(), "test": found["train"]}
    files, held_out = found, None if to_judge else fraction
    _note_others([path for part in found.values() for path in part.paths], notes)
    broken: dict[Path, str] = {}
    measured: dict[Path, tuple[int, int, bool]] = {}
    with quiet_pillow(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        if image_size is None or channels is None:
            measured = _measure(pool, found, broken, skip_broken, report)
        form: tuple[int, tuple[int, int]] | None = None
        left_out = 0
        decoded: dict[str, np.ndarray] = {}
        # Some are found broken only here, and what is left out decides nothing.
        while form != (chosen := (channels or _channels_of(measured, broken), image_size or _choose_size(_sizes_of(measured, broken)))) or (
            held_out is not None and left_out < len(broken)
        ):
            form, left_out, decoded = chosen, len(broken), {}
            if held_out is not None:
                files = {**found, **_split(root, names, found["train"], broken, seed, held_out)}
            _check_memory(sum(len(split.paths) for split in files.values()), *form)
            decoded = {split: _decode(pool, part, *form, broken, skip_broken, report) for split, part in files.items()}
    datasets = {}
    for split, images in decoded.items():
        part = files[split]
        good = np.array([path not in broken for path in part.paths], dtype=np.bool_)
        labels = np.array(part.labels, dtype=np.int64)
        datasets[split] = ImageDataset(images, labels, names) if good.all() else ImageDataset(images[good], labels[good], names)
        if not len(datasets[split]) and not (to_judge and split == "train"):
            raise DataError(f"{root}: expected at least one {split} picture that decodes, found none of {len(part.paths):,}.")
    empty = [name for name, count in zip(names, datasets["train"].class_counts, strict=True) if not count]
    if empty and not to_judge:
        raise DataError(
            f"{root}: expected training pictures in every class, found none that decodes in {empty[0]!r}. Replace or remove them."
        )
    if held_out is not None:
        labels = np.concatenate([datasets[split].labels for split in ("train", "test")])
        notes.append(held_out_sentence(len(datasets["test"]), labels, held_out, seed=seed))
    if image_size is None:
        _note_size(_sizes_of(measured, broken), notes)
    notes += copies(datasets, {split: [path for path in files[split].paths if path not in broken] for split in datasets})
    skipped = tuple((str(path), reason) for path, reason in broken.items())
    if skipped:
        total = sum(len(split.paths) for split in found.values())
        notes.append(
            f"{len(skipped):,} of {total:,} pictures were skipped because they do not decode, first {skipped[0][0]}: {skipped[0][1]}"
        )
    return DatasetSplits(
        name=root.resolve().name,
        train=datasets["train"],
        test=datasets["test"],
        validation=datasets.get("validation"),
        source=str(root.absolute()),
        notes=tuple(notes),
        skipped=skipped,
        split_seed=seed,
        test_fraction=fraction,
    )


def _find_pictures(root: Path, notes: list[str], fewest: int) -> tuple[tuple[str, ...], dict[str, _Files]]:
    """Class names of train, at least so many, and the pictures of each split that is there ("test" may be missing)."""
    folders = _visible_folders(root)
    by_name = {folder.name.lower(): folder for folder in folders}
    found = {split: next((by_name[name] for name in names if name in by_name), None) for split, names in _SPLIT_NAMES.items()}
    train = found["train"]
    if train is None or not _visible_folders(train):
        # A class may well be called "train"; only class folders inside make it a split.
        if any(folder is not None and _visible_folders(folder) for folder in found.values()):
            raise DataError(f"{root}: expected a folder train/ with a folder for each class, found none. Accepted are {_LAYOUTS}.")
        classes = _classes(root, folders)
        loose = _loose(root)
        if len(classes) < fewest:
            held = f"the one class folder {folders[0].name}" if classes else f"no class folder and {loose:,} pictures"
            deeper = len(_visible_folders(folders[0])) > 1 if folders else False
            hint = f" If the folders in {folders[0].name} are the classes, give {folders[0]}." if deeper else ""
            raise DataError(f"{root}: expected pictures as {_LAYOUTS}, found {held}.{hint}")
        _note_loose(root, loose, notes)
        return tuple(classes), {"train": _label(classes, tuple(classes), root)}
    classes = _classes(train, _visible_folders(train))
    if len(classes) < fewest:
        raise DataError(f"{train}: expected two class folders or more, found the one class {next(iter(classes))!r}.")
    names = tuple(classes)
    files = {"train": _label(classes, names, train)}
    for split in ("validation", "test"):
        folder = found[split]
        if folder is None:
            continue
        inside = _visible_folders(folder)
        if not inside:
            raise DataError(
                f"{folder}: expected a folder for each class, found none. Sort its pictures into class folders, or move it away."
            )
        files[split] = _label(_classes(folder, inside), names, folder)
    for folder in (root, *found.values()):
        if folder is not None:
            _note_loose(folder, _loose(folder), notes)
    if "test" not in files and "validation" in files:
        files["test"] = files.pop("validation")
        notes.append(f"There is no test/ beside train/: {found['validation']} serves as the test pictures.")
    passed_over = sorted(folder.name for folder in folders if folder not in found.values())
    if passed_over:
        notes.append(f"Beside train/ these folders were left out: {', '.join(passed_over[:8])}{' ...' if len(passed_over) > 8 else ''}.")
    return names, files


def _loose(folder: Path) -> int:
    """How many pictures lie directly in a folder, where its class folders are."""
    return sum(entry.suffix.lower() in SUFFIXES for entry in folder.iterdir() if not entry.name.startswith("."))


def _note_loose(folder: Path, loose: int, notes: list[str]) -> None:
    if loose:
        notes.append(f"{loose:,} pictures directly in {folder} belong to no class and were left out.")


def _note_others(pictures: list[Path], notes: list[str]) -> None:
    """Say which files beside the pictures are not read."""
    others: Counter[str] = Counter()
    for folder in {path.parent for path in pictures}:
        for entry in folder.iterdir():
            if entry.suffix.lower() not in SUFFIXES and is_file(entry):
                count_other(entry.name, others)
    if others:
        notes.append(others_sentence(others))


def _classes(root: Path, folders: list[Path]) -> dict[str, list[Path]]:
    """The pictures of each class folder, in natural order of the names. Raises DataError for one without pictures."""
    classes: dict[str, list[Path]] = {}
    for folder in folders:
        # macOS hands out decomposed letters where Linux has composed ones; the same class must have the same name on both.
        name = unicodedata.normalize("NFC", folder.name)
        pictures = pictures_below(folder)
        if not pictures:
            endings = ", ".join(sorted(SUFFIXES))
            next_step = "Put pictures into this class folder, or remove it."
            raise DataError(f"{folder}: expected at least one picture ({endings}), found none. {next_step}")
        if name in classes:
            raise DataError(f"{root}: expected each class once, found two folders that both read {name!r}. Rename one of them.")
        classes[name] = pictures
    return classes


def _label(classes: Mapping[str, list[Path]], names: tuple[str, ...], folder: Path) -> _Files:
    files = _Files()
    position = {name: index for index, name in enumerate(names)}
    for name, pictures in classes.items():
        if name not in position:
            near = next((other for other in names if other.casefold() == name.casefold()), None)
            hint = f" (train has {near!r})" if near else ""
            next_step = "Rename or remove the folder, or add the class to train."
            raise DataError(f"{folder / name}: expected a class that train has too, found {name!r}, which it lacks{hint}. {next_step}")
        files.paths += pictures
        files.labels += [position[name]] * len(pictures)
    return files


def _split(root: Path, names: tuple[str, ...], files: _Files, broken: Mapping[Path, str], seed: int, fraction: float) -> dict[str, _Files]:
    """Train, and a share of it held out as "test" by the one rule of ImageDataset.split, of the pictures that are not broken."""
    good = [(path, label) for path, label in zip(files.paths, files.labels, strict=True) if path not in broken]
    if not good:
        raise DataError(f"{root}: expected at least one train picture that decodes, found none of {len(files.paths):,}.")
    held_out = held_out_mask(np.array([label for _, label in good], dtype=np.int64), fraction, seed=seed)
    if not held_out.any():
        raise DataError(f"{root}: expected a class with two pictures or more, found no more than one in each of {len(names)} classes.")
    parts = {"train": _Files(), "test": _Files()}
    for (path, label), held in zip(good, held_out.tolist(), strict=True):
        part = parts["test" if held else "train"]
        part.paths.append(path)
        part.labels.append(label)
    return parts


def _measure(
    pool: ThreadPoolExecutor, files: Mapping[str, _Files], broken: dict[Path, str], skip_broken: bool, report: Progress
) -> dict[Path, tuple[int, int, bool]]:
    """Height, width and whether it is grey, of each picture of which the header can be read."""
    paths = [path for part in files.values() for path in part.paths]
    measured: dict[Path, tuple[int, int, bool]] = {}
    done = 0
    for chunk in _chunks(paths):
        for path, result in zip(chunk, pool.map(lambda path: _attempt(measure_quietly, path), chunk), strict=True):
            if isinstance(result, DataError):
                _note_broken(path, result, broken, skip_broken)
            else:
                measured[path] = result
        done += len(chunk)
        report("looking at pictures", done, len(paths))
    return measured


def _sizes_of(measured: Mapping[Path, tuple[int, int, bool]], broken: Mapping[Path, str]) -> set[tuple[int, int]]:
    return {(height, width) for path, (height, width, _) in measured.items() if path not in broken}


def _channels_of(measured: Mapping[Path, tuple[int, int, bool]], broken: Mapping[Path, str]) -> int:
    return 1 if all(grey for path, (_, _, grey) in measured.items() if path not in broken) else 3


def _decode(
    pool: ThreadPoolExecutor,
    part: _Files,
    channels: int,
    image_size: tuple[int, int],
    broken: dict[Path, str],
    skip_broken: bool,
    report: Progress,
) -> np.ndarray:
    images = np.zeros((len(part.paths), channels, *image_size), dtype=np.uint8)

    def decode(path: Path) -> np.ndarray:
        picture = decode_quietly(path, channels)
        # Large pictures are resized at once, so that no chunk of them fills the memory; small ones together, which is many times faster.
        return picture if picture[0].size <= _SMALL_PIXELS else resize_bytes(picture[None], *image_size)[0]

    done = 0
    for chunk in _chunks(part.paths):
        wanted = [path for path in chunk if path not in broken]
        results = dict(zip(wanted, pool.map(lambda path: _attempt(decode, path), wanted), strict=True))
        by_shape: dict[tuple[int, ...], list[tuple[int, np.ndarray]]] = defaultdict(list)
        for row, path in enumerate(chunk, start=done):
            result = results.get(path)
            if isinstance(result, DataError):
                _note_broken(path, result, broken, skip_broken)
            elif result is not None:
                by_shape[result.shape].append((row, result))
        for pictures in by_shape.values():
            images[[row for row, _ in pictures]] = resize_bytes(np.stack([picture for _, picture in pictures]), *image_size)
        done += len(chunk)
        report("reading pictures", done, len(part.paths))
    return images


def _attempt(work: Callable[[Path], _T], path: Path) -> _T | DataError:
    try:
        return work(path)
    except DataError as error:
        return error


def _note_broken(path: Path, error: DataError, broken: dict[Path, str], skip_broken: bool) -> None:
    if not skip_broken:
        raise DataError(f"{error} Replace or remove the file, or leave such files out: --skip-broken (skip_broken=True).") from error
    broken[path] = str(error).removeprefix(f"{path}: ")


def _choose_size(sizes: set[tuple[int, int]]) -> tuple[int, int]:
    if len(sizes) == 1:
        ((height, width),) = sizes
        if max(height, width) <= DEFAULT_SIZE:
            return height, width
    return DEFAULT_SIZE, DEFAULT_SIZE


def _note_size(sizes: set[tuple[int, int]], notes: list[str]) -> None:
    if sizes == {_choose_size(sizes)}:
        return
    if len(sizes) == 1:
        ((height, width),) = sizes
        what = f"Pictures of {height} x {width} pixels"
    else:
        low, high = min(sizes, key=lambda size: size[0] * size[1]), max(sizes, key=lambda size: size[0] * size[1])
        what = f"Pictures of {len(sizes)} sizes, {low[0]} x {low[1]} to {high[0]} x {high[1]} pixels,"
    notes.append(f"{what} were stretched to {DEFAULT_SIZE} x {DEFAULT_SIZE} (bilinear, antialiased); image_size chooses another size.")


def _check_memory(count: int, channels: int, image_size: tuple[int, int]) -> None:
    needed = count * channels * image_size[0] * image_size[1]
    if not hasattr(os, "sysconf"):
        return
    available = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > available:
        raise ValueError(
            f"image_size: expected pictures that fit into memory ({available / 2**30:.1f} GiB), found {count:,} pictures of "
            f"{channels}x{image_size[0]}x{image_size[1]} ({needed / 2**30:.1f} GiB). Choose a smaller size."
        )


def _visible_folders(root: Path) -> list[Path]:
    folders = [entry for entry in root.iterdir() if is_folder(entry) and not entry.name.startswith(".") and entry.name not in NO_PICTURES]
    return sorted((folder for folder in folders if not _of_runs(folder)), key=lambda folder: natural_key(folder.name))


def _of_runs(folder: Path, depth: int = 2) -> bool:
    """Whether trainings wrote this folder, as those begun beside the class folders do: a run, or one of runs or studies of seeds alone.

    In runs/, where they go of themselves, what was drawn of them may lie beside them.
    """
    if is_run(folder):
        return True
    inside = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                inside.append(Path(entry.path))
            elif folder.name != "runs" and os.path.splitext(entry.name)[1].lower() in SUFFIXES:
                return False
    return depth > 0 and bool(inside) and all(_of_runs(each, depth - 1) for each in inside)


def _chunks(paths: list[Path]) -> Iterator[list[Path]]:
    # Piece by piece, so that a broken file among a million ends the reading soon and the results never pile up.
    rest = iter(paths)
    while chunk := list(islice(rest, _CHUNK)):
        yield chunk
