import gzip
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from torchnin.data import CATALOG, DataError, find_datasets, load_dataset
from torchnin.data.locate import find_loose, locate
from torchnin.data.readers.idx import FILE_STEMS

STEMS = (*FILE_STEMS["train"], *FILE_STEMS["test"])
pytestmark = pytest.mark.usefixtures("no_system_folder")


@pytest.mark.parametrize("layout", ["", "fashion-mnist", "FashionMNIST/raw"])
@pytest.mark.parametrize("packed", [True, False])
def test_the_places_below_data_dir(fashion_mnist: Path, tmp_path: Path, layout: str, packed: bool) -> None:
    folder = tmp_path / "data" / layout
    folder.mkdir(parents=True)
    for stem in STEMS:
        source = fashion_mnist / f"{stem}.gz"
        if packed:
            (folder / source.name).symlink_to(source)
        else:
            (folder / stem).write_bytes(gzip.decompress(source.read_bytes()))
    assert load_dataset("fashion-mnist", data_dir=tmp_path / "data").source == str(folder)
    shutil.rmtree(tmp_path / "data")


def test_an_incomplete_folder_is_passed_over_with_a_note(write_idx: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "data" / "fashion-mnist")
    (folder / STEMS[3]).unlink()
    data = load_dataset("fashion-mnist", data_dir=tmp_path / "data", download=False)
    assert data.name == "fashion-mnist-sample"
    assert "passed over: it has 3 of the 4 files of fashion-mnist, t10k-labels-idx1-ubyte is missing" in data.notes[0]


def test_find_datasets(write_idx: Callable[..., Path], tmp_path: Path) -> None:
    found = {status.name: status for status in find_datasets(write_idx(tmp_path / "data" / "MNIST" / "raw").parents[1])}
    assert list(found) == list(CATALOG)
    assert found["fashion-mnist-sample"].found == "inside the package"
    assert found["mnist"].found == str(tmp_path / "data" / "MNIST" / "raw")
    assert found["cifar-100"].found is None
    assert found["cifar-100"].num_classes == 100
    assert found["fashion-mnist"].licence == "MIT"


def test_loose_files_are_found_in_a_folder_or_in_raw_below_it(write_idx: Callable[..., Path], tmp_path: Path) -> None:
    folder = write_idx(tmp_path / "mine" / "raw")
    for place in (folder, folder.parent):
        found = find_loose(place)
        assert found is not None
        assert (found.folder, found.layout.kind, set(found.paths)) == (folder, "idx", set(STEMS))
    assert find_loose(tmp_path) is None
    (folder / STEMS[1]).rename(folder / STEMS[1].replace("-idx", ".idx"))  # as some unpackers call it
    assert find_loose(folder) is not None
    (folder / f"{STEMS[0]}.gz").unlink()
    with pytest.raises(DataError, match=rf"{folder.name}: expected the 4 files of MNIST's format, found 3\. Add {STEMS[0]}\.$"):
        find_loose(folder.parent)


def test_the_sample_is_inside_the_package_whatever_lies_elsewhere(write_idx: Callable[..., Path], tmp_path: Path) -> None:
    for name in ("fashion-mnist-sample", "mnist"):
        write_idx(tmp_path / name)
    found, notes = locate(CATALOG["fashion-mnist-sample"], tmp_path)
    assert found is not None
    assert (found.folder.name, notes) == ("sample", ())
    other, _ = locate(CATALOG["mnist"], tmp_path)
    assert other is not None
    assert other.folder == tmp_path / "mnist"
