"""export_onnx: build, check, perhaps quantise, and only then write."""

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torchnin.data import DatasetSplits, Preprocessing
from torchnin.export.check import TOLERANCE, Check, ExportError, Predict, compare, require_agreement
from torchnin.export.graph import OPSET, build, describe, require_exporter
from torchnin.export.int8 import ACCEPTED_LOSS, Int8, calibration_pictures, measure, quantise
from torchnin.exported import CLASS_MAPS, FORMAT, INPUT, PROBABILITIES
from torchnin.files import exists, path_of, require_place, write_atomically
from torchnin.models import NiN

_SUFFIX = ".onnx"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """What was written, and how it was checked. `str()` prints it, `to_dict()` is plain for JSON."""

    path: Path
    """The file."""
    num_bytes: int
    """Its size."""
    check: Check
    """How far the graph in 32-bit floats, before any quantisation, is from `predict`."""
    int8: Int8 | None
    """What quantisation cost and gained, where it was asked for."""
    tensors: dict[str, str]
    """Type and shape of the input and of each output, by name."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values. Figures are fractions of one."""
        values = dataclasses.asdict(self)
        values |= {"path": str(self.path), "precision": "float32" if self.int8 is None else "int8", "opset": OPSET, "tolerance": TOLERANCE}
        if self.int8 is None:
            del values["int8"]
        return values

    def __str__(self) -> str:
        width = max(map(len, self.tensors))
        check = self.check
        smallest, largest = (by(check.sizes, key=lambda size: size[0] * size[1]) for by in (min, max))
        maps = (
            "" if check.largest_map_difference is None else f", of the class maps {check.largest_map_difference:.2g} of their largest value"
        )
        lines = [
            f"{self.path}: {self.num_bytes:,} bytes, {'float32' if self.int8 is None else 'int8'}, ONNX opset {OPSET}",
            *(f"  {name:<{width}}  {what}" for name, what in self.tensors.items()),
            f"{'checked' if self.int8 is None else 'before quantisation checked'} in onnxruntime beside predict: {check.num_pictures} "
            f"pictures of {len(check.sizes)} sizes from {smallest[0]}x{smallest[1]} to {largest[0]}x{largest[1]}, "
            f"{', '.join(map(str, check.batch_sizes))} at once",
            f"largest difference of a probability {check.largest_difference:.2g}{maps}; accepted is {TOLERANCE:g}",
        ]
        return "\n".join(lines if self.int8 is None else [*lines, *_beside(self.int8)])


def export_onnx(
    network: NiN,
    preprocessing: Preprocessing,
    class_names: Sequence[str],
    path: str | os.PathLike[str],
    predict: Predict,
    *,
    facts: Mapping[str, Any],
    pictures: Sequence[np.ndarray] | None = None,
    int8: DatasetSplits | None = None,
    accept_accuracy_loss: bool = False,
) -> Export:
    """Write a classifier as an .onnx file that answers as `predict` does, to 1e-4 of a probability.

    The file is run in onnxruntime before it is written, in memory: nothing stands at `path` but what was checked, and what stood
    there before stays if anything fails.

    Args:
        network: the trained network, on the host.
        preprocessing: becomes nodes of the graph.
        class_names: the name of each class, in the order of the logits; they travel in the metadata.
        path: the file, ending in .onnx; its folder is made where it is missing, an exported classifier there is replaced.
        predict: what the answers are compared with.
        facts: further entries of the metadata, such as the accuracy.
        pictures: to check with, uint8 (channels, h, w); None takes pictures of Fashion-MNIST.
        int8: data with the classifier's classes and channels. The file computes in 8 bits then: up to 512 validation or train
            pictures decide the ranges, accuracy is measured on the test pictures.
        accept_accuracy_loss: write the 8-bit file also where its accuracy is lower by more than half a point.

    Raises:
        ModuleNotFoundError: the extra `onnx` is not installed.
        ValueError: the path does not end in .onnx, is a folder, or a file that is no exported classifier.
        ExportError: the graph answers otherwise than `predict`, or quantisation costs more accuracy than is accepted.
        OSError: the folder cannot be written to, or the disk is full.
    """
    target = require_writable(path_of(path, "path"))
    require_exporter()
    model = build(network, preprocessing, class_names, {"precision": "float32", **facts})
    plain = _bytes(model)
    check = compare(plain, network, preprocessing, predict, pictures)
    require_agreement(check)
    content, quantised = plain, None
    if int8 is not None:
        calibration = calibration_pictures(int8)
        small = quantise(model, calibration)
        beside = compare(small, network, preprocessing, predict, pictures)
        quantised = measure(small, plain, int8.test, num_calibration=len(calibration), largest_difference=beside.largest_difference)
        _require_accuracy(quantised, accept_accuracy_loss)
        content = _described(small, quantised, int8.name)
        quantised = dataclasses.replace(quantised, num_bytes=len(content))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, content)
    return Export(path=target, num_bytes=len(content), check=check, int8=quantised, tensors=_tensors(model))


