"""load_dataset: from a name, a folder, a file or arrays to the splits that a training uses."""

import difflib
import errno
import hashlib
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from torchnin.data.catalog import CATALOG, FASHION_MNIST, MAX_FILE_BYTES, SAMPLE, DataFile, NamedDataset, dataset_of_files, read_checked
from torchnin.data.copies import copies
from torchnin.data.dataset import DatasetSplits, ImageDataset, check_label_range, held_out_sentence
from torchnin.data.download import fetch
from torchnin.data.errors import DataError
from torchnin.data.integrity import read_bounded
from torchnin.data.locate import INSIDE_PACKAGE, Location, existing_folder, find_loose, locate
from torchnin.data.mapped import Pictures, as_mapped
from torchnin.data.pictures import convert_channels
from torchnin.data.progress import Progress
from torchnin.data.readers.arrays import advice_of_torch, datasets_of_pairs, read_npz
from torchnin.data.readers.cifar import parse_batch, parse_class_lines, parse_class_names, parse_records
from torchnin.data.readers.folder import read_folder
from torchnin.data.readers.idx import parse_idx, read_idx_bytes
from torchnin.data.resize import resize_bytes
from torchnin.files import is_file, is_folder, path_of
from torchnin.values import real, whole

# Memory-mapped pictures in another size or colour are made once where they take no more than this, and else as they are read.
_KEPT_BYTES = 1 << 28
_ARCHIVES = (".zip", ".tar", ".tgz", ".tar.gz", ".tar.bz2", ".tar.xz", ".7z", ".rar")


def load_dataset(
    data: str | os.PathLike[str] | DatasetSplits | tuple,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    image_size: int | tuple[int, int] | None = None,
    folder_size: int | tuple[int, int] | None = None,
    channels: int | None = None,
    seed: int = 0,
    skip_broken: bool = False,
    download: bool = True,
    test_fraction: float = 0.2,
    progress: Progress | None = None,
) -> DatasetSplits:
    """Load pictures with labels and class names, as splits in memory.

    A name is looked for below `data_dir`, in the cache, in the system folder, and then downloaded. Where fashion-mnist cannot be had, the
    sample inside the package comes back, and `name` and `notes` say so.

    Args:
        data: a dataset's name (see find_datasets); a folder of pictures (train/ with val/, validation/ or test/, or class folders alone);
            a folder with files of MNIST's or CIFAR's format; an .npz file; arrays or tensors, ((x_train, y_train), (x_test, y_test)) or
            (x, y); two ImageDatasets, (train, test); or DatasetSplits.
        data_dir: where to look first for a dataset that is named.
        image_size: pixels, one side or (height, width), to which all pictures are brought; None keeps what is there, except that folders
            of mixed or large sizes are brought to 64 x 64.
        folder_size: says less than `image_size`: the size at which folders of pictures are read, and to which splits of different sizes are
            brought; all else keeps its own, to be resized later, by the batch and without rounding to whole grey levels.
        channels: 1 (grey) or 3 (colour), to which all pictures are brought; None keeps what is there, and makes a folder of pictures grey
            where all of them are.
        seed: decides which pictures are held out for testing.
        skip_broken: leave out pictures in folders that do not decode, instead of stopping.
        download: False downloads nothing.
        test_fraction: the share of each class that is held out for testing where there is no test split, in (0, 1]. With 1 all pictures are
            test pictures and none are left to train on, so that one class, or one picture of each, is enough.
        progress: called with what is being done, how much of it is done, and the total, None where that is not known.

    Raises:
        TypeError: `data` is none of these.
        ValueError: the call is wrong.
        FileNotFoundError: a path is missing.
        DataError: data is missing or broken.
    """
    size, read_at = _checked_size("image_size", image_size), _checked_size("folder_size", folder_size)
    channels = None if channels is None else whole("channels", channels, "1 (grey), 3 (colour) or None (as the pictures are)")
    test_fraction = real("test_fraction", test_fraction, "a number above 0 and at most 1")
    seed = whole("seed", seed, "a whole number of at least 0")
    if channels not in (None, 1, 3):
        raise ValueError(f"channels: expected 1 (grey), 3 (colour) or None (as the pictures are), found {channels!r}.")
    if not 0 < test_fraction <= 1:
        raise ValueError(f"test_fraction: expected a number above 0 and at most 1, found {test_fraction!r}.")
    if seed < 0:
        raise ValueError(f"seed: expected a whole number of at least 0, found {seed!r}.")
    if isinstance(data, DatasetSplits):
        return _brought_to(data, size, channels)
    if isinstance(data, tuple):
        datasets = _all_brought(_datasets_of(data), size, channels, unequal=read_at)
        return _splits_of(datasets, name="arrays", source="arrays", seed=seed, test_fraction=test_fraction)
    if not isinstance(data, str | os.PathLike):
        raise TypeError(
            f"data: expected a dataset's name, a folder of pictures, an .npz file, DatasetSplits, or arrays as a tuple, "
            f"((x_train, y_train), (x_test, y_test)) or (x, y), found {type(data).__name__}."
            f"{advice_of_torch(data)}"
        )
    folder = None if data_dir is None else existing_folder(data_dir)
    if isinstance(data, str) and data in CATALOG:
        return _brought_to(_load_named(CATALOG[data], folder, download=download, progress=progress), size, channels)
    path = path_of(data, "data")
    if _is_folder(path):
        loose = find_loose(path)
        if loose is not None:
            return _read_loose(loose, path.resolve().name, size, channels, unequal=read_at)
        return read_folder(
            path,
            image_size=size or read_at,
            channels=channels,
            seed=seed,
            skip_broken=skip_broken,
            test_fraction=test_fraction,
            progress=progress,
        )
    if is_file(path) and path.suffix.lower() == ".npz":
        datasets = _all_brought(read_npz(path), size, channels, unequal=read_at)
        return _splits_of(datasets, name=path.name, source=str(path.absolute()), seed=seed, test_fraction=test_fraction)
    if is_file(path):
        packed = path.name.lower().endswith(_ARCHIVES)
        next_step = "Unpack it and give the folder that comes out." if packed else "Give the folder that holds it."
        if path.suffix.lower() == ".npy":
            next_step = "Put pictures and labels into one file: np.savez('pictures.npz', x=pictures, y=labels)."
        raise ValueError(f"data: expected a folder or an .npz file, found the file {path}. {next_step}")
    if isinstance(data, str) and os.sep not in data:
        raise ValueError(_unknown_name(data))
    raise FileNotFoundError(f"data: expected a folder, an .npz file or a dataset's name ({', '.join(CATALOG)}), found nothing at {path}.")


