"""An exported classifier: the file that `export_onnx` wrote, run by onnxruntime. Imports no torch."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import numpy as np

from torchnin.data.errors import DataError
from torchnin.data.pictures import PictureSource, decode_picture
from torchnin.files import exists, in_command, is_folder
from torchnin.prediction import LARGE_PIXELS, MOST_AHEAD, Predictor, usual_batch

FORMAT = "torchnin onnx 1"
"""What an exported classifier says of itself under `format` in its metadata."""
INPUT, PROBABILITIES, CLASS_MAPS = "pictures", "probabilities", "class_maps"
"""Names of the graph's input and outputs; networks with a fully connected head have no class maps."""

# Pixels that go through the network at once: bounds the memory.
_PIXELS_PER_BATCH = 64 * 224 * 224
_LOG_FATAL_ONLY = 4  # errors are raised, and told once


class ExportedClassifier(Predictor[np.ndarray]):
    """A classifier out of an .onnx file: class names and preprocessing travel in it, and torch is not needed.

    `predict`, `predict_each` and `predict_or_error` are those of `Classifier`; `run` gives the arrays that the graph gives. It can be
    copied and pickled, for which it keeps the file's bytes.

    Args:
        source: the path of a file that `Classifier.export_onnx` or `nin export` wrote, or its bytes.
        threads: how many threads one run uses; None takes one for each core.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is an ONNX model that was not written by torchnin.
        DataError: the file is broken.
        ModuleNotFoundError: onnxruntime is not installed.
    """

    def __init__(self, source: str | os.PathLike[str] | bytes, *, threads: int | None = None) -> None:
        name = "the exported classifier" if isinstance(source, bytes) else os.fspath(source)
        self._name, self._threads = name, threads
        self._model = source if isinstance(source, bytes) else _read(Path(source))
        self._session = open_session(self._model, name, threads)
        self.metadata: dict[str, str] = _metadata(self._session, name)
        """What the file says of itself, as text: `class_names`, `preprocessing` and `network` are JSON."""
        if self.metadata.get("format") != FORMAT:
            raise ValueError(
                f"{name} is an ONNX model, but not one that nin export wrote: its metadata has format {self.metadata.get('format')!r}, "
                f"and what is read here is {FORMAT!r}; export a classifier with nin export CLASSIFIER --out {in_command(Path(name).name)}"
            )
        try:
            names, preprocessing = (json.loads(self.metadata[key]) for key in ("class_names", "preprocessing"))
            self._channels, self._height, self._width = (int(preprocessing[key]) for key in ("channels", "height", "width"))
            if not (isinstance(names, list) and names and min(self._channels, self._height, self._width) > 0):
                raise ValueError("it names no classes, or no size")
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise DataError(f"{name}: its metadata are not those of an exported classifier: {error}. Export it again.") from error
        self.class_names = tuple(str(each) for each in names)
        self.has_class_maps: bool = CLASS_MAPS in {output.name for output in self._session.get_outputs()}
        """Whether `class_maps` gives anything: a fully connected head leaves no maps whose means are the logits."""

    def __repr__(self) -> str:
        return f"ExportedClassifier({len(self.class_names)} classes, {self._channels}x{self._height}x{self._width})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_session"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._session = open_session(self._model, self._name, self._threads)

    def run(self, pictures: np.ndarray) -> np.ndarray:
        """Probabilities `(n, num_classes)`, float32, of pictures `(n, channels, h, w)`, uint8, of any size.

        Raises:
            ValueError: the pictures are no such array.
        """
        return self._run(PROBABILITIES, pictures)

    def class_maps(self, pictures: np.ndarray) -> np.ndarray:
        """Class maps `(n, num_classes, rows, columns)`, float32, whose means are the logits.

        Raises:
            ValueError: the network's head is fully connected, so its file has none; or the pictures are not as for `run`.
        """
        if not self.has_class_maps:
            raise ValueError("this network has a fully connected head, so no map's mean is a logit, and its file gives no class maps")
        return self._run(CLASS_MAPS, pictures)

    def _run(self, output: str, pictures: np.ndarray) -> np.ndarray:
        if not isinstance(pictures, np.ndarray) or pictures.dtype != np.uint8 or pictures.ndim != 4 or pictures.shape[1] != self._channels:
            given = f"{pictures.dtype} {pictures.shape}" if isinstance(pictures, np.ndarray) else f"of type {type(pictures).__name__}"
            raise ValueError(
                f"pictures is {given}; expected uint8 (n, {self._channels}, h, w), 0 to 255; predict takes pictures of any form"
            )
        try:
            values: np.ndarray = self._session.run([output], {INPUT: pictures})[0]
        # A file that was changed may be a sound graph, and yet not one that computes; what onnxruntime raises then can be anything.
        except Exception as error:
            reason = _one_line(error)
            raise DataError(f"{self._name}: onnxruntime could not run it on pictures of shape {pictures.shape}: {reason}") from error
        wanted = (len(pictures), len(self.class_names))
        if values.dtype != np.float32 or values.shape[:2] != wanted or (output == PROBABILITIES and values.ndim != 2):
            found = f"{values.dtype} of shape {values.shape}"
            raise DataError(f"{self._name}: expected {output} of shape {wanted}, one a class, found {found}. Export the classifier again.")
        return values

    def decode(self, picture: PictureSource) -> np.ndarray:
        """Pixels `(channels, h, w)` at the picture's own size; of a large one at once its probabilities `(num_classes,)`."""
        pixels = decode_picture(picture, self._channels)
        return pixels if pixels[0].size <= LARGE_PIXELS else self.run(pixels[None])[0]

    def _decoded_whole(self, pictures: Any) -> Sequence[np.ndarray] | None:
        return cast("Sequence[np.ndarray] | None", usual_batch(pictures, self._channels))

    def _probabilities(self, decoded: Sequence[np.ndarray]) -> np.ndarray:
        if isinstance(decoded, np.ndarray):
            return self.run(np.ascontiguousarray(decoded))
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for place, item in enumerate(decoded):
            by_shape.setdefault(item.shape, []).append(place)
        rows = np.empty((len(decoded), len(self.class_names)))
        for shape, places in by_shape.items():
            together = np.stack([decoded[place] for place in places])
            rows[places] = together if len(shape) == 1 else self.run(together)
        return rows

    def _batch_size(self) -> int:
        return max(1, min(MOST_AHEAD, _PIXELS_PER_BATCH // (self._height * self._width)))


def _metadata(session: Any, name: str) -> dict[str, str]:
    try:
        return dict(session.get_modelmeta().custom_metadata_map)
    except UnicodeDecodeError as error:
        raise DataError(f"{name}: its metadata are not those of an exported classifier: {error}. Export it again.") from error


def _read(path: Path) -> bytes:
    if not exists(path):
        writes = f"nin export CLASSIFIER --out {in_command(path)} writes one"
        raise FileNotFoundError(f"{path} is no exported classifier: there is no such file; {writes}")
    if is_folder(path):
        raise ValueError(f"{path} is a folder; expected a file that nin export wrote")
    return path.read_bytes()


def import_onnxruntime() -> ModuleType:
    """onnxruntime, which reports nothing to its makers: with version 1.32 its wheels do so by default, and keep a number for the machine.

    Of two names of the variable, older versions read the one and newer ones the other, when they are imported. Who has set them has chosen.

    Raises:
        ModuleNotFoundError: it is not installed.
    """
    for name in ("ORT_DISABLE_TELEMETRY", "ORT_TELEMETRY_DISABLED"):
        os.environ.setdefault(name, "1")
    import onnxruntime

    return onnxruntime


def open_session(model: bytes, name: str, threads: int | None = None) -> Any:
    """An onnxruntime session of a model, on the host, in bounded memory.

    Args:
        model: the bytes of an .onnx file.
        name: what it is called where it is broken.
        threads: how many one run uses; None takes one for each core.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
        DataError: the model is broken.
    """
    try:
        onnxruntime = import_onnxruntime()
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"running an exported classifier needs onnxruntime ({error}): pip install 'torchnin[onnx]'", name=error.name
        ) from error
    options = onnxruntime.SessionOptions()
    options.log_severity_level = _LOG_FATAL_ONLY
    options.intra_op_num_threads = threads or _cores()
    options.enable_mem_pattern = False  # a plan of the memory would be kept for every size of picture that was ever met
    # Threads that wait by spinning take the cores from everything else, the decoding of the next pictures included: within a run they
    # spin, where each waits for the others' share of a layer, and after it they sleep.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    # The numbers are in the file: one that names other files for them gets none, wherever they lie.
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    try:
        # There is no other provider to fall back to, and onnxruntime would print on standard output that it does.
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"], enable_fallback=0)
    # onnxruntime's errors share no class of their own, and a broken file raises any of them.
    except Exception as error:
        raise DataError(
            f"{name}: expected an exported classifier, found what onnxruntime does not read: {_one_line(error)}. Export it again."
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _cores() -> int:
    """The cores that this process may use: fewer than the machine's in a container, where onnxruntime's own count is wrong."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
