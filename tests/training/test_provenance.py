"""What a run records of its data is enough to find them again, wherever they are and whatever they are called."""

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from torchnin import DatasetSplits, load_dataset
from torchnin.data import locate as locate_module
from torchnin.data.readers.idx import FILE_STEMS, encode_idx
from torchnin.saved import without_places
from torchnin.training import load_recorded
from torchnin.training.provenance import describe_data


@pytest.fixture(autouse=True)
def no_named_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of that name is on this machine, and nothing can be downloaded."""
    monkeypatch.setattr(locate_module, "SYSTEM_FOLDER", tmp_path / "no-system-folder")
    monkeypatch.setenv("TORCHNIN_DATA_MIRROR", "http://127.0.0.1:9")


def recorded(splits: DatasetSplits) -> dict[str, Any]:
    """The entry `data` of a run's `config.json`, read back."""
    data: dict[str, Any] = json.loads(json.dumps(describe_data(splits, len(splits.train), 0)))
    return data


def photos(root: Path, few: DatasetSplits, count: int = 10) -> Path:
    for number, name in enumerate(("cat", "dog") * count):
        (root / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(few.train.images[number, 0]).save(root / name / f"{number}.png")
    return root


def idx_files(root: Path, few: DatasetSplits) -> Path:
    root.mkdir()
    for stems, split in ((FILE_STEMS["train"], few.train), (FILE_STEMS["test"], few.test)):
        (root / f"{stems[0]}.gz").write_bytes(gzip.compress(encode_idx(split.images[:, 0])))
        (root / stems[1]).write_bytes(encode_idx(split.labels.astype(np.uint8)))
    return root


def test_arrays_lie_nowhere_whatever_folder_is_called_so(few: DatasetSplits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos(tmp_path / "arrays", few)
    monkeypatch.chdir(tmp_path)
    arrays = load_dataset((few.train.images, few.train.labels))
    assert recorded(arrays)["source"] == "arrays"
    assert recorded(load_dataset("arrays"))["source"] == str(tmp_path / "arrays")


@pytest.mark.parametrize("make", [photos, idx_files])
@pytest.mark.parametrize("earlier", [False, True])
def test_ones_own_folder_may_be_called_like_a_named_dataset(make: Any, earlier: bool, few: Any, tmp_path: Path) -> None:
    splits = load_dataset(make(tmp_path / "mnist", few))
    record = recorded(splits)
    assert (record["name"], record["published"]) == ("mnist", False)
    if earlier:  # runs of earlier versions do not say
        del record["published"], record["test_fraction"]
    assert load_recorded(record).train.checksum == splits.train.checksum


def test_what_was_had_by_name_is_found_by_name(tmp_path: Path) -> None:
    by_name = load_dataset("fashion-mnist-sample")
    shutil.copytree(locate_module.SAMPLE_FOLDER, tmp_path / "copy")
    for splits in (by_name, load_dataset(tmp_path / "copy")):
        record = recorded(splits)
        assert (record["name"], record["published"]) == ("fashion-mnist-sample", True)
        assert load_recorded({**record, "source": "gone"}).train.checksum == by_name.train.checksum


def test_folders_and_files_that_have_moved_are_found_where_one_says(few: Any, few_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.npz"
    shutil.copy(few_file, file)
    for place, said in ((photos(tmp_path / "photos", few), "photos"), (file, "mine.npz")):
        splits = load_dataset(place, test_fraction=0.3)
        record = recorded(splits)
        moved = tmp_path / "elsewhere" / place.name
        moved.parent.mkdir(exist_ok=True)
        place.rename(moved)
        with pytest.raises(ValueError, match=rf"{said}, which the training used, is no longer at .*; give .* as --data-dir"):
            load_recorded(record)
        for data_dir in (moved.parent, moved)[: 2 if moved.is_dir() else 1]:
            assert load_recorded(record, data_dir=data_dir).test.checksum == splits.test.checksum
        elsewhere = without_places({"data": record})["data"]
        assert load_recorded(elsewhere, data_dir=moved.parent).test.checksum == splits.test.checksum
        with pytest.raises(ValueError, match=f"was trained on {said} on another machine, whose folders it does not name; name the data"):
            load_recorded(elsewhere)
        with pytest.raises(FileNotFoundError, match="data_dir: expected a folder"):
            load_recorded(record, data_dir=tmp_path / "nowhere")


def test_the_share_that_was_held_out_is_recorded(few: DatasetSplits, few_file: Path, tmp_path: Path) -> None:
    splits = load_dataset(photos(tmp_path / "photos", few), test_fraction=0.3)
    record = recorded(splits)
    assert record["test_fraction"] == 0.3
    assert load_recorded(record).test.checksum == splits.test.checksum
    assert recorded(load_dataset(few_file))["test_fraction"] is None
