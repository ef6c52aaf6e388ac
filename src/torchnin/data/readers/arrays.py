"""Arrays: from Python, or from the .npz files that Keras and MedMNIST made usual."""

import errno
import math
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from torchnin.data.dataset import ImageDataset, check_label_range, listed
from torchnin.data.errors import DataError, broken_file
from torchnin.data.mapped import mapped_file
from torchnin.data.pictures import array_of_tensor, as_uint8_advice

# A header may claim any size; nothing beyond this is believed.
MAX_ARRAY_BYTES = 16 << 30
_CHUNK_BYTES = 1 << 24

_SPLITS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "train": (("x_train", "y_train"), ("train_images", "train_labels"), ("images", "labels"), ("x", "y")),
    "validation": (("x_val", "y_val"), ("x_valid", "y_valid"), ("val_images", "val_labels")),
    "test": (("x_test", "y_test"), ("test_images", "test_labels")),
}
_ACCEPTED_KEYS = (
    "x_train, y_train, x_test, y_test (Keras), train_images, train_labels, val_images, val_labels, test_images, test_labels (MedMNIST), "
    "or images, labels; class_names beside them where there are names"
)


def read_npz(path: str | os.PathLike[str]) -> dict[str, ImageDataset]:
    """The splits of an .npz file, "train" always, "validation" and "test" where they are there. Layouts as to_dataset takes them.

    Objects are never unpickled, and no array is read beyond the size that its header declares. Raises DataError naming the file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            there = ", ".join(sorted(name.removesuffix(".npy") for name in archive.namelist())) or "no arrays"
            arrays = _read_arrays(archive, path)
    except FileNotFoundError as error:
        raise broken_file(path, expected="an .npz file", found="none", next_step="Check the path.") from error
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OverflowError, UnicodeError) as error:
        raise _broken_zip(path, error) from error
    except OSError as error:
        # The places that a broken zip names may lie before the file's beginning; the disk's own errors are another matter.
        if error.errno != errno.EINVAL:
            raise
        raise _broken_zip(path, error) from error
    names = None if "class_names" not in arrays else _texts(arrays["class_names"], f"{os.fspath(path)} (class_names)")
    pairs = {split: _pair_of(split, arrays, path, there) for split in _SPLITS}
    if pairs["train"] is None:
        raise broken_file(path, expected=f"the keys {_ACCEPTED_KEYS}", found=there, next_step="Rename the arrays.")
    try:
        return datasets_of_pairs({split: pair for split, pair in pairs.items() if pair is not None}, names)
    except DataError as error:
        raise DataError(f"{os.fspath(path)}: {error}") from error


def _broken_zip(path: str | os.PathLike[str], error: Exception) -> DataError:
    return broken_file(path, expected="an .npz file (zip)", found=f"a broken one ({error})", next_step="Write it again.")


def datasets_of_pairs(pairs: Mapping[str, tuple[Any, Any]], class_names: Sequence[str] | None = None) -> dict[str, ImageDataset]:
    """Datasets of one or several (pictures, labels), with the classes of the first: without names they are called "0", "1", ...

    Raises DataError as to_dataset does.
    """
    datasets: dict[str, ImageDataset] = {}
    for split, (images, labels) in pairs.items():
        datasets[split] = to_dataset(images, labels, class_names, where=split)
        class_names = datasets[split].class_names
    return datasets


def to_dataset(images: Any, labels: Any, class_names: Sequence[str] | None = None, *, where: str = "arrays") -> ImageDataset:
    """An ImageDataset of arrays or tensors.

    `images` is uint8, 0 to 255, of shape (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels; where both readings fit, as in
    (N, 3, H, 3), (N, H, W, C) wins. `labels` are whole numbers of shape (N,) or (N, 1), from 0, or the classes' names, which stand in
    alphabetical order where `class_names` are not given. Raises DataError where they are anything else; `where` is for the message. A
    memory-mapped array stays one, everything else is copied.
    """
    pixels = _as_array(images, where=f"{where} pictures")
    if pixels.dtype != np.uint8:
        raise DataError(f"{where} pictures: expected dtype uint8, 0 to 255, found {pixels.dtype}. {as_uint8_advice(pixels.dtype)}")
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.ndim == 4 and pixels.shape[3] in (1, 3):
        pixels = pixels.transpose(0, 3, 1, 2)
    elif pixels.ndim != 4 or pixels.shape[1] not in (1, 3):
        accepted = "(N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3"
        raise DataError(f"{where} pictures: expected shape {accepted}, found {pixels.shape}.")
    flat = _flat(_as_array(labels, where=f"{where} labels", text=True), where)
    if flat.dtype.kind in "US":
        numbers, class_names = _numbered(flat, class_names, where)
    else:
        numbers = _as_labels(flat, where)
    if len(pixels) != len(numbers):
        raise DataError(f"{where}: expected one label a picture, found {len(pixels):,} pictures and {len(numbers):,} labels.")
    if not len(pixels):
        raise DataError(f"{where}: expected at least one picture, found none.")
    if class_names is None:
        highest = int(numbers.max())
        # A label far beyond the pictures is a mistake, and a name for each number up to it would fill the memory.
        if highest >= max(10_000, 10 * len(numbers)):
            check_label_range(numbers, max(10_000, 10 * len(numbers)), where=f"{where} labels")
        class_names = tuple(str(label) for label in range(highest + 1))
    check_label_range(numbers, len(class_names), where=f"{where} labels")
    # A copy of one's own, but of a memory-mapped file, which may be larger than the memory.
    return ImageDataset(pixels if mapped_file(pixels) else np.array(pixels, order="C"), numbers, tuple(class_names))


def dataset_of(data: Any, class_names: Sequence[str]) -> ImageDataset:
    """A dataset as it is, or one made of (pictures, labels), as to_dataset takes them, of these classes.

    Raises TypeError where it is neither, DataError as to_dataset does.
    """
    if isinstance(data, ImageDataset):
        return data
    if isinstance(data, tuple | list) and len(data) == 2:
        images, labels = data
        return to_dataset(images, labels, class_names, where="dataset")
    raise TypeError(
        f"dataset: expected an ImageDataset, such as load_dataset(...).test, or (pictures, labels), found {type(data).__name__}."
        f"{advice_of_torch(data)}"
    )


def advice_of_torch(data: Any) -> str:
    """How the pictures of a dataset of torch's are given; nothing of anything else."""
    if not isinstance(data, Dataset | DataLoader):
        return ""
    return " Of a torch dataset give pictures and labels: (np.stack([np.asarray(x) for x, _ in dataset]), [y for _, y in dataset])."


def _as_array(values: Any, *, where: str, text: bool = False) -> np.ndarray:
    """Of numbers; with `text` also of text, as pandas keeps it as objects."""
    if isinstance(values, Tensor):
        return array_of_tensor(values)
    if advice := advice_of_torch(values):
        raise TypeError(f"{where}: expected an array or a tensor, found {type(values).__name__}.{advice}")
    if isinstance(values, Iterator):
        raise TypeError(f"{where}: expected an array or a tensor, found {type(values).__name__}. Give all of it: list(...).")
    try:
        array = np.asarray(values)
    except ValueError as error:  # of numpy: an inhomogeneous shape
        raise DataError(
            f"{where}: expected all of one size, found several. Bring them to one, or save them as files in a folder for each class, where "
            "they may have any."
        ) from error
    if text and array.dtype.hasobject and all(isinstance(value, str) for value in array.flat):
        return array.astype(str)
    if array.dtype.hasobject:
        raise DataError(f"{where}: expected numbers in one regular shape, found a {type(values).__name__} of objects.")
    return array


def _flat(labels: np.ndarray, where: str) -> np.ndarray:
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        advice = " One-hot labels become numbers with argmax(axis=1)." if labels.ndim == 2 else ""
        raise DataError(f"{where} labels: expected shape (N,) or (N, 1), found {labels.shape}.{advice}")
    return labels


def _numbered(labels: np.ndarray, class_names: Sequence[str] | None, where: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Numbers in place of names, and the names in their order."""
    found, numbers = np.unique(labels, return_inverse=True)
    present = _texts(found, where)
    names = present if class_names is None else tuple(class_names)
    place = {name: index for index, name in enumerate(names)}
    if unknown := [name for name in present if name not in place]:
        raise DataError(f"{where} labels: expected names of the classes ({listed(names)}), found {unknown[0]!r}.")
    return np.array([place[name] for name in present], dtype=np.int64)[numbers], names


def _as_labels(labels: np.ndarray, where: str) -> np.ndarray:
    if labels.dtype.kind not in "iu":
        raise DataError(f"{where} labels: expected whole numbers or names, found {labels.dtype}. Convert them with astype('int64').")
    # Unsigned numbers beyond int64 would come out negative without a word.
    if labels.dtype.kind == "u" and len(labels) and int(labels.max()) > np.iinfo(np.int64).max:
        raise DataError(f"{where} labels: expected class numbers from 0, found {int(labels.max())}.")
    return labels.astype(np.int64)


def _texts(array: np.ndarray, where: str) -> tuple[str, ...]:
    try:
        if array.dtype.kind == "S":
            array = np.char.decode(array, "utf-8")
        return tuple(str(name) for name in array.reshape(-1))
    except (SystemError, UnicodeError) as error:  # four bytes of a text array may be no character
        raise broken_file(where, expected="text", found=str(error), next_step="Write them with np.asarray(names, dtype=str).") from error


def _pair_of(
    split: str, arrays: Mapping[str, np.ndarray], path: str | os.PathLike[str], there: str
) -> tuple[np.ndarray, np.ndarray] | None:
    for x, y in _SPLITS[split]:
        if x in arrays and y in arrays:
            return arrays[x], arrays[y]
        if x in arrays or y in arrays:
            given, missing = (x, y) if x in arrays else (y, x)
            raise broken_file(path, expected=f"{missing} beside {given}", found=there, next_step="Rename the arrays.")
    return None


def _read_arrays(archive: zipfile.ZipFile, path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    wanted = {key for pairs in _SPLITS.values() for pair in pairs for key in pair} | {"class_names"}
    arrays = {}
    for member in archive.infolist():
        key = member.filename.removesuffix(".npy")
        if key in wanted and member.filename.endswith(".npy"):
            with archive.open(member) as stream:
                arrays[key] = _read_array(stream, member.file_size, f"{os.fspath(path)} ({member.filename})")
    return arrays


def _read_array(stream: IO[bytes], size: int, where: str) -> np.ndarray:
    """One .npy inside the archive: its header must declare exactly the bytes that the archive has, before any of them is unpacked."""
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0), (3, 0)):
            raise ValueError(f"version {version}")
        # The header of version 3 differs from that of version 2 in its encoding alone, and numpy's reader of the latter takes both.
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(stream)
    except OSError:
        raise
    # numpy reads a header as a Python literal, and a description of a type within it as another: a broken one raises almost anything.
    except Exception as error:
        raise broken_file(where, expected="an .npy header", found=f"a broken one ({error})", next_step="Write the file again.") from error
    if dtype.hasobject:
        next_step = "Write it with a number or text dtype: np.asarray(values, dtype=str)."
        raise broken_file(where, expected="numbers or text", found="Python objects, which are never unpickled", next_step=next_step)
    declared = dtype.itemsize
    for axis in shape:
        declared *= axis
    available = size - stream.tell()
    # Of nothing there may still be more, along the other axes, than an array can have.
    extent = math.prod((dtype.itemsize or 1, *(axis or 1 for axis in shape)))
    if declared != available or extent > MAX_ARRAY_BYTES or any(axis < 0 for axis in shape):
        found = f"a header that declares {declared:,} bytes (shape {shape}, {dtype})"
        expected = f"{available:,} bytes of data" if declared != available else f"at most {MAX_ARRAY_BYTES:,} bytes"
        raise broken_file(where, expected=expected, found=found, next_step="Write the file again.")
    # Grown as the bytes come: a header alone never makes memory.
    pieces = bytearray()
    while len(pieces) < declared:
        piece = stream.read(min(_CHUNK_BYTES, declared - len(pieces)))
        if not piece:
            raise broken_file(where, expected=f"{declared:,} bytes of data", found=f"{len(pieces):,}", next_step="Write the file again.")
        pieces += piece
    # The check of the sum happens where the end is read.
    stream.read(1)
    if declared == 0:
        return np.empty(shape, dtype=dtype)
    flat = np.frombuffer(pieces, dtype=dtype)
    return flat.reshape(shape[::-1]).transpose() if fortran_order else flat.reshape(shape)