def require_writable(path: Path) -> Path:
    """Raise now what writing would raise after the work.

    Raises:
        ValueError: the path does not end in .onnx, is a folder, or a file that is no exported classifier.
        OSError: nothing can be written into its folder, or that cannot be made.
    """
    if path.suffix.lower() != _SUFFIX:
        raise ValueError(f"the file {str(path)!r} ends in {path.suffix!r}; an exported classifier's name ends in {_SUFFIX}")
    require_place(path, "model.onnx")
    if exists(path) and path.stat().st_size and FORMAT.encode() not in path.read_bytes():
        raise ValueError(f"{path} holds something else than an exported classifier; nothing there is touched, choose another --out")
    return path


def _require_accuracy(found: Int8, accept: bool) -> None:
    # A difference of two shares of the pictures: what floats add to it lies far below one picture.
    if not round(found.loss, 9) <= ACCEPTED_LOSS and not accept:
        raise ExportError(
            f"in 8 bits the test accuracy is {found.accuracy:.4f}, in 32-bit floats {found.float_accuracy:.4f} ({found.test_pictures:,} "
            f"pictures): more than {100 * ACCEPTED_LOSS:g} points lower, so no file was written; "
            "--accept-accuracy-loss (accept_accuracy_loss=True) writes it all the same"
        )


def _described(small: bytes, found: Int8, data: str) -> bytes:
    import onnx

    model = onnx.load_from_string(small)
    describe(
        model,
        {
            "precision": "int8",
            "data": data,
            "test_accuracy": found.accuracy,
            "test_accuracy_interval": None,  # that of the float network
            "test_pictures": found.test_pictures,
            "float32_test_accuracy": found.float_accuracy,
        },
    )
    return _bytes(model)


def _bytes(model: Any) -> bytes:
    """Without chance in them: the same classifier gives the same file."""
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def _tensors(model: Any) -> dict[str, str]:
    def described(tensor: Any, kind: str) -> str:
        sides = [side.dim_param or str(side.dim_value) for side in tensor.type.tensor_type.shape.dim]
        return f"{kind} ({', '.join(sides)})"

    kinds = {INPUT: "uint8", PROBABILITIES: "float32", CLASS_MAPS: "float32"}
    return {tensor.name: described(tensor, kinds[tensor.name]) for tensor in (*model.graph.input, *model.graph.output)}


def _beside(found: Int8) -> list[str]:
    rows = [
        ("", "float32", "int8", ""),
        (
            "test accuracy",
            f"{found.float_accuracy:.4f}",
            f"{found.accuracy:.4f}",
            f"{found.test_pictures:,} pictures; the same class for {found.agreement:.2%} of them",
        ),
        ("bytes", f"{found.float_num_bytes:,}", f"{found.num_bytes:,}", f"{found.num_bytes / found.float_num_bytes:.2f} of the size"),
        (
            "pictures/s",
            f"{found.float_pictures_per_second:,.0f}",
            f"{found.pictures_per_second:,.0f}",
            f"in onnxruntime on this machine, {found.batch_size} at once",
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [f"{row[0]:<{widths[0]}}  {row[1]:>{widths[1]}}  {row[2]:>{widths[2]}}  {row[3]}".rstrip() for row in rows]
    return [
        *lines,
        f"in 8 bits a probability differs from predict by up to {found.largest_difference:.2g}",
        f"ranges taken from {found.calibration_pictures:,} pictures, none of them a test picture",
    ]
