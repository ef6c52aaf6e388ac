"""Pictures with their labels and class names, and the splits that a training needs."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from torchnin.data.errors import DataError
from torchnin.data.mapped import MappedPictures, Pictures, as_mapped
from torchnin.values import counted, real, whole

# Hashing goes through the pixels in pieces of this many bytes, so that a memory-mapped set is never read in at once.
_HASH_CHUNK_BYTES = 1 << 26


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Pictures in memory or in a memory-mapped file: unsigned bytes, one label each, one name a class.

    Raises DataError where the three contradict each other.
    """

    images: Pictures
    """uint8 of shape (N, C, H, W), 0 to 255; a memory map is welcome, and what is selected of it stays in its file."""
    labels: np.ndarray
    """int64 of shape (N,), each in 0 .. num_classes - 1."""
    class_names: tuple[str, ...]
    """The name of each class, in the order of the labels."""

    def __post_init__(self) -> None:
        images, labels, names = self.images, self.labels, class_names_of(self.class_names)
        object.__setattr__(self, "class_names", names)
        if not isinstance(images, np.ndarray | MappedPictures) or images.dtype != np.uint8 or images.ndim != 4 or 0 in images.shape[1:]:
            raise DataError(
                f"images: expected a numpy array of dtype uint8 and shape (N, C, H, W), found {_describe(images)}. "
                "load_dataset(((x_train, y_train), (x_test, y_test))) takes other layouts."
            )
        if not isinstance(labels, np.ndarray) or labels.dtype != np.int64 or labels.ndim != 1:
            raise DataError(
                f"labels: expected a numpy array of dtype int64 and shape (N,), found {_describe(labels)}. "
                "Convert them: labels.astype('int64')."
            )
        if len(images) != len(labels):
            raise DataError(f"images and labels: expected equal lengths, found {len(images):,} pictures and {len(labels):,} labels.")
        check_label_range(labels, len(names), where="labels")

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        c, h, w = self.images.shape[1:]
        return f"ImageDataset({len(self):,} pictures of {c}x{h}x{w}, {self.num_classes} classes)"

    @property
    def num_classes(self) -> int:
        """How many classes there are; a class may have no picture here."""
        return len(self.class_names)

    @property
    def in_channels(self) -> int:
        """Channels of a picture: 1 grey, 3 red-green-blue."""
        return int(self.images.shape[1])

    @property
    def image_size(self) -> tuple[int, int]:
        """Height and width of every picture, in pixels."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    @cached_property
    def class_counts(self) -> np.ndarray:
        """Pictures of each class: int64 of shape (num_classes,)."""
        return np.bincount(self.labels, minlength=self.num_classes)

    @cached_property
    def checksum(self) -> str:
        """SHA-256 (hex) of shape, pixels, labels and class names: equal exactly where a training would see the same data."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        rows = max(1, _HASH_CHUNK_BYTES // max(1, self.images[:1].nbytes))
        for start in range(0, len(self), rows):
            digest.update(np.ascontiguousarray(self.images[start : start + rows]).data)
        # Little-endian, so that the same data has the same checksum on every machine.
        digest.update(np.ascontiguousarray(self.labels, dtype="<i8").data)
        digest.update(repr(self.class_names).encode())
        return digest.hexdigest()

    def select(self, indices: Sequence[int] | np.ndarray) -> "ImageDataset":
        """The pictures at `indices` (int64 positions or a boolean mask of shape (N,)), in that order, as a dataset of its own.

        Memory-mapped pictures stay in their file; others are copied.
        """
        chosen = np.asarray(indices)
        if chosen.size == 0 and chosen.dtype != np.bool_:
            chosen = chosen.astype(np.int64)
        mapped = as_mapped(self.images)
        images = self.images[chosen] if mapped is None else mapped.select(chosen)
        return ImageDataset(images, self.labels[chosen], self.class_names)

    def split(self, fraction: float, *, seed: int) -> tuple["ImageDataset", "ImageDataset"]:
        """Hold out a share of every class: (rest, held_out), disjoint, each in the order of this dataset.

        `fraction` lies between 0 and 1 (both excluded); of each class it is rounded to whole pictures, at least one stays on either side
        where the class has two or more, and a class of a single picture stays in the rest. The same seed gives the same split on every
        machine and with every version of numpy. Raises ValueError where `fraction` or `seed` is no number, or out of range, DataError where
        no class has two pictures.
        """
        held_out = held_out_mask(self.labels, fraction, seed=seed)
        if not held_out.any():
            raise DataError(
                "split: expected a class with at least 2 pictures, found none among "
                f"{counted(len(self), 'picture')} of {self.num_classes} {'class' if self.num_classes == 1 else 'classes'}."
            )
        return self.select(~held_out), self.select(held_out)

    def with_class_names(self, names: Sequence[str]) -> "ImageDataset":
        """The same pictures with the labels that `names` gives their classes: classes are matched by name, never by position.

        `names` may have classes that this dataset lacks. Raises DataError naming a class that has pictures here and is missing in `names`.
        """
        names = class_names_of(names)
        if names == self.class_names:
            return self
        position = {name: index for index, name in enumerate(names)}
        missing = [name for name, count in zip(self.class_names, self.class_counts, strict=True) if count and name not in position]
        if missing:
            count = int(self.class_counts[self.class_names.index(missing[0])])
            raise DataError(
                f"class {missing[0]!r}: expected one of {listed(names)}, found {count:,} "
                f"pictures of a class that is not among them{_and_others(missing)}. Rename the class, or remove its pictures."
            )
        # A class without pictures may go: its place in the table is never looked up.
        table = np.array([position.get(name, -1) for name in self.class_names], dtype=np.int64)
        return ImageDataset(self.images, table[self.labels], names)


