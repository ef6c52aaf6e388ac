"""The two formats of CIFAR-10 and CIFAR-100: Python pickles and bare binary records.

Both hold pictures of 3 x 32 x 32 unsigned bytes, planes of red, green and blue in C order (https://www.cs.toronto.edu/~kriz/cifar.html).
The pickles are never given to Python's pickle module, which would run what a file asks for: the few instructions that such files hold are
interpreted here, every other one ends the reading. No instruction here makes more bytes than it reads, and their number is bounded.
"""

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numpy as np

from torchnin.data.errors import broken_file

PICTURE_SHAPE = (3, 32, 32)
_PICTURE_BYTES = 3 * 32 * 32
_FETCH_AGAIN = "Fetch the file again."
# CIFAR-100's train file, the largest, has some 300,000; each can cost a hundred bytes of memory, so this bounds that as well.
_MAX_INSTRUCTIONS = 2_000_000


def parse_batch(data: bytes, path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures, uint8 of shape (N, 3, 32, 32), and labels, int64 of shape (N,), of a pickled batch (CIFAR-100: the fine labels).

    The pictures lie in `data`, where they cannot be written to.
    Raises DataError where the file holds anything else; `path` is for the message.
    """
    batch = _as_mapping(read_pickle(data, path), path)
    pixels = batch.get("data")
    labels = batch.get("fine_labels", batch.get("labels"))
    if not isinstance(pixels, PickledArray) or pixels.shape[1:] != (_PICTURE_BYTES,):
        found = f"an array of shape {pixels.shape}" if isinstance(pixels, PickledArray) else f"the keys {_listed_keys(batch)}"
        raise broken_file(path, expected='an array "data" of shape (N, 3072)', found=found, next_step=_FETCH_AGAIN)
    if not isinstance(labels, list) or not all(type(label) is int for label in labels):
        expected = 'a list of whole numbers "labels" or "fine_labels"'
        raise broken_file(path, expected=expected, found=f"the keys {_listed_keys(batch)}", next_step=_FETCH_AGAIN)
    if len(labels) != pixels.shape[0]:
        raise broken_file(path, expected=f"{pixels.shape[0]:,} labels, one a picture", found=f"{len(labels):,}", next_step=_FETCH_AGAIN)
    return pixels.to_numpy().reshape(-1, *PICTURE_SHAPE), np.array(labels, dtype=np.int64)


def parse_class_names(data: bytes, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The class names of a pickled batches.meta (CIFAR-10) or meta (CIFAR-100, the fine ones). Raises DataError where there are none."""
    meta = _as_mapping(read_pickle(data, path), path)
    names = meta.get("fine_label_names", meta.get("label_names"))
    if not isinstance(names, list) or not names or not all(isinstance(name, bytes | str) for name in names):
        expected = 'a list of names "label_names" or "fine_label_names"'
        raise broken_file(path, expected=expected, found=f"the keys {_listed_keys(meta)}", next_step=_FETCH_AGAIN)
    return tuple(_text(name) for name in names)


def parse_class_lines(data: bytes, path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The class names of a text file with one a line: batches.meta.txt or fine_label_names.txt. Raises DataError where there are none."""
    try:
        names = tuple(line.strip() for line in data.decode().splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise broken_file(path, expected="text in UTF-8", found=str(error), next_step=_FETCH_AGAIN) from error
    if not names:
        raise broken_file(path, expected="one class name a line", found="an empty file", next_step=_FETCH_AGAIN)
    return names


def parse_records(data: bytes, label_bytes: int, path: str | os.PathLike[str]) -> tuple[np.ndarray, np.ndarray]:
    """Pictures and labels as parse_batch gives them, of a binary file.

    `label_bytes` is 1 (CIFAR-10) or 2 (CIFAR-100: the coarse label, then the fine one, which is taken).
    Raises DataError where the file is empty or no whole number of records; `path` is for the message.
    """
    record = label_bytes + _PICTURE_BYTES
    if not data or len(data) % record:
        found = f"{len(data):,} bytes ({len(data) // record:,} records and {len(data) % record:,} bytes)"
        raise broken_file(path, expected=f"whole records of {record:,} bytes", found=found, next_step=_FETCH_AGAIN)
    table = np.frombuffer(data, dtype=np.uint8).reshape(-1, record)
    return table[:, label_bytes:].reshape(-1, *PICTURE_SHAPE), table[:, label_bytes - 1].astype(np.int64)


class _Global(Enum):
    """The names that CIFAR's pickles refer to. Nothing is imported for them: each stands for what is done here."""

    RECONSTRUCT = "numpy.core.multiarray _reconstruct"
    ARRAY = "numpy ndarray"
    DTYPE = "numpy dtype"
    ENCODE = "_codecs encode"


_GLOBALS = {item.value: item for item in _Global} | {"numpy._core.multiarray _reconstruct": _Global.RECONSTRUCT}


@dataclass
class PickledArray:
    """An array of unsigned bytes as a pickle tells it: the bytes still lie in the file's memory."""

    shape: tuple[int, ...] = ()
    data: memoryview | bytes = b""

    def to_numpy(self) -> np.ndarray:
        """The array, in the file's memory, where it cannot be written to."""
        return np.frombuffer(self.data, dtype=np.uint8).reshape(self.shape)


class _ByteType:
    """numpy's dtype of unsigned bytes, the only one that is admitted."""


class _Mark:
    """Where a list of items starts on the stack."""


_MARK = _Mark()


class _RefusedError(ValueError):
    """The pickle holds what CIFAR's files do not."""


def read_pickle(data: bytes, path: str | os.PathLike[str]) -> object:
    """Interpret a pickle that holds dicts, lists, tuples, bytes, text, whole numbers and arrays of unsigned bytes.

    Raises DataError on anything else, naming the position in the file; nothing that a file names is ever imported or called.
    """
    machine = _Machine(data)
    try:
        return machine.run()
    except (_RefusedError, IndexError, KeyError, struct.error, UnicodeError) as error:
        found = str(error) if isinstance(error, _RefusedError) else f"a broken or truncated pickle ({type(error).__name__})"
        next_step = "Nothing of it was executed. Fetch the file again."
        raise broken_file(path, expected="a CIFAR pickle", found=f"{found} at byte {machine.position:,}", next_step=next_step) from error


class _Machine:
    """The stack machine of pickle protocols 2 to 4, without the instructions that CIFAR's files do not need."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.view = memoryview(data)
        self.position = 0
        self.stack: list = []
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        actions, data, stack, memo = _ACTIONS, self.data, self.stack, self.memo
        for _ in range(_MAX_INSTRUCTIONS):
            code = data[self.position]
            self.position += 1
            # Nine in ten instructions are a label, a file name's place in the memo, or a file name: they take the short way.
            if code == 0x4B:  # BININT1
                stack.append(data[self.position])
                self.position += 1
            elif code == 0x72:  # LONG_BINPUT
                memo[int.from_bytes(self.take(4), "little")] = stack[-1]
            elif code == 0x55:  # SHORT_BINSTRING
                self.position += 1
                stack.append(bytes(self.take(data[self.position - 1])))
            elif code == 0x2E:  # STOP
                return stack.pop()
            elif code in actions:
                actions[code](self)
            else:
                raise _RefusedError(f"the instruction {code:#04x}, which CIFAR's files do not hold,")
        raise _RefusedError(f"more than {_MAX_INSTRUCTIONS:,} instructions")

    def take(self, size: int) -> memoryview:
        piece = self.view[self.position : self.position + size]
        if len(piece) != size:
            raise IndexError(size)
        self.position += size
        return piece

    def number(self, form: str, size: int) -> int:
        return int(struct.unpack(form, self.take(size))[0])

    def line(self) -> str:
        # A name longer than this is none of ours; the bound keeps a file without line ends from being searched to its end.
        end = bytes(self.view[self.position : self.position + 128]).find(b"\n")
        if end < 0:
            raise _RefusedError("a name without an end")
        text = bytes(self.take(end)).decode("ascii")
        self.position += 1
        return text

    def items_to_mark(self) -> list:
        for index in range(len(self.stack) - 1, -1, -1):
            if self.stack[index] is _MARK:
                items = self.stack[index + 1 :]
                del self.stack[index:]
                return items
        raise _RefusedError("a list of items without its start")

    def push(self, value: object) -> None:
        self.stack.append(value)

    def push_global(self, module: str, name: str) -> None:
        wanted = _GLOBALS.get(f"{module} {name}")
        if wanted is None:
            raise _RefusedError(f"a call for {module}.{name}, which CIFAR's files do not make,")
        self.push(wanted)

    def put(self, index: int) -> None:
        self.memo[index] = self.stack[-1]

    def append(self, items: list) -> None:
        if type(self.stack[-1]) is not list:
            raise _RefusedError("items for something that is no list")
        self.stack[-1].extend(items)

    def set_items(self, items: list) -> None:
        target = self.stack[-1]
        # Only text may be a key: hashing a deeply nested tuple would overrun the interpreter's stack.
        if type(target) is not dict or len(items) % 2 or not all(type(key) in (bytes, str) for key in items[::2]):
            raise _RefusedError("entries that do not belong into a dict")
        target.update(zip(items[::2], items[1::2], strict=True))

    def reduce(self) -> None:
        arguments, called = self.stack.pop(), self.stack.pop()
        if called is _Global.RECONSTRUCT and type(arguments) is tuple and arguments[:1] == (_Global.ARRAY,):
            self.push(PickledArray())
        elif called is _Global.DTYPE and type(arguments) is tuple and arguments[:1] in (("u1",), (b"u1",)):
            self.push(_ByteType())
        elif called is _Global.ENCODE and type(arguments) is tuple and len(arguments) == 2 and type(arguments[0]) is str:
            # How Python 3 writes bytes under protocol 2.
            self.push(arguments[0].encode("latin-1"))
        else:
            raise _RefusedError("a call that CIFAR's files do not make")

    def build(self) -> None:
        state, target = self.stack.pop(), self.stack[-1]
        if type(target) is _ByteType:
            return
        if type(target) is not PickledArray or type(state) is not tuple or len(state) != 5:
            raise _RefusedError("a state for something that is no array")
        _, shape, dtype, fortran, content = state
        if type(dtype) is not _ByteType or fortran is not False or type(content) not in (bytes, memoryview):
            raise _RefusedError("an array of something else than unsigned bytes in C order")
        if type(shape) is not tuple or not all(type(axis) is int and axis >= 0 for axis in shape) or len(shape) > 4:
            raise _RefusedError("an array without a valid shape")
        count = 1
        for axis in shape:
            count *= axis
        if count != len(content):
            raise _RefusedError(f"an array of shape {shape} with {len(content):,} bytes")
        target.shape, target.data = shape, content

    def bytes_of(self, size: int) -> None:
        if size < 0:
            raise _RefusedError("text of negative length")
        piece = self.take(size)
        # Pixels stay where they are; names become bytes of their own, so that they can be keys.
        self.push(piece if size > 4096 else bytes(piece))

    def text_of(self, size: int) -> None:
        self.push(str(self.take(size), "utf-8", "surrogatepass"))

    def tuple_of(self, size: int) -> None:
        if len(self.stack) < size:
            raise IndexError(size)
        items = tuple(self.stack[-size:])
        del self.stack[-size:]
        self.push(items)


# Python's pickletools documents each instruction; the letters are theirs.
_ACTIONS: dict[int, Callable[[_Machine], object]] = {
    0x80: lambda m: m.take(1),  # PROTO
    0x95: lambda m: m.take(8),  # FRAME
    ord("("): lambda m: m.push(_MARK),
    ord("}"): lambda m: m.push({}),
    ord("]"): lambda m: m.push([]),
    ord(")"): lambda m: m.push(()),
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("M"): lambda m: m.push(m.number("<H", 2)),
    ord("J"): lambda m: m.push(m.number("<i", 4)),
    ord("T"): lambda m: m.bytes_of(m.number("<i", 4)),
    ord("C"): lambda m: m.bytes_of(m.number("<B", 1)),
    ord("B"): lambda m: m.bytes_of(m.number("<I", 4)),
    ord("X"): lambda m: m.text_of(m.number("<I", 4)),
    0x8C: lambda m: m.text_of(m.number("<B", 1)),
    ord("q"): lambda m: m.put(m.number("<B", 1)),
    0x94: lambda m: m.put(len(m.memo)),
    ord("h"): lambda m: m.push(m.memo[m.number("<B", 1)]),
    ord("j"): lambda m: m.push(m.memo[m.number("<I", 4)]),
    ord("t"): lambda m: m.push(tuple(m.items_to_mark())),
    0x85: lambda m: m.tuple_of(1),
    0x86: lambda m: m.tuple_of(2),
    0x87: lambda m: m.tuple_of(3),
    ord("a"): lambda m: m.append([m.stack.pop()]),
    ord("e"): lambda m: m.append(m.items_to_mark()),
    ord("s"): lambda m: m.set_items([m.stack.pop(-2), m.stack.pop()]),
    ord("u"): lambda m: m.set_items(m.items_to_mark()),
    ord("c"): lambda m: m.push_global(m.line(), m.line()),
    0x93: lambda m: m.push_global(*_two_names(m)),
    ord("R"): lambda m: m.reduce(),
    ord("b"): lambda m: m.build(),
}


def _two_names(machine: _Machine) -> tuple[str, str]:
    name, module = machine.stack.pop(), machine.stack.pop()
    if type(name) is not str or type(module) is not str:
        raise _RefusedError("a call for something without a name")
    return module[:128], name[:128]


def _as_mapping(value: object, path: str | os.PathLike[str]) -> dict[str, object]:
    if type(value) is not dict:
        raise broken_file(path, expected="a dict", found=f"a {type(value).__name__}", next_step=_FETCH_AGAIN)
    return {_text(key): item for key, item in value.items()}


def _text(name: bytes | str) -> str:
    return name if isinstance(name, str) else name.decode("utf-8", "replace")


def _listed_keys(mapping: dict[str, object]) -> str:
    return ", ".join(repr(key[:40]) for key in list(mapping)[:10]) or "none"
