"""A trained network that never travels without its preprocessing and its class names."""

import copy
import dataclasses
import os
import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_weights
from safetensors.torch import save
from torch import Tensor

from torchnin import export
from torchnin.data import Batches, DataError, DatasetSplits, ImageDataset, Preprocessing, decode_picture
from torchnin.data.dataset import class_names_of
from torchnin.data.paths import is_run
from torchnin.data.pictures import PictureFile, PictureSource
from torchnin.data.readers.arrays import dataset_of
from torchnin.data.resize import resize_pixels
from torchnin.device import DeviceChoice, choose_device, survive_forks
from torchnin.evaluation import Report, evaluate_logits
from torchnin.explanation import BlockMaps, Explanation, PixelVectors, block_maps, explain, feature_maps, pixel_vectors
from torchnin.files import is_folder, path_of
from torchnin.inference import Inference
from torchnin.models import NiN, NiNConfig, Summary, list_weights, summarize, weights_entry
from torchnin.models.described import require_described, unfilled
from torchnin.onnx_network import Backend, choose_backend
from torchnin.prediction import LARGE_PIXELS, Predictor, as_several, usual_batch
from torchnin.saved import WEIGHTS, halved, no_classifier, no_description, place_of, read_saved, require_plain, without_places, write_saved
from torchnin.version import __version__

if TYPE_CHECKING:
    from torchnin.export import Export

# Pictures that go through the network at once, at most, and their pixels: more take memory, and save a processor little (docs/lab-log.md).
_AT_ONCE = {"cpu": (256, 32 * 224 * 224), "other": (1024, 256 * 224 * 224)}


