"""The datasets that have a name: what they are, where they lie, how their files are known to be the right ones."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from torchnin.data.integrity import Digest
from torchnin.data.readers.idx import FILE_STEMS

SYSTEM_FOLDER = Path("/usr/share/datasets")
"""Where Debian and Ubuntu put data packages such as dataset-fashion-mnist."""
SAMPLE_FOLDER = Path(__file__).parent / "sample"
"""The sample of Fashion-MNIST inside the package."""
INSIDE_PACKAGE = "inside the package"

LayoutKind = Literal["idx", "cifar-pickle", "cifar-binary"]


@dataclass(frozen=True, kw_only=True)
class DataFile:
    """One file of a dataset, as it is after decompression."""

    name: str
    """Its published name, without .gz."""
    max_bytes: int
    """Nothing is read beyond this size."""
    digest: Digest | None = None
    """The checksum of the decompressed bytes; None where the publisher gives none and the size alone is checked."""


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


@dataclass(frozen=True, kw_only=True)
class Location:
    """Where a dataset's files were found."""

    dataset: NamedDataset
    layout: Layout
    folder: Path
    paths: Mapping[str, Path]
    """The path of each DataFile by its name."""


@dataclass(frozen=True, kw_only=True)
class DatasetStatus:
    """A line of `nin datasets`."""

    name: str
    title: str
    found: str | None
    """The folder it would be read from, "inside the package", or None where it would be downloaded."""
    licence: str
    home: str
    num_train: int
    num_test: int
    num_classes: int
    picture_shape: tuple[int, int, int]
    """(C, H, W)"""


def cache_folder() -> Path:
    """Where downloads are kept: $TORCHNIN_HOME, else $XDG_CACHE_HOME/torchnin, else ~/.cache/torchnin."""
    home = os.environ.get("TORCHNIN_HOME")
    if home:
        return Path(home).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base).expanduser() if base else Path.home() / ".cache") / "torchnin"


def locate(dataset: NamedDataset, data_dir: Path | None = None) -> tuple[Location | None, tuple[str, ...]]:
    """Look for a dataset's files: below `data_dir`, in the cache, in the system folder.

    Returns the first complete set (None where there is none) and a sentence for each incomplete set in `data_dir` that was passed over.
    """
    if dataset.name == SAMPLE.name:
        return _look_into(dataset, SAMPLE_FOLDER)[0], ()
    notes: list[str] = []
    if data_dir is not None:
        found, notes = _look_into(dataset, data_dir)
        if found:
            return found, ()
    for root in (cache_folder() / "data" / dataset.name, SYSTEM_FOLDER / dataset.name):
        found, _ = _look_into(dataset, root)
        if found:
            return found, tuple(notes)
    return None, tuple(notes)


def find_datasets(data_dir: str | os.PathLike[str] | None = None) -> list[DatasetStatus]:
    """Each named dataset with where it was found, judged by its files' names alone: nothing is read, checked or downloaded."""
    statuses = []
    for dataset in CATALOG.values():
        location, _ = locate(dataset, None if data_dir is None else Path(data_dir))
        found = None if location is None else INSIDE_PACKAGE if dataset.name == SAMPLE.name else str(location.folder)
        statuses.append(
            DatasetStatus(
                name=dataset.name,
                title=dataset.title,
                found=found,
                licence=dataset.licence,
                home=dataset.home,
                num_train=dataset.num_train,
                num_test=dataset.num_test,
                num_classes=len(dataset.class_names),
                picture_shape=dataset.picture_shape,
            )
        )
    return statuses


def known_file(sha256: str) -> str | None:
    """Which file of which named dataset has this SHA-256, as words for a message; None where no one does."""
    for dataset in CATALOG.values():
        for layout in dataset.layouts:
            for file in layout.files:
                if file.digest and file.digest.value == sha256:
                    return f"{file.name} of {dataset.name}"
    return None


def dataset_of_files(sha256s: set[str]) -> NamedDataset | None:
    """The named dataset whose files, all of them, have these SHA-256; None where there is no such one."""
    for dataset in CATALOG.values():
        for layout in dataset.layouts:
            if {file.digest.value for file in layout.files if file.digest} == sha256s:
                return dataset
    return None


def _look_into(dataset: NamedDataset, root: Path) -> tuple[Location | None, list[str]]:
    notes = []
    for layout in dataset.layouts:
        for folder in dict.fromkeys(root / name for name in (dataset.name, *layout.folders)):
            paths = {file.name: path for file in layout.files if (path := _find_file(folder, file.name)) is not None}
            if len(paths) == len(layout.files):
                return Location(dataset=dataset, layout=layout, folder=folder, paths=paths), []
            # One batch alone may belong to anything; say something only where the folder's own name shows that this dataset was meant.
            if paths and folder != root:
                missing = next(file.name for file in layout.files if file.name not in paths)
                notes.append(
                    f"{folder} was passed over: it has {len(paths)} of the {len(layout.files)} files of {dataset.name}; {missing} is missing."
                )
    return None, notes


