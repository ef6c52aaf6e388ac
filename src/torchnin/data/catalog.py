"""The datasets that have a name: what they are, where they lie, how their files are known to be the right ones."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torchnin.data.errors import broken_file
from torchnin.data.integrity import Digest, read_bounded
from torchnin.data.readers.idx import FILE_STEMS

MAX_FILE_BYTES = 200_000_000
"""No file of a named dataset is larger than this after decompression."""

LayoutKind = Literal["idx", "cifar-pickle", "cifar-binary"]


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One file of a dataset, as it is after decompression."""

    name: str
    """Its published name, without .gz."""
    size: int | None
    """Its bytes; None where they are not known for certain, and MAX_FILE_BYTES is the bound."""
    digest: Digest | None = None
    """The checksum of the decompressed bytes; None where the publisher gives none and the size alone is checked."""

    @property
    def max_bytes(self) -> int:
        """Nothing is read beyond this size."""
        return MAX_FILE_BYTES if self.size is None else self.size


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One set of files that a dataset comes in."""

    kind: LayoutKind
    train: tuple[DataFile, ...]
    """For "idx" the pictures and the labels; for CIFAR the batches, in the order they are joined."""
    test: tuple[DataFile, ...]
    """The same for the test pictures."""
    folders: tuple[str, ...]
    """Where these files lie below a data folder, the likeliest first; "" is the folder itself."""

    @property
    def files(self) -> tuple[DataFile, ...]:
        """Every file that must be there."""
        return self.train + self.test


@dataclass(frozen=True, kw_only=True)
class Download:
    """One file to fetch."""

    file_name: str
    """The name below the dataset's folder of a mirror."""
    urls: tuple[str, ...]
    """The public homes, tried in this order."""
    size: int
    """Compressed bytes at the public home; a mirror may have compressed anew, so this bounds and shows progress, and decides nothing."""


@dataclass(frozen=True, kw_only=True)
class NamedDataset:
    """A dataset that load_dataset knows by name."""

    name: str
    title: str
    licence: str
    home: str
    """A page to read about it."""
    class_names: tuple[str, ...]
    num_train: int
    num_test: int
    picture_shape: tuple[int, int, int]
    """(C, H, W)"""
    layouts: tuple[Layout, ...]
    """In the order of preference; the first one is what the downloads give."""
    downloads: tuple[Download, ...] = ()
    archive: bool = False
    """Whether the one download is a tar archive that holds the files of the first layout."""
    how_to_get: str
    """The next step where it can neither be found nor downloaded."""
    mirror: bool = False
    """Whether a mirrored picture still belongs to its class, so that recipes may flip."""


def _idx_layout(num_train: int, num_test: int, pixels: int, sha256s: tuple[str, str, str, str], folders: tuple[str, ...]) -> Layout:
    sizes = (16 + num_train * pixels, 8 + num_train, 16 + num_test * pixels, 8 + num_test)
    files = tuple(
        DataFile(name=stem, size=size, digest=Digest(algorithm="sha256", value=value))
        for stem, size, value in zip((*FILE_STEMS["train"], *FILE_STEMS["test"]), sizes, sha256s, strict=True)
    )
    return Layout(kind="idx", train=files[:2], test=files[2:], folders=folders)


def _idx_downloads(homes: tuple[str, ...], sizes: tuple[int, int, int, int]) -> tuple[Download, ...]:
    names = [f"{stem}.gz" for stem in (*FILE_STEMS["train"], *FILE_STEMS["test"])]
    return tuple(
        Download(file_name=name, urls=tuple(home + name for home in homes), size=size) for name, size in zip(names, sizes, strict=True)
    )


def _cifar_10_pickles(files: Mapping[str, tuple[int, str]]) -> tuple[DataFile, ...]:
    return tuple(DataFile(name=name, size=size, digest=Digest(algorithm="sha256", value=sha256)) for name, (size, sha256) in files.items())


_FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CIFAR_10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_100_CLASSES = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle caterpillar
    cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl
    hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road
    rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table tank
    telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman worm
    """.split()  # noqa: SIM905 - a hundred quoted names are harder to read
)
_CIFAR_HOME = "https://www.cs.toronto.edu/~kriz/cifar.html"
_CIFAR_LICENCE = "none stated by its authors; cite Krizhevsky 2009"
_FASHION_HOME = "https://github.com/zalandoresearch/fashion-mnist"

FASHION_MNIST = NamedDataset(
    name="fashion-mnist",
    title="Fashion-MNIST: grey photos of clothes",
    licence="MIT",
    home=_FASHION_HOME,
    class_names=_FASHION_CLASSES,
    num_train=60_000,
    num_test=10_000,
    mirror=True,
    picture_shape=(1, 28, 28),
    layouts=(
        _idx_layout(
            60_000,
            10_000,
            784,
            (
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
            ("FashionMNIST/raw", "FashionMNIST", "fashion_mnist", "fashion", "raw", ""),
        ),
    ),
    downloads=_idx_downloads(("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",), (26_421_880, 29_515, 4_422_102, 5_148)),
    how_to_get="To get it: `apt-get install dataset-fashion-mnist`, or give the folder that holds its four files as --data-dir.",
)

SAMPLE = NamedDataset(
    name="fashion-mnist-sample",
    title="A tenth of Fashion-MNIST, inside the package",
    licence="MIT",
    home=_FASHION_HOME,
    class_names=_FASHION_CLASSES,
    num_train=6_000,
    num_test=1_000,
    mirror=True,
    picture_shape=(1, 28, 28),
    layouts=(
        _idx_layout(
            6_000,
            1_000,
            784,
            (
                "2a5a238f332a6779a6fde6579923ff114dc857090c7585b3e057c672451acfa7",
                "497a72f6b2ca890fe4db42f9e134ee128829e61830e5b745e9e64e7e95b34f97",
                "d80a67e53cb3b517101bca833cb8ed596b1b0fe4c7a3322c2a8c2f0a4efd55b3",
                "634ffa6c8b922879b3e66937af19eab2df16a7d6ea6b605955fe8f6c1df3cb10",
            ),
            ("",),
        ),
    ),
    how_to_get="Install torchnin anew: its own files are incomplete.",
)

MNIST = NamedDataset(
    name="mnist",
    title="MNIST: handwritten digits",
    licence="CC BY-SA 3.0",
    home="http://yann.lecun.com/exdb/mnist/",
    class_names=tuple("0123456789"),
    num_train=60_000,
    num_test=10_000,
    picture_shape=(1, 28, 28),
    layouts=(
        _idx_layout(
            60_000,
            10_000,
            784,
            (
                "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
                "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
                "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
                "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
            ),
            ("MNIST/raw", "MNIST", "raw", ""),
        ),
    ),
    downloads=_idx_downloads(
        ("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
        (9_912_422, 28_881, 1_648_877, 4_542),
    ),
    how_to_get="Give the folder that holds its four files as --data-dir.",
)

CIFAR_10 = NamedDataset(
    name="cifar-10",
    title="CIFAR-10: small colour photos of animals and vehicles",
    licence=_CIFAR_LICENCE,
    home=_CIFAR_HOME,
    class_names=_CIFAR_10_CLASSES,
    num_train=50_000,
    num_test=10_000,
    mirror=True,
    picture_shape=(3, 32, 32),
    layouts=(
        Layout(
            kind="cifar-pickle",
            train=_cifar_10_pickles(
                {
                    "data_batch_1": (31_035_704, "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
                    "data_batch_2": (31_035_320, "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
                    "data_batch_3": (31_035_999, "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
                    "data_batch_4": (31_035_696, "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
                    "data_batch_5": (31_035_623, "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
                }
            ),
            test=_cifar_10_pickles({"test_batch": (31_035_526, "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831")}),
            folders=("cifar-10-batches-py", "cifar10", ""),
        ),
        # No checksum is published for the members of the binary archives: their exact size is what can be checked.
        Layout(
            kind="cifar-binary",
            train=tuple(DataFile(name=f"data_batch_{number}.bin", size=30_730_000) for number in range(1, 6)),
            test=(DataFile(name="test_batch.bin", size=30_730_000),),
            folders=("cifar-10-batches-bin", "cifar10", ""),
        ),
    ),
    downloads=(
        Download(file_name="cifar-10-python.tar.gz", urls=("https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",), size=170_498_071),
    ),
    archive=True,
    how_to_get="Give the folder that holds cifar-10-batches-py as --data-dir.",
)

CIFAR_100 = NamedDataset(
    name="cifar-100",
    title="CIFAR-100: small colour photos of a hundred kinds of things",
    licence=_CIFAR_LICENCE,
    home=_CIFAR_HOME,
    class_names=_CIFAR_100_CLASSES,
    num_train=50_000,
    num_test=10_000,
    mirror=True,
    picture_shape=(3, 32, 32),
    layouts=(
        # MD5 is what is published for these members.
        Layout(
            kind="cifar-pickle",
            train=(DataFile(name="train", size=None, digest=Digest(algorithm="md5", value="16019d7e3df5f24257cddd939b257f8d")),),
            test=(DataFile(name="test", size=None, digest=Digest(algorithm="md5", value="f0ef6b0ae62326f3e7ffdfab6717acfc")),),
            folders=("cifar-100-python", "cifar100", ""),
        ),
        Layout(
            kind="cifar-binary",
            train=(DataFile(name="train.bin", size=153_700_000),),
            test=(DataFile(name="test.bin", size=30_740_000),),
            folders=("cifar-100-binary", "cifar100", ""),
        ),
    ),
    downloads=(
        Download(file_name="cifar-100-python.tar.gz", urls=("https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",), size=169_001_437),
    ),
    archive=True,
    how_to_get="Give the folder that holds cifar-100-python as --data-dir.",
)

CATALOG: Mapping[str, NamedDataset] = {dataset.name: dataset for dataset in (FASHION_MNIST, SAMPLE, MNIST, CIFAR_10, CIFAR_100)}
"""Every named dataset, by name."""


def read_checked(dataset: NamedDataset, file: DataFile, path: Path) -> tuple[bytes, str]:
    """The decompressed bytes of one of a dataset's files, with their SHA-256 in hex.

    Raises DataError, naming what was expected and found, where size or checksum are not those that were published, or it does not unpack.
    """
    next_step = f"Remove the file and run again to have it fetched anew. {dataset.how_to_get}"
    data = read_bounded(path, file.max_bytes, next_step)
    sha256 = hashlib.sha256(data).hexdigest()
    wrong_size = file.size is not None and len(data) != file.size
    if wrong_size or (file.digest is not None and not file.digest.matches(data, sha256)):
        known = next((f"{other.name} of {owner.name}" for owner, other in _all_files() if _is_published_as(other, sha256)), None)
        if known:
            expected, found = f"{file.name} of {dataset.name}", known
        elif wrong_size or file.digest is None:
            expected, found = f"{file.size:,} bytes", f"{len(data):,}"
        else:
            expected, found = f"{file.digest.algorithm} {file.digest.value}", file.digest.of(data)
        raise broken_file(path, expected=expected, found=found, next_step=next_step)
    return data, sha256


def _is_published_as(file: DataFile, sha256: str) -> bool:
    return file.digest is not None and file.digest.value == sha256


def _all_files() -> Iterator[tuple[NamedDataset, DataFile]]:
    for dataset in CATALOG.values():
        for layout in dataset.layouts:
            for file in layout.files:
                yield dataset, file


def dataset_of_files(contents: Mapping[str, bytes], sha256s: Mapping[str, str]) -> NamedDataset | None:
    """The named dataset whose published files are exactly these, by name and checksum; None where there is no such one."""
    for dataset in CATALOG.values():
        for layout in dataset.layouts:
            if {file.name for file in layout.files} == contents.keys() and all(
                file.digest is not None and file.digest.matches(contents[file.name], sha256s[file.name]) for file in layout.files
            ):
                return dataset
    return None