class Classifier(Predictor[np.ndarray]):
    """A network with its preprocessing and class names: predict, evaluate, explain, export_onnx, save.

    Computation is in float32, so that prediction, evaluation and export agree with each other to rounding. `network` is the trained
    one, as it is saved and looked into; predictions come from its folded form, which is made when the first is asked for, and anew
    when its weights have changed. A process that is forked from one that holds a classifier computes with one thread.

    Args:
        network: the trained network; it is put into evaluation mode.
        preprocessing: what was done to the training pictures.
        class_names: the name of each class, different texts, in the order of the logits.
        metadata: plain values that travel along, such as the recipe and the measured accuracy; what JSON holds.
        device: `auto`, or where to compute.
        backend: what computes predictions (`Backend`); looking inside is torch's work always. The answers of two backends differ by
            rounding. With `auto` the first prediction takes half a second longer where onnxruntime is installed, to import it.

    Raises:
        TypeError: network, preprocessing or class names are of another type.
        ValueError: the three contradict each other; a class name is no text, empty or there twice; the network is not in float32;
            metadata hold what JSON does not; there is no such backend, or not for this device.
        ModuleNotFoundError: `onnxruntime` is asked for and the extra `onnx` is not installed.
    """

    def __init__(
        self,
        network: NiN,
        preprocessing: Preprocessing,
        class_names: Sequence[str],
        *,
        metadata: Mapping[str, Any] | None = None,
        device: str = "auto",
        backend: Backend = "auto",
    ) -> None:
        for name, value, kind, wanted in (
            ("network", network, NiN, "a NiN; torchnin.from_notebook makes its weights of those of a notebook's network"),
            ("preprocessing", preprocessing, Preprocessing, "a Preprocessing"),
            ("class_names", class_names, Collection, "the name of each class, in the order of the logits"),
        ):
            if not isinstance(value, kind) or isinstance(value, str | bytes | Set | Mapping):
                raise TypeError(f"{name} is of type {type(value).__name__}; expected {wanted}")
        names = class_names_of(class_names)
        if len(names) != network.num_classes:
            raise ValueError(f"{len(names)} class names for a network of {network.num_classes} classes; one name per class is needed")
        if preprocessing.channels != network.config.in_channels:
            raise ValueError(f"the preprocessing gives {preprocessing.channels} channels; the network takes {network.config.in_channels}")
        network.check_size(preprocessing.height, preprocessing.width)
        others = {tensor.dtype for tensor in network.state_dict().values() if tensor.is_floating_point()} - {torch.float32}
        if others:
            raise ValueError(
                f"the network is in {', '.join(sorted(map(str, others)))}; a classifier computes in float32: give network.float()"
            )
        survive_forks()
        self.choice: DeviceChoice = choose_device(device, "float32")
        self._network = self.choice.place(network).eval()
        self._inference = Inference(self._network, self.choice, backend)
        self.preprocessing = preprocessing
        self.class_names = names
        self.metadata: dict[str, Any] = dict(metadata or {})
        require_plain(self.metadata)

    @property
    def config(self) -> NiNConfig:
        """What the network is made of."""
        return self._network.config

    @property
    def network(self) -> NiN:
        """The trained network, in evaluation mode; from when it is asked for, each prediction looks whether its weights have changed.

        Predictions and evaluations call no hooks that are put on it or on its layers, and what such hooks change has no effect on them;
        what is to have one takes a layer's place.
        """
        self._inference.network_is_known = True
        return self._network

    @property
    def device(self) -> torch.device:
        """Where it computes; `choice` says why."""
        return self.choice.device

    @property
    def backend(self) -> Literal["torch", "onnxruntime"]:
        """What computes predictions: `torch`, or `onnxruntime`, which leaves to torch what torch is faster at."""
        return self._inference.backend

    def __repr__(self) -> str:
        p = self.preprocessing
        return f"Classifier({len(self.class_names)} classes, {p.channels}x{p.height}x{p.width}, {self.device})"

    def decode(self, picture: PictureSource) -> np.ndarray:
        """Pixels `(channels, h, w)`, 0 to 255: at the picture's own size (uint8), or where that is large at the network's (float32).

        Large ones are resized at once because those of many pictures would fill the memory.

        Raises:
            DataError: the picture does not decode; the message names it.
            ValueError: an array has a shape or type that is no picture.
        """
        p = self.preprocessing
        pixels = decode_picture(picture, p.channels)
        _, height, width = pixels.shape
        if height * width <= LARGE_PIXELS:
            return pixels
        # Channel by channel: in float32 a large picture is four times as large.
        return np.concatenate([resize_pixels(torch.from_numpy(plane[None, None]), p.height, p.width)[0].numpy() for plane in pixels])

    def _decoded_whole(self, pictures: Any) -> Sequence[np.ndarray] | None:
        if isinstance(pictures, Tensor) and pictures.dtype == torch.uint8:
            pictures = pictures.detach().cpu().numpy()
        return cast("Sequence[np.ndarray] | None", usual_batch(pictures, self.preprocessing.channels))

    def _probabilities(self, decoded: Sequence[np.ndarray]) -> np.ndarray:
        return self._inference.probabilities(decoded, self.preprocessing)

    def logits(self, pixels: Tensor) -> Tensor:
        """What the network answers before the softmax.

        Args:
            pixels: `(n, channels, h, w)`, 0 to 255, uint8 or floating point, of any size; they are stretched to the network's.

        Returns:
            Logits `(n, num_classes)`, float32 on the host.

        Raises:
            ValueError: the pixels have another number of channels than the network.
        """
        return self._inference.logits(pixels, self.preprocessing)

    def __setstate__(self, state: dict[str, Any]) -> None:
        survive_forks()
        self.__dict__.update(state)

    def evaluate(self, dataset: ImageDataset | tuple[Any, Any], *, tta: Literal["none", "flip"] = "none") -> Report:
        """Accuracy, loss, per-class figures and confusion on a dataset; classes are matched by name.

        Args:
            dataset: labelled pictures; or arrays of them, (pictures, labels), as `load_dataset` takes them.
            tta: test-time augmentation; `flip` takes the mean of the logits of each picture and of its mirror image. Its figures
                are those of another, slower procedure: report them apart.

        Raises:
            DataError: the dataset holds pictures of a class that this classifier does not know, or has other channels.
            ValueError: `tta` is neither.
            TypeError: the dataset is neither.
        """
        if tta not in ("none", "flip"):
            raise ValueError(f"tta is {tta!r}; accepted: 'none', 'flip'")
        dataset = self._matched(dataset_of(dataset, self.class_names))
        if not len(dataset):
            raise DataError("the dataset is empty: expected at least one picture to evaluate on, found none.")
        # They go through memory at their own size.
        batch_size = min(self._batch_size(), self._at_once(*dataset.image_size))
        batches = Batches(dataset, batch_size=batch_size, device=self.device)
        views = (lambda pictures: pictures, lambda pictures: pictures.flip(3))[: 2 if tta == "flip" else 1]
        logits = torch.cat([torch.stack([self.logits(view(batch.pictures)) for view in views]).mean(0) for batch in batches.epoch()])
        return evaluate_logits(logits, torch.tensor(dataset.labels, device="cpu"), self.class_names)

    def summarize(self) -> Summary:
        """The layer table of the network for one picture of the size that it was trained on."""
        p = self.preprocessing
        return summarize(self._network, (1, p.channels, p.height, p.width))

    def explain(self, picture: PictureSource, *, resize: bool = True) -> Explanation:
        """Class maps of one picture: what the network saw where.

        Args:
            picture: a path, the bytes of a file, a PIL image, or uint8 pixels, 0 to 255, `(h, w)`, `(h, w, c)` or `(c, h, w)`.
            resize: False lets the picture in at its own size, so that a larger picture gives larger maps.

        Returns:
            The maps `(num_classes, y, x)`, logits and probabilities, float32 on the host; the picture, and where the maps' values lie
            in it.

        Raises:
            ValueError: the network's head is fully connected, so that no map means anything; or the picture is none, or too small for
                the layers.
            DataError: the picture does not decode; the message names it.
        """
        return explain(self._network, self.preprocessing, self.class_names, self.preprocessing.pixels(picture), resize=resize)

    def feature_maps(self, picture: PictureSource, *, resize: bool = True) -> tuple[tuple[str, Tensor], ...]:
        """What each block makes of one picture.

        Args:
            picture: as for `explain`.
            resize: False lets the picture in at its own size.

        Returns:
            Of each block its name, such as `block 1`, and its output `(channels, y, x)`, float32 on the host; the last is the class maps.

        Raises:
            ValueError: the picture is none, or too small for the layers.
            DataError: the picture does not decode; the message names it.
        """
        return feature_maps(self._network, self.preprocessing, self.preprocessing.pixels(picture), resize=resize)

    def block_maps(self, picture: PictureSource, *, resize: bool = True) -> tuple[BlockMaps, ...]:
        """What every layer of every block makes of one picture, in the order in which they run; the very last are the class maps."""
        return block_maps(self._network, self.preprocessing, self.preprocessing.pixels(picture), resize=resize)

    def block_maps_decoded(self, pixels: np.ndarray) -> tuple[BlockMaps, ...]:
        """`block_maps` of a picture that `decode` gave."""
        return block_maps(self._network, self.preprocessing, torch.from_numpy(pixels))

    @torch.inference_mode()
    def logits_of_maps(self, maps: Tensor) -> Tensor:
        """Logits `(num_classes,)`, float32 on the host, of one picture's class maps `(num_classes, y, x)`, the last of `block_maps`.

        Raises:
            ValueError: the head is fully connected, and for class maps of another size.
        """
        self._network.check_maps(*maps.shape[1:])
        logits: Tensor = self._network.head(maps[None].to(self.device))
        return logits[0].float().cpu()

    def pixel_vectors(self, picture: PictureSource, x: int, y: int, *, resize: bool = True) -> tuple[PixelVectors, ...]:
        """The per-pixel MLP at work: of each block the channels at one pixel, before and after each 1 x 1 convolution.

        Args:
            picture: as for `explain`.
            x: the pixel's column in the picture as it was given, 0 at the left.
            y: its row, 0 at the top.
            resize: False lets the picture in at its own size.

        Returns:
            One entry a block: the place in its maps whose patch of pixels has its middle nearest to the pixel, and of each convolution its
            name and the channels' values `(channels,)` there, float32 on the host.

        Raises:
            ValueError: the pixel lies outside the picture, or the picture is none, or too small for the layers.
            DataError: the picture does not decode; the message names it.
        """
        return pixel_vectors(self._network, self.preprocessing, self.preprocessing.pixels(picture), x, y, resize=resize)

    def save(self, folder: str | os.PathLike[str], *, half: bool = False) -> Path:
        """Write `model.safetensors` and `config.json` into a folder.

        With `half` the convolutions' and the head's weights are stored in float16, all else in float32: half the file, for answers
        that differ in their last digits. They are read back to float32, in which everything is computed.

        A crash at any moment leaves a folder that loads: as the classifier that was there before, or as this one. `config.json` names
        the checksum of its weights, so the moment when it is renamed decides; until the weights have their own name, `load` finds
        them aside as `model.safetensors.new`.

        Returns:
            The folder.

        Raises:
            ValueError: the network is not what its configuration describes, as a pruned one, or one with another activation: it would be
                read as another; metadata hold what JSON does not; with `half`, a weight is too large for float16; the folder is a run's.
                Nothing is written.
            OSError: the disk is full or the folder cannot be written to; the classifier that was there before is untouched.
        """
        target = path_of(folder, "folder")
        # A run's folder has a config.json of its own, which resuming needs, and `load` would go on with the run's classifier.
        if is_run(target) or place_of(target) == target / "classifier":
            raise ValueError(f"{target} is a run with a classifier of its own; save this one into another folder")
        require_described(self._network)
        require_plain(self.metadata)  # before anything is written
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self._network.state_dict().items()}
        if half:
            tensors = {name: halved(name, tensor) for name, tensor in tensors.items()}
        config = {
            "torchnin": __version__,
            "network": self._network.config.to_dict(),
            "preprocessing": self.preprocessing.to_dict(),
            "class_names": list(self.class_names),
            "metadata": self.metadata,
        }
        write_saved(target, config, save(tensors, metadata={"format": "pt"}))
        return target

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, device: str = "auto", backend: Backend = "auto") -> "Classifier":
        """Read what `save` wrote, or the classifier inside a run folder; `device` and `backend` as for a new one.

        Raises:
            ValueError: there is no such folder, or it holds no classifier; there is no such device or backend here.
            ModuleNotFoundError: the backend is not installed.
            DataError: a file of it is broken or does not fit the other.
        """
        choose_backend(backend, choose_device(device, "float32"))  # before anything can be blamed on the files
        given = path_of(folder, "folder")
        path = place_of(given)
        if path is None:
            raise ValueError(no_classifier(given))
        config, weights = read_saved(path)
        try:
            network = unfilled(NiNConfig.from_dict(config["network"]))
            preprocessing = Preprocessing.from_dict(config["preprocessing"])
            names = [str(name) for name in config["class_names"]]
            metadata = dict(config["metadata"])
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
            raise no_description(path, error) from error
        try:
            if (needed := sum(tensor.numel() for tensor in network.state_dict().values())) > len(weights):
                raise RuntimeError(f"they are {needed:,} numbers, the file has {len(weights):,} bytes")
            found = {name: tensor.float() if tensor.is_floating_point() else tensor for name, tensor in load_weights(weights).items()}
            network.load_state_dict(found, assign=True)
        except (SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise DataError(f"{path / WEIGHTS} does not hold the weights of config.json's network: {reason}") from error
        try:
            classifier = cls(network, preprocessing, names, device=device, backend=backend)
        except ValueError as error:
            raise DataError(f"{path / 'config.json'}: {str(error).removesuffix('.')}. Save the classifier again.") from error
        classifier.metadata = metadata  # as it stands there, for versions before this one wrote numbers that JSON does not have
        classifier._inference.network_is_known = False
        return classifier

    def export_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        pictures: Iterable[PictureSource] | PictureFile | None = None,
        int8: DatasetSplits | None = None,
        accept_accuracy_loss: bool = False,
    ) -> "Export":
        """Write an .onnx file: uint8 pictures of any size and number in, probabilities and class maps out; needs the extra `onnx`.

        Resizing and normalising are part of the graph, class names, preprocessing, accuracy and version stand in its metadata.
        Before anything is written it is run in onnxruntime beside `predict`, on the host, with pictures of several sizes and batch
        sizes. `ExportedClassifier` runs it without torch.

        Args:
            path: the file, ending in .onnx; its folder is made where it is missing, an exported classifier there is replaced.
            pictures: what to compare with, one or several; of more than 64 so many, spread evenly. None takes pictures of Fashion-MNIST.
            int8: data to quantise with. The file computes in 8 bits then: up to 512 of the validation or train pictures decide
                the ranges, accuracy is measured on the test pictures, size and speed beside those of the float file.
            accept_accuracy_loss: write the 8-bit file also where the accuracy is lower by more than half a point.

        Returns:
            What was written: size, largest differences, and with `int8` what it cost and gained. A network with a fully connected
            head has no class maps, and its file gives probabilities alone.

        Raises:
            ModuleNotFoundError: the extra is not installed.
            ValueError: the path does not end in .onnx, or is a folder; `accept_accuracy_loss` was given without `int8`.
            DataError: a picture does not decode, or the data's classes or channels are others than the classifier's.
            ExportError: the file would answer otherwise than `predict` by more than 1e-4, or `int8` costs too much accuracy.
            OSError: the folder cannot be written to, or the disk is full. In all these cases no file is written.
        """
        if accept_accuracy_loss and int8 is None:
            raise ValueError("accept_accuracy_loss is about 8 bits, and int8 was not given; leave it out, or give data to quantise with")
        # With answers of torch, on the host: GPUs may round the products of convolutions to fewer bits.
        host = self if self.device.type == "cpu" and self.backend == "torch" else self._on_the_host()
        if int8 is not None:
            validation = None if int8.validation is None else self._matched(int8.validation)
            int8 = dataclasses.replace(int8, train=self._matched(int8.train), test=self._matched(int8.test), validation=validation)
        data = without_places(self.metadata).get("data")
        facts = {key: self.metadata.get(key) for key in ("name", "test_accuracy", "test_accuracy_interval")}
        return export.export_onnx(
            host._network,
            self.preprocessing,
            self.class_names,
            path,
            host.predict,
            facts={**facts, "data": data.get("name") if isinstance(data, Mapping) else None},
            pictures=None if pictures is None else export.Pictures(as_several(pictures), self.preprocessing.channels),
            int8=int8,
            accept_accuracy_loss=accept_accuracy_loss,
        )

    def _on_the_host(self) -> "Classifier":
        return Classifier(copy.deepcopy(self._network), self.preprocessing, self.class_names, device="cpu", backend="torch")

    def _matched(self, dataset: ImageDataset) -> ImageDataset:
        """The dataset with this classifier's classes, in its order.

        Raises:
            DataError: it holds pictures of a class that this classifier does not know, or has other channels.
        """
        if dataset.in_channels != self.preprocessing.channels:
            raise DataError(
                f"the dataset has {dataset.in_channels} channels, the classifier takes {self.preprocessing.channels}; "
                f"load it with channels={self.preprocessing.channels}"
            )
        return dataset.with_class_names(self.class_names)

    def _batch_size(self) -> int:
        return self._at_once(self.preprocessing.height, self.preprocessing.width)

    def _at_once(self, height: int, width: int) -> int:
        most, pixels = _AT_ONCE.get(self.device.type, _AT_ONCE["other"])
        return max(1, min(most, pixels // (height * width)))


def load(source: str | os.PathLike[str], *, device: str = "auto", backend: Backend = "auto") -> Classifier:
    """Load a classifier: a run folder, a saved classifier's folder, or the name of weights that ship (`list_weights()`).

    `device` and `backend` are those of `Classifier`.

    A run or classifier at that path goes before weights of the same name, with a warning; where there is something else, as a folder
    of pictures `mnist`, the name is meant. `./mnist` is always the path.

    Raises:
        ValueError: there is no classifier at that place, and none of that name ships.
        DataError: its files are broken.
    """
    path_of(source, "source")
    name = os.fspath(source)  # "./mnist" is the path
    if name not in list_weights():
        return Classifier.load(source, device=device, backend=backend)
    shipped, here = weights_entry(name).folder, Path(name)
    if place_of(here) is None and not is_folder(here / "checkpoint"):
        return Classifier.load(shipped, device=device, backend=backend)
    warnings.warn(f"{name} is a folder here and the name of weights that ship; the folder is taken. The weights: {shipped}", stacklevel=2)
    return Classifier.load(here, device=device, backend=backend)
