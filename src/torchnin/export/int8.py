"""Calibrated static quantisation to 8 bits, and what it costs and gains, measured."""

import dataclasses
import logging
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from torchnin.data import DatasetSplits, ImageDataset
from torchnin.exported import INPUT, ExportedClassifier, import_onnxruntime

if TYPE_CHECKING:
    from onnx import ModelProto

ACCEPTED_LOSS = 0.005
"""By how much test accuracy may fall, as a fraction of one, before quantisation is refused."""
_CALIBRATION_PICTURES = 512
_BATCH = 64
_QUANTISED = ["Conv", "Gemm", "MatMul", "MaxPool", "AveragePool"]
_ROUNDS, _SECONDS = 9, 3.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Int8:
    """A quantised classifier beside the one of 32-bit floats that it was made from; both run in onnxruntime on this machine."""

    accuracy: float
    """Of the 8-bit file on the test pictures, as a fraction of one."""
    float_accuracy: float
    """Of the float file on the same pictures."""
    agreement: float
    """Share of the test pictures that both give the same class."""
    largest_difference: float
    """Of any probability between the 8-bit file and `predict`, over pictures of several sizes and batch sizes."""
    test_pictures: int
    """How many pictures accuracy was measured on."""
    calibration_pictures: int
    """How many train or validation pictures decided the ranges of the 8-bit values."""
    num_bytes: int
    """Size of the 8-bit file."""
    float_num_bytes: int
    """Size of the float file."""
    pictures_per_second: float
    """Of the 8-bit file, in batches of `batch_size` of the test pictures; the median of some rounds, taken in turns with the float file."""
    float_pictures_per_second: float
    """Of the float file."""
    batch_size: int
    """Pictures in a batch while speed was measured."""

    @property
    def loss(self) -> float:
        """By how much the test accuracy fell; below zero where it rose."""
        return self.float_accuracy - self.accuracy


def calibration_pictures(data: DatasetSplits) -> ImageDataset:
    """Up to 512 pictures that decide the ranges, the classes in their shares: of the validation split, or else of train; never of test."""
    source = data.validation or data.train
    share = _CALIBRATION_PICTURES / len(source)
    return source if share >= 1 else source.split(share, seed=0)[1]


def quantise(model: "ModelProto", calibration: ImageDataset) -> bytes:
    """The same graph computing in 8 bits: weights per channel, values by the ranges that the calibration pictures reach.

    Weights keep 7 of their 8 bits, so that processors without VNNI, whose 16-bit sums would overflow, answer as all others do.
    """
    import_onnxruntime()
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder, _quiet_quantiser():
        plain, shaped, small = (Path(folder) / name for name in ("float.onnx", "shaped.onnx", "int8.onnx"))
        onnx.save(model, plain)
        quant_pre_process(str(plain), str(shaped), skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            shaped,
            small,
            _reader(calibration),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTISED,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            reduce_range=True,
        )
        return small.read_bytes()


def measure(small: bytes, plain: bytes, test: ImageDataset, *, num_calibration: int, largest_difference: float) -> Int8:
    """Accuracy, size and speed of the 8-bit file beside the float file's."""
    answers = [_labels(ExportedClassifier(model), test) for model in (small, plain)]
    batch = test.images[: 4 * _BATCH]
    rates = _rates([ExportedClassifier(model) for model in (small, plain)], batch)
    return Int8(
        accuracy=float((answers[0] == test.labels).mean()),
        float_accuracy=float((answers[1] == test.labels).mean()),
        agreement=float((answers[0] == answers[1]).mean()),
        largest_difference=largest_difference,
        test_pictures=len(test),
        calibration_pictures=num_calibration,
        num_bytes=len(small),
        float_num_bytes=len(plain),
        pictures_per_second=rates[0],
        float_pictures_per_second=rates[1],
        batch_size=len(batch),
    )


def _labels(exported: ExportedClassifier, test: ImageDataset) -> np.ndarray:
    return np.concatenate(
        [exported.run(np.ascontiguousarray(test.images[start : start + _BATCH])).argmax(1) for start in range(0, len(test), _BATCH)]
    )


def _rates(files: Sequence[ExportedClassifier], batch: np.ndarray) -> list[float]:
    """Pictures per second of each file: all take turns, so that whatever else the machine does meets all of them alike."""
    batch = np.ascontiguousarray(batch)
    seconds: list[list[float]] = [[] for _ in files]
    for exported in files:
        exported.run(batch)
    begun = time.perf_counter()
    while len(seconds[0]) < 3 or (len(seconds[0]) < _ROUNDS and time.perf_counter() - begun < _SECONDS):
        for exported, found in zip(files, seconds, strict=True):
            start = time.perf_counter()
            exported.run(batch)
            found.append(time.perf_counter() - start)
    return [len(batch) / statistics.median(found) for found in seconds]


def _reader(calibration: ImageDataset) -> "Iterator[dict[str, np.ndarray]]":
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """Batches of the calibration pictures, as onnxruntime asks for them."""

        def __init__(self) -> None:
            self.batches = iter(range(0, len(calibration), _BATCH))

        def get_next(self) -> dict[str, np.ndarray] | None:
            start = next(self.batches, None)
            return None if start is None else {INPUT: np.ascontiguousarray(calibration.images[start : start + _BATCH])}

    return Reader()


@contextmanager
def _quiet_quantiser() -> Iterator[None]:
    """The quantiser reports its steps to the root logger, which prints them where nobody set it up."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)
