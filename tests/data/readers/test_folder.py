import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from torchnin.data import DataError, load_dataset
from torchnin.data.paths import pictures_below
from torchnin.data.pictures import decode_picture
from torchnin.data.readers.folder import read_folder
from torchnin.data.resize import resize_bytes


def picture(path: Path, level: int = 100, size: tuple[int, int] = (8, 8), mode: str = "RGB") -> Path:
    """A picture of one grey level, height and width `size`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(size if mode == "L" else (*size, 3), level, dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def class_folders(root: Path, names: tuple[str, ...] = ("cat", "dog"), count: int = 5, level: int = 0) -> Path:
    for label, name in enumerate(names):
        for index in range(count):
            picture(root / name / f"{index}.png", level=level + 10 * label + index)
    return root


@pytest.mark.parametrize("held_out", ["val", "validation", "valid", "test", "Test"])
def test_train_with_one_other_split(tmp_path: Path, held_out: str) -> None:
    class_folders(tmp_path / "train")
    class_folders(tmp_path / held_out, count=2)
    data = read_folder(tmp_path)
    assert (len(data.train), len(data.test), data.validation) == (10, 4, None)
    assert data.class_names == ("cat", "dog")
    assert any("serves as the test pictures" in note for note in data.notes) == (held_out.lower() != "test")


def test_train_validation_and_test(tmp_path: Path) -> None:
    for split, count, level in (("train", 5, 0), ("val", 3, 50), ("test", 2, 100)):
        class_folders(tmp_path / split, count=count, level=level)
    (tmp_path / "papers").mkdir()
    data = read_folder(tmp_path)
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (10, 6, 4)
    assert data.notes == ("Beside train/ these folders were left out: papers.",)


def test_classes_are_matched_by_name_across_splits(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", names=("ant", "bee", "cat"), count=2)
    class_folders(tmp_path / "val", names=("bee", "cat"), count=3)
    data = read_folder(tmp_path)
    assert data.class_names == ("ant", "bee", "cat")
    assert data.test.class_counts.tolist() == [0, 3, 3]
    # Levels 0 to 2 were written for the first class of val, which is train's second.
    assert data.test.images[data.test.labels == 1].max() == 2


def test_a_class_that_train_lacks_is_named(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "val", names=("cat", "Dog"))
    with pytest.raises(DataError, match=r"Dog: expected a class that train has too, found 'Dog', which it lacks \(train has 'dog'\)"):
        read_folder(tmp_path)


def test_of_a_class_of_few_pictures_one_is_held_out(tmp_path: Path) -> None:
    class_folders(tmp_path, count=2)
    data = load_dataset(tmp_path, test_fraction=0.125)
    assert (len(data.train), len(data.test)) == (2, 2)
    assert "2 of 4 pictures, 12.5% of each class, at least one picture, were held out for testing (seed 0)" in data.notes[0]
    class_folders(tmp_path, names=("one",), count=1)
    said = "2 of 5 pictures, 12.5% of each class of two pictures or more, at least one picture, were held out for testing (seed 0)"
    assert said in load_dataset(tmp_path, test_fraction=0.125).notes[0]


def test_class_folders_alone_are_split_by_the_seed(tmp_path: Path) -> None:
    class_folders(tmp_path, count=10)
    data = load_dataset(tmp_path, seed=7)
    assert (len(data.train), len(data.test)) == (16, 4)
    assert data.test.class_counts.tolist() == [2, 2]
    assert "4 of 20 pictures, 20% of each class, were held out for testing (seed 7)" in data.notes[0]
    assert load_dataset(tmp_path, seed=7).test.checksum == data.test.checksum
    assert load_dataset(tmp_path, seed=8).test.checksum != data.test.checksum
    # Every picture is on one side.
    levels = sorted([*data.train.images[:, 0, 0, 0].tolist(), *data.test.images[:, 0, 0, 0].tolist()])
    assert levels == sorted([*range(10), *range(10, 20)])
    assert load_dataset(tmp_path, test_fraction=0.5).test.class_counts.tolist() == [5, 5]


def test_train_alone_is_split_too(tmp_path: Path) -> None:
    class_folders(tmp_path / "train", count=5)
    data = read_folder(tmp_path)
    assert (len(data.train), len(data.test)) == (8, 2)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    class_folders(tmp_path, names=("bus", "train"))
    assert read_folder(tmp_path).class_names == ("bus", "train")


def test_natural_order_of_classes(tmp_path: Path) -> None:
    class_folders(tmp_path, names=("10", "9", "class 2", "class 11", "Zebra", "a"), count=2)
    assert read_folder(tmp_path).class_names == ("9", "10", "Zebra", "a", "class 2", "class 11")


def test_classes_that_differ_by_case(tmp_path: Path) -> None:
    class_folders(tmp_path, names=("a", "A"))
    if len(list(tmp_path.iterdir())) == 2:
        assert read_folder(tmp_path).class_names == ("A", "a")


def test_hidden_and_other_files_are_left_out(tmp_path: Path) -> None:
    class_folders(tmp_path)
    picture(tmp_path / "cat" / ".hidden.png")
    picture(tmp_path / ".thumbnails" / "x.png")
    picture(tmp_path / "__MACOSX" / "x.png")
    (tmp_path / "cat" / "notes.txt").write_text("no picture")
    picture(tmp_path / "cat" / "more" / "DEEP.PNG")
    picture(tmp_path / "loose.png")
    data = read_folder(tmp_path)
    assert data.class_names == ("cat", "dog")
    assert len(data.train) + len(data.test) == 11
    assert any("1 pictures directly in" in note for note in data.notes)


def test_loose_pictures_beside_class_folders_of_any_split_are_told(tmp_path: Path) -> None:
    for level, split in enumerate(("train", "val", "test")):
        class_folders(tmp_path / split, count=2, level=50 * level)
        picture(tmp_path / split / "loose.png")
    picture(tmp_path / "train" / "more.png")
    picture(tmp_path / "loose.png")
    data = read_folder(tmp_path)
    assert data.validation is not None
    assert (len(data.train), len(data.validation), len(data.test)) == (4, 4, 4)
    assert data.notes == tuple(
        f"{count} pictures directly in {folder} belong to no class and were left out."
        for count, folder in ((1, tmp_path), (2, tmp_path / "train"), (1, tmp_path / "val"), (1, tmp_path / "test"))
    )


@pytest.mark.parametrize("split", ["", "train", "val"])
def test_an_empty_class_folder_is_named(tmp_path: Path, split: str) -> None:
    root = tmp_path / split if split else tmp_path
    class_folders(tmp_path / "train" if split else tmp_path)
    if split == "val":
        class_folders(root)
    (root / "cow").mkdir()
    if split == "val":
        class_folders(tmp_path / "train", names=("cow",))
    with pytest.raises(DataError, match=r"cow: expected at least one picture .*found none"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ((), "found no class folder and 0 pictures"),
        (("a.png", "b.png"), "found no class folder and 2 pictures"),
        (("cat/a.png",), r"the one class folder cat\.$"),
        (("photos/cat/a.png", "photos/dog/a.png"), r"one class folder photos\. If the folders in photos are the classes, give .*photos\.$"),
        (("photos/train/cat/a.png", "photos/test/cat/a.png"), r"give .*photos\.$"),
        (("train/cat/a.png",), "found the one class 'cat'"),
        (("val/cat/a.png", "val/dog/a.png"), "expected a folder train/"),
        (("train/cat/a.png", "train/dog/a.png", "test/a.png"), "test: expected a folder for each class"),
        (("cat/a.png", "dog/a.png"), "two pictures or more"),
    ],
)
def test_other_layouts_say_what_is_accepted(tmp_path: Path, files: tuple[str, ...], said: str) -> None:
    for name in files:
        picture(tmp_path / name)
    with pytest.raises(DataError, match=said):
        read_folder(tmp_path)


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat", target_is_directory=True)
    (tmp_path / "cat" / "up").symlink_to(tmp_path, target_is_directory=True)
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    picture(outside / "linked.png")
    (tmp_path / "dog" / "linked").symlink_to(outside, target_is_directory=True)
    assert len(pictures_below(tmp_path / "cat")) == 5
    assert len(pictures_below(tmp_path / "dog")) == 6


@pytest.mark.parametrize(
    ("sizes", "expected", "said"),
    [
        (((8, 6), (8, 6)), (8, 6), None),
        (((64, 64), (64, 64)), (64, 64), None),
        (((65, 65), (65, 65)), (64, 64), "Pictures of 65 x 65 pixels were stretched to 64 x 64"),
        (((8, 6), (20, 30)), (64, 64), "Pictures of 2 sizes, 8 x 6 to 20 x 30 pixels, were stretched to 64 x 64"),
    ],
)
def test_sizes(tmp_path: Path, sizes: tuple[tuple[int, int], ...], expected: tuple[int, int], said: str | None) -> None:
    for index, size in enumerate(sizes):
        for name in ("cat", "dog"):
            picture(tmp_path / name / f"{index}.png", size=size)
    data = load_dataset(tmp_path, test_fraction=0.5)
    assert data.train.image_size == expected
    assert [note for note in data.notes if "stretched" in note] == ([] if said is None else [data.notes[1]])
    if said is not None:
        assert said in data.notes[1]
    assert load_dataset(tmp_path, image_size=12).train.image_size == (12, 12)
    assert load_dataset(tmp_path, image_size=(12, 10)).train.image_size == (12, 10)


def test_the_pixels_are_the_resized_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for index, size in enumerate([(20, 30), (20, 30), (300, 280), (20, 30)]):
        path = tmp_path / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(path)
    data = read_folder(tmp_path, image_size=(16, 16), test_fraction=0.5)
    expected = {resize_bytes(decode_picture(path, 3)[None], 16, 16).tobytes() for path in pictures_below(tmp_path)}
    assert {image.tobytes() for image in np.concatenate([data.train.images, data.test.images])} == expected


def test_channels_are_those_of_the_pictures(tmp_path: Path) -> None:
    for name in ("cat", "dog"):
        for index in range(2):
            picture(tmp_path / name / f"{index}.png", mode="L")
    assert read_folder(tmp_path).train.in_channels == 1
    assert read_folder(tmp_path, channels=3).train.in_channels == 3
    picture(tmp_path / "cat" / "colour.png")
    assert read_folder(tmp_path).train.in_channels == 3
    assert read_folder(tmp_path, channels=1).train.in_channels == 1


@pytest.mark.parametrize("arguments", [{}, {"image_size": (8, 8), "channels": 3}], ids=["measured", "given"])
@pytest.mark.parametrize("content", [b"", b"no picture", None], ids=["empty", "text", "truncated"])
def test_broken_pictures_stop_or_are_skipped(tmp_path: Path, content: bytes | None, arguments: dict) -> None:
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "test")
    broken = tmp_path / "train" / "cat" / "3.png"
    broken.write_bytes(broken.read_bytes()[:-30] if content is None else content)
    with pytest.raises(DataError, match=r"3\.png: expected a picture.*out: --skip-broken \(skip_broken=True\)"):
        read_folder(tmp_path, **arguments)
    data = read_folder(tmp_path, skip_broken=True, **arguments)
    assert data.train.class_counts.tolist() == [4, 5]
    assert len(data.skipped) == 1
    assert data.skipped[0][0] == str(broken)
    assert data.skipped[0][1].startswith("expected a picture")
    assert "1 of 20 pictures were skipped because they do not decode" in data.notes[-1]
    # The others kept their labels.
    assert sorted(data.train.images[data.train.labels == 0][:, 0, 0, 0].tolist()) == [0, 1, 2, 4]


def test_what_is_left_out_decides_neither_size_nor_colour_and_is_not_counted(tmp_path: Path) -> None:
    """Its header can be read, and its pixels not."""
    for name in ("cat", "dog"):
        for index in range(4):
            picture(tmp_path / name / f"{index}.png", level=10 * index + (name == "dog"), mode="L")
    broken = tmp_path / "cat" / "9.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (100, 90, 3), dtype=np.uint8)).save(broken)
    broken.write_bytes(broken.read_bytes()[:2000])
    data = load_dataset(tmp_path, skip_broken=True, test_fraction=0.5)
    assert data.train.images.shape[1:] == data.test.images.shape[1:] == (1, 8, 8)
    assert [path for path, _ in data.skipped] == [str(broken)]
    assert data.notes[0].startswith(f"There is no test split: {len(data.test)} of 8 pictures, 50% of each class, were held out")
    assert len(data.notes) == 2
    assert "1 of 9 pictures were skipped" in data.notes[1]
    levels = [*data.train.images[:, 0, 0, 0].tolist(), *data.test.images[:, 0, 0, 0].tolist()]
    assert sorted(levels) == [0, 1, 10, 11, 20, 21, 30, 31]
    assert load_dataset(tmp_path, skip_broken=True, image_size=12).train.images.shape[1:] == (1, 12, 12)
    assert load_dataset(tmp_path, skip_broken=True, channels=3).train.images.shape[1:] == (3, 8, 8)
    picture(tmp_path / "dog" / "9.png", size=(70, 20))
    sizes = load_dataset(tmp_path, skip_broken=True).notes[1]
    assert sizes.startswith("Pictures of 2 sizes, 8 x 8 to 70 x 20 pixels, were stretched to 64 x 64")


@pytest.mark.parametrize("arguments", [{}, {"image_size": (8, 8), "channels": 3}], ids=["measured", "given"])
def test_pictures_are_held_out_as_if_the_broken_ones_were_not_there(tmp_path: Path, arguments: dict) -> None:
    """Of a class with one good and one broken picture, the good one is learned from, whichever of the two comes first."""
    class_folders(tmp_path, names=("ant", "bee", "cat", "dog"), count=2)
    clean = [picture(tmp_path / "eel" / f"{index}.png", level=200 + index) for index in range(5)]
    broken = [tmp_path / "ant" / "0.png", tmp_path / "bee" / "1.png", tmp_path / "cat" / "0.png", clean[2]]
    for path in broken[:3]:
        path.write_bytes(b"")
    broken[3].write_bytes(broken[3].read_bytes()[:-30])  # its header can be read
    data = read_folder(tmp_path, skip_broken=True, **arguments)
    assert {path for path, _ in data.skipped} == {str(path) for path in broken}
    assert data.train.class_counts.tolist() == [1, 1, 1, 1, 3]
    assert data.test.class_counts.tolist() == [0, 0, 0, 1, 1]
    for path in broken:
        path.unlink()
    without = read_folder(tmp_path, **arguments)
    assert (data.train.checksum, data.test.checksum) == (without.train.checksum, without.test.checksum)


def test_of_folders_of_broken_pictures_alone_nothing_is_read(tmp_path: Path) -> None:
    class_folders(tmp_path)
    for path in tmp_path.glob("*/*"):
        path.write_bytes(b"")
    with pytest.raises(DataError, match="expected at least one train picture that decodes, found none of 10"):
        read_folder(tmp_path, skip_broken=True)


def test_files_of_other_kinds_among_the_pictures_are_told_of(tmp_path: Path) -> None:
    class_folders(tmp_path / "photos")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "photos" / "cat" / "linked").symlink_to(tmp_path / "elsewhere")
    picture(tmp_path / "elsewhere" / "0.png")
    for name in ("photos/cat/a.heic", "photos/cat/b.HEIC", "photos/dog/c.avif", "photos/dog/photo", "elsewhere/d.heic"):
        (tmp_path / name).write_bytes(b"pixels")
    for name in ("cat/Thumbs.db", "cat/.DS_Store", "dog/._0.png", "labels.csv"):  # of the system, or beside no picture
        (tmp_path / "photos" / name).write_bytes(b"x")
    (note,) = [note for note in read_folder(tmp_path / "photos").notes if "Files" in note]
    assert note.startswith("Files beside the pictures were left out, for names of pictures end in .bmp, .gif")
    assert note.endswith(": 3 .heic, 1 .avif, 1 without an ending.")


def test_what_trainings_wrote_beside_the_class_folders_is_no_class(tmp_path: Path) -> None:
    class_folders(tmp_path)
    before = read_folder(tmp_path)
    for run in ("first", "runs/second", "runs/many/seed-0", "runs/many/seed-1", "cat/runs/third"):
        picture(tmp_path / run / "curves.png")
        (tmp_path / run / "config.json").write_text("{}")
        (tmp_path / run / "checkpoint").mkdir()
    picture(tmp_path / "runs" / "maps.png")  # as nin explain --out draws it
    after = read_folder(tmp_path)
    assert (after.class_names, after.train.checksum, after.test.checksum, after.notes) == (
        before.class_names,
        before.train.checksum,
        before.test.checksum,
        before.notes,
    )
    assert [path.name for path in pictures_below(tmp_path / "first")] == ["curves.png"]  # where it is asked for
    picture(tmp_path / "photos" / "runs" / "0.png")
    picture(tmp_path / "photos" / "jumps" / "0.png")
    assert read_folder(tmp_path / "photos", test_fraction=1).class_names == ("jumps", "runs")  # of no training


def test_pictures_that_train_has_too_are_told(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "test", level=3)
    (note,) = read_folder(tmp_path).notes
    train, test = tmp_path / "train" / "cat", tmp_path / "test" / "cat"
    assert note.startswith(
        f"4 of 10 test pictures are the same, to the pixel, as train pictures, first {test / '0.png'} and {train / '3.png'}:"
    )


def test_pictures_in_two_classes_are_told(tmp_path: Path) -> None:
    class_folders(tmp_path)
    wrong, right = picture(tmp_path / "dog" / "x.png", level=2), tmp_path / "cat" / "2.png"
    note = read_folder(tmp_path, test_fraction=1).notes[-1]
    assert note.startswith(f"In two classes, the same to the pixel: 1 picture, first {wrong} (dog) and {right} (cat).")


def test_a_class_whose_pictures_are_all_broken_stops(tmp_path: Path) -> None:
    class_folders(tmp_path / "train")
    class_folders(tmp_path / "test")
    for path in (tmp_path / "train" / "cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="found none that decodes in 'cat'"):
        read_folder(tmp_path, skip_broken=True)


def test_dangling_links_and_pipes_are_broken_pictures(tmp_path: Path) -> None:
    class_folders(tmp_path)
    (tmp_path / "cat" / "gone.png").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "dog" / "pipe.png")
    assert len(read_folder(tmp_path, skip_broken=True).skipped) == 2


def test_more_than_the_memory_is_refused(tmp_path: Path) -> None:
    class_folders(tmp_path, count=8000 // 2 // 100)
    with pytest.raises(ValueError, match="image_size: expected pictures that fit into memory"):
        read_folder(tmp_path, image_size=(10**6, 10**6))


def test_progress_is_told(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    load_dataset(class_folders(tmp_path), progress=lambda *step: told.append(step))
    assert ("looking at pictures", 10, 10) in told
    assert ("reading pictures", 8, 8) in told


def test_real_photos(shared_data: Path, tmp_path: Path) -> None:
    for name in ("7", "8"):
        (tmp_path / name).symlink_to(shared_data / "sign-language-digits" / name, target_is_directory=True)
    data = load_dataset(tmp_path, image_size=32, channels=1)
    assert data.class_names == ("7", "8")
    assert data.train.images.shape[1:] == (1, 32, 32)
    assert data.train.class_counts.min() > 150
    assert data.test.class_counts.min() >= 40