def _is_folder(path: Path) -> bool:
    try:
        return is_folder(path)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise FileNotFoundError(
            f"data: expected a folder, an .npz file or a dataset's name, found text of {len(str(path))} letters."
        ) from None


def _load_named(dataset: NamedDataset, data_dir: Path | None, *, download: bool, progress: Progress | None) -> DatasetSplits:
    location, notes = locate(dataset, data_dir)
    if location is not None:
        return _read(location, notes)
    if dataset is SAMPLE:
        raise DataError(f"{dataset.name}: expected its files inside the package, found them missing. {dataset.how_to_get}")
    why = "it may not be downloaded (download=False)"
    if download:
        try:
            fetch(dataset, progress)
        except DataError as error:
            why = f"the download failed ({error})"
        else:
            location, notes = locate(dataset, data_dir)
            if location is not None:
                return _read(location, notes)
            why = "the download is incomplete"
    if dataset is not FASHION_MNIST:
        raise DataError(f"{dataset.name}: expected its files on this machine or a download, found neither: {why}. {dataset.how_to_get}")
    sample, _ = locate(SAMPLE)
    if sample is None:
        raise DataError(f"{dataset.name}: found neither it nor the sample inside the package: {why}. {dataset.how_to_get}")
    note = f"This is the sample of {SAMPLE.num_train:,} training pictures, not all of fashion-mnist: {why}. {dataset.how_to_get}"
    return _read(sample, (*notes, note))


def _read(location: Location, notes: tuple[str, ...]) -> DatasetSplits:
    """Read a named dataset: each file is read once, and the bytes that were checked are the ones that are parsed."""
    dataset, layout = location.dataset, location.layout

    def read(file: DataFile) -> tuple[bytes, str]:
        return read_checked(dataset, file, location.paths[file.name])

    # Decompressing and hashing release the interpreter's lock, so the files of one dataset keep several cores busy.
    with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
        contents = dict(zip((file.name for file in layout.files), pool.map(read, layout.files), strict=True))
    sha256 = {name: checksum for name, (_, checksum) in contents.items()}
    # What was parsed is let go before the next split.
    train, test = (
        _parse(location, [(location.paths[file.name], contents.pop(file.name)[0]) for file in files], dataset.class_names)
        for files in (layout.train, layout.test)
    )
    if layout.kind == "cifar-binary":
        notes += (f"{location.folder}: the size of these files was checked, but no checksum of the binary layout is published.",)
    return DatasetSplits(
        name=dataset.name,
        train=train,
        test=test,
        source=INSIDE_PACKAGE if dataset is SAMPLE else str(location.folder),
        notes=notes,
        files=sha256,
        mirror=dataset.mirror,
        published=True,
    )


