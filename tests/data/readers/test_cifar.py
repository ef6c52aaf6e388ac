import os
import pickle
import struct
import subprocess
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchnin.data import DataError
from torchnin.data.readers.cifar import parse_batch, parse_class_lines, parse_class_names, parse_records, read_pickle


def outcome_of(work: Callable[[], tuple]) -> tuple | str:
    try:
        return work()
    except DataError as error:
        return str(error)


PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3072), dtype=np.uint8)
LABELS = [3, 1, 4, 1, 5]


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("key", ["labels", b"labels", "fine_labels"])
def test_batches_of_every_protocol(protocol: int, key: str | bytes) -> None:
    data = "data" if isinstance(key, str) else b"data"
    written = pickle.dumps({data: PIXELS, key: LABELS, "filenames": ["a.png"], "none": None, "empty": (), "yes": True}, protocol=protocol)
    images, labels = parse_batch(written, "batch")
    assert images.shape == (5, 3, 32, 32)
    assert (images.reshape(5, -1) == PIXELS).all()
    assert labels.tolist() == LABELS
    assert labels.dtype == np.int64


def test_the_published_files_read_as_pickle_reads_them(shared_data: Path) -> None:
    path = shared_data / "cifar-10-batches-py" / "test_batch"
    data = path.read_bytes()
    images, labels = parse_batch(data, path)
    reference = pickle.loads(data, encoding="bytes")
    assert (images.reshape(len(images), -1) == reference[b"data"]).all()
    assert labels.tolist() == reference[b"labels"]
    names = parse_class_names((path.parent / "batches.meta").read_bytes(), "batches.meta")
    assert names[:2] == ("airplane", "automobile")


class Evil:
    """Runs a command when unpickled."""

    def __init__(self, call: object, arguments: tuple) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple:
        return self.call, self.arguments


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("call", [os.system, subprocess.check_output, eval, getattr, __import__], ids=lambda call: call.__name__)
def test_nothing_a_file_asks_for_is_run(tmp_path: Path, protocol: int, call: object) -> None:
    witness = tmp_path / "executed"
    argument = f"touch {witness}" if call in (os.system, subprocess.check_output) else f"open({str(witness)!r}, 'w')"
    for content in (Evil(call, (argument,)), {"data": Evil(call, (argument,)), "labels": LABELS}):
        with pytest.raises(DataError, match=r"evil: expected a CIFAR pickle, found .* at byte .*Nothing of it was executed"):
            parse_batch(pickle.dumps(content, protocol=protocol), "evil")
    assert not witness.exists()


@pytest.mark.parametrize(
    "content",
    [
        {"data": np.zeros((5, 3072), dtype=np.float32), "labels": LABELS},
        {"data": np.array([object()], dtype=object), "labels": LABELS},
        {"data": np.asfortranarray(PIXELS), "labels": LABELS},
        {"data": PIXELS, "labels": {1, 2}},
        OrderedDict(data=PIXELS, labels=LABELS),
        {"data": PIXELS, "labels": np.array(LABELS)},
        {("a", "tuple"): PIXELS},
    ],
    ids=["float pixels", "objects", "Fortran order", "a set", "another dictionary", "labels in an array", "a tuple as key"],
)
def test_what_cifar_does_not_hold_is_refused(content: object) -> None:
    with pytest.raises(DataError, match="batch: expected"):
        parse_batch(pickle.dumps(content, protocol=2), "batch")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([1, 2], "expected a dict, found a list"),
        ({"labels": LABELS}, "array \"data\".*found the keys 'labels'"),
        ({"data": PIXELS}, "\"labels\".*found the keys 'data'"),
        ({"data": PIXELS[:, :100].copy(), "labels": LABELS}, r"shape \(N, 3072\), found an array of shape \(5, 100\)"),
        ({"data": PIXELS, "labels": LABELS[:4]}, "expected 5 labels, one a picture, found 4"),
        ({"data": PIXELS, "labels": ["1", "2", "3", "4", "5"]}, "list of whole numbers"),
    ],
)
def test_batches_with_something_missing(content: object, said: str) -> None:
    with pytest.raises(DataError, match=said):
        parse_batch(pickle.dumps(content, protocol=2), "batch")


@pytest.mark.parametrize(
    "bomb",
    [
        # A text that claims 2 GB, a place in the memo that claims 32 GB, a frame of exabytes, an array of terabytes.
        b"\x80\x02B\xff\xff\xff\x7f",
        b"\x80\x02Nr\xff\xff\xff\xff0.",
        b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
        b"\x80\x02}" * 3_000_000,
        b"\x80\x02" + b"(" * 100_000 + b"t" * 100_000 + b".",
        b"\x80\x02T\xff\xff\xff\xff.",
        b"\x80\x02c" + b"a" * 1_000_000,
    ],
    ids=["text", "memo", "frame", "dicts", "nested", "negative", "name"],
)
def test_bombs_end_quickly(bomb: bytes) -> None:
    with pytest.raises(DataError, match="bomb: expected"):
        parse_batch(bomb, "bomb")


@settings(max_examples=300)
@given(st.data())
def test_cut_and_flipped_batches_give_arrays_or_the_named_error(draw: st.DataObject) -> None:
    written = bytearray(pickle.dumps({"data": PIXELS[:1], "labels": [1]}, protocol=2))
    for _ in range(draw.draw(st.integers(1, 3))):
        place = draw.draw(st.one_of(st.integers(0, 250), st.integers(0, len(written) - 1)))
        written[place] = draw.draw(st.integers(0, 255))
    cut = draw.draw(st.integers(0, len(written)))
    outcome = outcome_of(lambda: parse_batch(bytes(written[:cut]), "batch"))
    assert outcome.startswith("batch: expected") if isinstance(outcome, str) else len(outcome[0]) == len(outcome[1])


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_value_or_the_named_error(data: bytes) -> None:
    outcome = outcome_of(lambda: (read_pickle(b"\x80\x02" + data, "file"),))
    assert isinstance(outcome, tuple) or outcome.startswith("file: expected a CIFAR pickle")


@pytest.mark.parametrize("label_bytes", [1, 2])
def test_binary_records(label_bytes: int) -> None:
    records = b"".join(
        (b"\x09" if label_bytes == 2 else b"") + struct.pack("B", label) + pixels.tobytes()
        for label, pixels in zip(LABELS, PIXELS, strict=True)
    )
    images, labels = parse_records(records, label_bytes, "data.bin")
    assert (images.reshape(5, -1) == PIXELS).all()
    assert labels.tolist() == LABELS
    with pytest.raises(DataError, match=r"data\.bin: expected whole records of 3,07[34] bytes"):
        parse_records(records[:-1], label_bytes, "data.bin")
    with pytest.raises(DataError, match="0 bytes"):
        parse_records(b"", label_bytes, "data.bin")


def test_class_names() -> None:
    assert parse_class_names(pickle.dumps({b"fine_label_names": [b"apple", b"bee"]}, protocol=2), "meta") == ("apple", "bee")
    assert parse_class_lines(b"cat\ndog\n\n", "batches.meta.txt") == ("cat", "dog")
    for broken in (b"", b"\xff\xfe"):
        with pytest.raises(DataError, match=r"names\.txt: expected"):
            parse_class_lines(broken, "names.txt")
    with pytest.raises(DataError, match="label_names"):
        parse_class_names(pickle.dumps({"names": []}, protocol=2), "meta")
