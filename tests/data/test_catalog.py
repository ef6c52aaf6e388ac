import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from torchnin.data import CATALOG, DataError, load_dataset
from torchnin.data import locate as locate_module
from torchnin.data.readers.idx import FILE_STEMS

STEMS = (*FILE_STEMS["train"], *FILE_STEMS["test"])
pytestmark = pytest.mark.usefixtures("no_system_folder")


@pytest.mark.parametrize("damage", ["flipped", "flipped packed", "truncated", "truncated plain", "longer", "other dataset", "empty"])
def test_damaged_files_stop_with_what_was_found(fashion_mnist: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for stem in STEMS:
        (folder / f"{stem}.gz").symlink_to(fashion_mnist / f"{stem}.gz")
    path = folder / f"{STEMS[3]}.gz"
    content = path.read_bytes()
    plain = gzip.decompress(content)
    path.unlink()
    if damage == "flipped":
        path.write_bytes(gzip.compress(plain[:-1] + bytes([plain[-1] ^ 1])))
        said = r"expected sha256 0402a96d.*, found sha256 [0-9a-f]{64}"
    elif damage == "flipped packed":
        path.write_bytes(content[:-5] + bytes([content[-5] ^ 1]) + content[-4:])
        said = "expected valid gzip, found an error in it"
    elif damage == "truncated":
        path.write_bytes(content[:-100])
        said = "expected a complete gzip stream, found the stream cut off"
    elif damage == "truncated plain":
        path = folder / STEMS[3]
        path.write_bytes(plain[:-5])
        said = "expected 10,008 bytes, found 10,003"
    elif damage == "longer":
        path.write_bytes(gzip.compress(plain + b"x"))
        said = "expected at most 10,008 decompressed bytes, found more"
    elif damage == "empty":
        path.write_bytes(b"")
        said = "expected 10,008 bytes, found 0"
    else:
        path.write_bytes((locate_module.SAMPLE_FOLDER / f"{STEMS[3]}.gz").read_bytes())
        said = "expected t10k-labels-idx1-ubyte of fashion-mnist, found t10k-labels-idx1-ubyte of fashion-mnist-sample"
    with pytest.raises(DataError, match=f"{path}: {said}.*Remove the file and run again to have it fetched anew"):
        load_dataset("fashion-mnist", data_dir=folder)


def test_a_flipped_bit_in_cifar_stops(shared_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for path in (shared_data / "cifar-10-batches-py").iterdir():
        (folder / path.name).symlink_to(path)
    damaged = folder / "test_batch"
    content = bytearray(damaged.read_bytes())
    content[1_000_000] ^= 1
    damaged.unlink()
    damaged.write_bytes(content)
    with pytest.raises(DataError, match=r"test_batch: expected sha256 f53d8d45.*found sha256"):
        load_dataset("cifar-10", data_dir=tmp_path)
    damaged.write_bytes(content[:1000])
    with pytest.raises(DataError, match="expected 31,035,526 bytes, found 1,000"):
        load_dataset("cifar-10", data_dir=tmp_path)


def test_published_files_in_a_folder_are_the_named_dataset(write_idx: Callable[..., Path], tmp_path: Path) -> None:
    by_name, as_folder = load_dataset("fashion-mnist-sample"), load_dataset(locate_module.SAMPLE_FOLDER)
    assert (as_folder.name, as_folder.mirror, as_folder.published) == (by_name.name, True, True)
    assert (by_name.mirror, by_name.published) == (True, True)
    own = load_dataset(write_idx(tmp_path / "mnist"))
    assert (own.name, own.mirror, own.published) == ("mnist", False, False)


def test_every_named_dataset_says_what_it_is_and_how_to_get_it() -> None:
    for name, dataset in CATALOG.items():
        assert dataset.name == name
        assert len(set(dataset.class_names)) == len(dataset.class_names) in (10, 100)
        assert dataset.licence
        assert dataset.home.startswith("http")
        assert dataset.how_to_get.endswith(".")
        for layout in dataset.layouts:
            assert len({file.name for file in layout.files}) == len(layout.files)
            assert all(file.digest or file.size for file in layout.files)  # by one of them each file is known to be the right one