def _parse(location: Location, files: list[tuple[Path, bytes]], class_names: tuple[str, ...] | None) -> ImageDataset:
    """One split from the bytes of its files; without names, classes are called by their numbers."""
    if location.layout.kind == "idx":
        (images_path, image_bytes), (labels_path, label_data) = files
        pixels, numbers = parse_idx(image_bytes, 3, images_path)[:, None], parse_idx(label_data, 1, labels_path).astype(np.int64)
        parts = [(pixels, numbers)]
        if len(pixels) != len(numbers):
            raise DataError(f"{labels_path}: expected {len(pixels):,} labels, one a picture of {images_path.name}, found {len(numbers):,}.")
    elif location.layout.kind == "cifar-pickle":
        parts = [parse_batch(data, path) for path, data in files]
    else:
        label_bytes = 2 if len(location.dataset.class_names) == 100 else 1
        parts = [parse_records(data, label_bytes, path) for path, data in files]
    if class_names is None:
        class_names = tuple(str(number) for number in range(1 + max(int(labels.max(initial=0)) for _, labels in parts)))
    for (path, _), (_, labels) in zip(files[-len(parts) :], parts, strict=True):
        check_label_range(labels, len(class_names), where=str(path))
    if location.layout.kind == "idx":
        return ImageDataset(*parts[0], class_names)
    # Of the files' own memory this is the one copy.
    return ImageDataset(np.concatenate([pixels for pixels, _ in parts]), np.concatenate([labels for _, labels in parts]), class_names)


def _read_loose(
    location: Location, folder_name: str, size: tuple[int, int] | None, channels: int | None, *, unequal: tuple[int, int] | None
) -> DatasetSplits:
    """Read the files of MNIST's or CIFAR's format that someone's own folder holds: any number of pictures, any class names."""
    layout = location.layout
    contents = {}
    for file in layout.files:
        path = location.paths[file.name]
        if layout.kind == "idx":
            contents[file.name] = read_idx_bytes(path, 1 if "idx1" in file.name else 3)
        else:
            contents[file.name] = read_bounded(path, MAX_FILE_BYTES)
    files = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    known = dataset_of_files(contents, files)
    names, notes = (known.class_names, ()) if known else _names_beside(location)
    train, test = (
        _parse(location, [(location.paths[file.name], contents[file.name]) for file in split], names)
        for split in (layout.train, layout.test)
    )
    if train.class_names != test.class_names:
        # Named by their numbers, and one split goes further than the other.
        names = max(train.class_names, test.class_names, key=len)
        train, test = train.with_class_names(names), test.with_class_names(names)
    notes += () if known else copies({"train": train, "test": test})
    brought = _all_brought({"train": train, "test": test}, size, channels, unequal=unequal)
    return DatasetSplits(
        name=known.name if known else folder_name,
        train=brought["train"],
        test=brought["test"],
        source=str(location.folder),
        notes=notes,
        files=files,
        mirror=known is not None and known.mirror,
        published=known is not None,
    )


def _names_beside(location: Location) -> tuple[tuple[str, ...] | None, tuple[str, ...]]:
    """Class names from the files that CIFAR puts beside its pictures, and what the user should know."""
    readers = {
        "batches.meta": parse_class_names,
        "meta": parse_class_names,
        "batches.meta.txt": parse_class_lines,
        "fine_label_names.txt": parse_class_lines,
    }
    note = f"{location.folder}: these are not the published files of a dataset known by name, so no checksum was checked"
    for name, reader in readers.items():
        path = location.folder / name
        if location.layout.kind != "idx" and is_file(path):
            return reader(read_bounded(path, 1 << 20), path), (f"{note}.",)
    return None, (f"{note}, and classes are called by their numbers.",)