@dataclass(frozen=True, kw_only=True)
class DatasetSplits:
    """What a training needs: pictures to learn from and pictures to test on, with where they came from.

    All splits have the same class names, channels and picture size. Raises DataError where they do not.
    """

    name: str
    """The dataset's name, or the folder or file it was read from."""
    train: ImageDataset
    """The pictures to learn from."""
    test: ImageDataset
    """The pictures that the accuracy is reported on; nothing is chosen on them."""
    validation: ImageDataset | None = None
    """Pictures to choose on, where the data comes with such a split."""
    source: str
    """Where it was found: a path, or "inside the package"."""
    notes: tuple[str, ...] = ()
    """Sentences that the user must see: what was skipped, split, resized or fallen back on."""
    skipped: tuple[tuple[str, str], ...] = ()
    """Files that were left out because they do not decode: (path, reason)."""
    files: dict[str, str] = field(default_factory=dict)
    """SHA-256 (hex, of the decompressed bytes) of each file that was read, by name; empty for folders of pictures and arrays."""
    split_seed: int = 0
    """The seed that decided which pictures were held out for testing, where the data came without a test split."""
    test_fraction: float | None = None
    """The share that was held out for testing; None where the data came with a split to test on."""
    published: bool = False
    """Whether this is the dataset known as `name`: found by that name, or by files that are its own to the bit."""
    mirror: bool = False
    """Whether a mirrored picture still belongs to its class; known of named datasets alone, so no digits or signs are flipped unasked."""

    def __post_init__(self) -> None:
        for split, dataset in (("test", self.test), ("validation", self.validation)):
            if dataset is None:
                continue
            if dataset.class_names != self.train.class_names:
                raise DataError(
                    f"{self.name}: expected the same classes in every split, found {listed(self.train.class_names)} in train and "
                    f"{listed(dataset.class_names)} in {split}. Match them by name with with_class_names()."
                )
            if dataset.images.shape[1:] != self.train.images.shape[1:]:
                ways = "--image-size (image_size=)" if dataset.image_size != self.train.image_size else ""
                if dataset.in_channels != self.train.in_channels:
                    ways += (" and " if ways else "") + "--in-channels (channels=)"
                raise DataError(
                    f"{self.name}: expected the same picture shape (C, H, W) in every split, found "
                    f"{self.train.images.shape[1:]} in train and {dataset.images.shape[1:]} in {split}. "
                    f"Bring them to one with {ways}."
                )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class, in the order of the labels."""
        return self.train.class_names


def held_out_mask(labels: np.ndarray, fraction: float, *, seed: int) -> np.ndarray:
    """Which pictures a stratified split holds out: boolean of shape (N,). See ImageDataset.split for the rule and the errors."""
    fraction = real("fraction", fraction, "a number between 0 and 1, both excluded")
    seed = whole("seed", seed, "a whole number of at least 0")
    if not 0 < fraction < 1:
        raise ValueError(
            f"fraction: expected a number between 0 and 1, both excluded, found {fraction!r}. 0.1 holds out a tenth of every class."
        )
    if seed < 0:
        raise ValueError(f"seed: expected a whole number of at least 0, found {seed!r}.")
    # The raw stream of a bit generator is what numpy promises never to change; permutation() carries no such promise.
    rank = np.random.PCG64(seed).random_raw(len(labels))
    mask = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        if len(members) < 2:
            continue
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)
        mask[members[np.argsort(rank[members], kind="stable")[:count]]] = True
    return mask


def held_out_sentence(held_out: int, labels: np.ndarray, fraction: float, *, seed: int) -> str:
    """What a split for testing did with pictures that came without one, said to who trains on them."""
    counts = np.unique(labels, return_counts=True)[1]
    few = round(fraction * int(counts[counts > 1].min())) < 1 if (counts > 1).any() else False
    of_each = "each class" if (counts > 1).all() else "each class of two pictures or more"
    share = f"{100 * fraction:g}% of {of_each}{', at least one picture' if few else ''}"
    return f"There is no test split: {held_out:,} of {len(labels):,} pictures, {share}, were held out for testing (seed {seed})."


def check_label_range(labels: np.ndarray, num_classes: int, *, where: str) -> None:
    """Raise DataError naming the first label outside 0 .. num_classes - 1, its index and the accepted range."""
    wrong = np.flatnonzero((labels < 0) | (labels >= num_classes))
    if len(wrong):
        raise DataError(
            f"{where}: expected labels from 0 to {num_classes - 1} ({num_classes} classes), found {int(labels[wrong[0]])} "
            f"at index {int(wrong[0])} ({len(wrong):,} out of range in all). Count labels from 0, or name every class."
        )


def class_names_of(given: Iterable[str]) -> tuple[str, ...]:
    """The names of classes, in the order of their labels; also of an array, or of what gives them one after the other.

    Raises DataError where they are no several different texts in an order: one text, a set, a mapping, numbers, a name twice or empty.
    """
    if isinstance(given, np.ndarray):
        given = given.tolist()
    if isinstance(given, str | bytes):
        raise DataError(f"class_names: expected several names, found the text {given!r}.")
    if not isinstance(given, Iterable) or isinstance(given, Set | Mapping):
        raise DataError(f"class_names: expected several names in the order of the labels, found {_describe(given)}.")
    names = tuple(given)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise DataError(f"class_names: expected at least one non-empty string, found {listed(names)}.")
    if len(set(names)) != len(names):
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise DataError(f"class_names: expected each name once, found {twice!r} more than once. Rename one of the two classes.")
    return names


def _describe(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array of dtype {value.dtype} and shape {value.shape}"
    return f"a {type(value).__name__}"


def listed(names: Sequence[object], most: int = 12) -> str:
    """The first `most` of them as they are written in Python, and how many there are more."""
    shown = ", ".join(repr(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown or "none"


def _and_others(missing: list[str]) -> str:
    return "" if len(missing) == 1 else f" (and {len(missing) - 1} more such classes)"