def _find_file(folder: Path, name: str) -> Path | None:
    # The original site wrote train-images.idx3-ubyte inside its archives, and some unpackers keep that name.
    dotted = name.replace("-idx", ".idx")
    return next((path for path in (folder / name, folder / dotted, folder / f"{name}.gz", folder / f"{dotted}.gz") if path.is_file()), None)


def _idx_layout(num_train: int, num_test: int, pixels: int, sha256s: tuple[str, str, str, str], folders: tuple[str, ...]) -> Layout:
    sizes = (16 + num_train * pixels, 8 + num_train, 16 + num_test * pixels, 8 + num_test)
    files = tuple(
        DataFile(name=stem, max_bytes=size, digest=Digest(algorithm="sha256", value=value))
        for stem, size, value in zip((*FILE_STEMS["train"], *FILE_STEMS["test"]), sizes, sha256s, strict=True)
    )
    return Layout(kind="idx", train=files[:2], test=files[2:], folders=folders)


def _idx_downloads(homes: tuple[str, ...], sizes: tuple[int, int, int, int]) -> tuple[Download, ...]:
    names = [f"{stem}.gz" for stem in (*FILE_STEMS["train"], *FILE_STEMS["test"])]
    return tuple(
        Download(file_name=name, urls=tuple(home + name for home in homes), size=size) for name, size in zip(names, sizes, strict=True)
    )


def _cifar_files(files: Mapping[str, tuple[str, str] | None], max_bytes: int) -> tuple[DataFile, ...]:
    return tuple(
        DataFile(name=name, max_bytes=max_bytes, digest=None if digest is None else Digest(algorithm=digest[0], value=digest[1]))
        for name, digest in files.items()
    )


_FASHION_CLASSES = ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot")
_CIFAR_10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_CIFAR_100_CLASSES = tuple(
    """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle caterpillar
    cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo
    keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree
    pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail
    snake spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree
    wolf woman worm
    """.split()  # noqa: SIM905 - a hundred quoted names are harder to read
)
_FASHION_HOME = "https://github.com/zalandoresearch/fashion-mnist"

FASHION_MNIST = NamedDataset(
    name="fashion-mnist",
    title="Fashion-MNIST: grey photos of clothes",
    licence="MIT",
    home=_FASHION_HOME,
    class_names=_FASHION_CLASSES,
    num_train=60_000,
    num_test=10_000,
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
    licence="none stated by its authors; cite Krizhevsky 2009",
    home="https://www.cs.toronto.edu/~kriz/cifar.html",
    class_names=_CIFAR_10_CLASSES,
    num_train=50_000,
    num_test=10_000,
    picture_shape=(3, 32, 32),
    layouts=(
        Layout(
            kind="cifar-pickle",
            train=_cifar_files(
                {
                    "data_batch_1": ("sha256", "54636561a3ce25bd3e19253c6b0d8538147b0ae398331ac4a2d86c6d987368cd"),
                    "data_batch_2": ("sha256", "766b2cef9fbc745cf056b3152224f7cf77163b330ea9a15f9392beb8b89bc5a8"),
                    "data_batch_3": ("sha256", "0f00d98ebfb30b3ec0ad19f9756dc2630b89003e10525f5e148445e82aa6a1f9"),
                    "data_batch_4": ("sha256", "3f7bb240661948b8f4d53e36ec720d8306f5668bd0071dcb4e6c947f78e9682b"),
                    "data_batch_5": ("sha256", "d91802434d8376bbaeeadf58a737e3a1b12ac839077e931237e0dcd43adcb154"),
                },
                31_100_000,
            ),
            test=_cifar_files({"test_batch": ("sha256", "f53d8d457504f7cff4ea9e021afcf0e0ad8e24a91f3fc42091b8adef61157831")}, 31_100_000),
            folders=("cifar-10-batches-py", "cifar10", ""),
        ),
        # The publisher gives no checksum of the members of the binary archive: their exact size is what can be checked.
        Layout(
            kind="cifar-binary",
            train=_cifar_files({f"data_batch_{number}.bin": None for number in range(1, 6)}, 30_730_000),
            test=_cifar_files({"test_batch.bin": None}, 30_730_000),
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
    licence="none stated by its authors; cite Krizhevsky 2009",
    home="https://www.cs.toronto.edu/~kriz/cifar.html",
    class_names=_CIFAR_100_CLASSES,
    num_train=50_000,
    num_test=10_000,
    picture_shape=(3, 32, 32),
    layouts=(
        # MD5 is what is published for these members.
        Layout(
            kind="cifar-pickle",
            train=_cifar_files({"train": ("md5", "16019d7e3df5f24257cddd939b257f8d")}, 160_000_000),
            test=_cifar_files({"test": ("md5", "f0ef6b0ae62326f3e7ffdfab6717acfc")}, 35_000_000),
            folders=("cifar-100-python", "cifar100", ""),
        ),
        Layout(
            kind="cifar-binary",
            train=_cifar_files({"train.bin": None}, 153_700_000),
            test=_cifar_files({"test.bin": None}, 30_740_000),
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