def _datasets_of(data: tuple[Any, ...]) -> dict[str, ImageDataset]:
    if len(data) != 2:
        accepted = "((x_train, y_train), (x_test, y_test)) or (x, y), arrays or tensors, or two ImageDatasets"
        raise ValueError(f"data: expected {accepted}, found a tuple of {len(data)}.")
    if all(isinstance(part, ImageDataset) for part in data):
        return {"train": data[0], "test": data[1].with_class_names(data[0].class_names)}
    if all(isinstance(part, tuple | list) and len(part) == 2 and all(map(_is_series, part)) for part in data):
        return datasets_of_pairs({"train": tuple(data[0]), "test": tuple(data[1])})
    return datasets_of_pairs({"train": data})


def _is_series(values: Any) -> bool:
    """Whether these may be pictures or labels: two pictures and their two labels are not a train and a test split."""
    return hasattr(values, "__len__") and not isinstance(values, str)


def _splits_of(datasets: Mapping[str, ImageDataset], *, name: str, source: str, seed: int, test_fraction: float) -> DatasetSplits:
    """Splits of what there is: where no test pictures are given, the validation pictures serve, and else a share of train is held out."""
    train, validation, test = datasets["train"], datasets.get("validation"), datasets.get("test")
    notes: tuple[str, ...] = ()
    held_out = None
    if test is None and validation is not None:
        test, validation = validation, None
        notes = ("There is no test split: the validation pictures serve as the test pictures.",)
    elif test is None:
        held_out = test_fraction
        if test_fraction == 1:
            train, test = train.select([]), train
        else:
            labels = train.labels
            train, test = train.split(test_fraction, seed=seed)
            notes = (held_out_sentence(len(test), labels, test_fraction, seed=seed),)
    return DatasetSplits(
        name=name,
        train=train,
        validation=validation,
        test=test,
        source=source,
        notes=notes + copies({"train": train, "test": test} | ({} if validation is None else {"validation": validation})),
        split_seed=seed,
        test_fraction=held_out,
    )


def _brought_to(splits: DatasetSplits, image_size: tuple[int, int] | None, channels: int | None) -> DatasetSplits:
    train, test = (_brought(dataset, image_size, channels) for dataset in (splits.train, splits.test))
    validation = None if splits.validation is None else _brought(splits.validation, image_size, channels)
    return replace(splits, train=train, test=test, validation=validation)


def _all_brought(
    datasets: Mapping[str, ImageDataset], image_size: tuple[int, int] | None, channels: int | None, *, unequal: tuple[int, int] | None
) -> dict[str, ImageDataset]:
    """All splits in one form; where no size is asked for and theirs differ, in the size `unequal`."""
    if len({dataset.image_size for dataset in datasets.values()}) > 1:
        image_size = image_size or unequal
    return {split: _brought(dataset, image_size, channels) for split, dataset in datasets.items()}


def _brought(dataset: ImageDataset, image_size: tuple[int, int] | None, channels: int | None) -> ImageDataset:
    shape = (channels or dataset.in_channels, *(image_size or dataset.image_size))
    if shape == dataset.images.shape[1:]:
        return dataset
    convert, mapped = partial(_converted, shape=shape), as_mapped(dataset.images)
    if mapped is None:
        images: Pictures = convert(np.asarray(dataset.images))
    else:
        convert(mapped[:0])  # raises now what would be raised at the first batch
        images = mapped.brought(convert, shape)
        images = np.asarray(images) if images.nbytes <= _KEPT_BYTES else images
    return ImageDataset(images, dataset.labels, dataset.class_names)


def _converted(images: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    return resize_bytes(convert_channels(images, shape[0]), *shape[1:])


def _checked_size(what: str, image_size: int | tuple[int, int] | None) -> tuple[int, int] | None:
    if image_size is None:
        return None
    try:
        height, width = (whole(what, side, "pixels") for side in (image_size if np.iterable(image_size) else (image_size, image_size)))
    except ValueError:  # of whole, or of another number of sides
        height = width = 0
    if not (1 <= height <= 8192 and 1 <= width <= 8192) or isinstance(image_size, bool):
        raise ValueError(f"{what}: expected pixels from 1 to 8192, one number or (height, width), found {image_size!r}.")
    return height, width


def _unknown_name(name: str) -> str:
    plain = {known.replace("-", ""): known for known in CATALOG}
    near = difflib.get_close_matches(name.lower().replace("-", "").replace("_", ""), plain, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(repr(plain[match]) for match in near)}?" if near else ""
    return (
        f"data: expected a dataset's name ({', '.join(CATALOG)}), a folder of pictures or an .npz file, "
        f"found {name!r}, and there is no folder of that name either.{hint}"
    )
