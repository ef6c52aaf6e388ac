"""A trained network that never travels without its preprocessing and its class names."""

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load as load_weights
from safetensors.torch import save
from torch import Tensor

from torchnin.data import Batches, DataError, ImageDataset, Preprocessing
from torchnin.data.ahead import decode_ahead
from torchnin.data.pictures import PictureSource
from torchnin.device import DeviceChoice, choose_device
from torchnin.evaluation import Report, evaluate_logits
from torchnin.explanation import Explanation, PixelVectors, explain, feature_maps, pixel_vectors
from torchnin.files import MAX_JSON_BYTES, parse_json, write_atomically, write_json
from torchnin.models import NiN, NiNConfig
from torchnin.version import __version__

# Pixels that go through the network at once: bounds the memory.
_PIXELS_PER_BATCH = 256 * 224 * 224
# Pictures of a stream that are decoded ahead and go through the network at once; more would only keep the first answers back.
_MOST_AHEAD = 256
_WEIGHTS = "model.safetensors"
_WAITING = "model.safetensors.new"  # between the moment when config.json names new weights and the one when they get their name
# Pixels above which a picture is resized as soon as it is decoded.
_LARGE = 256 * 256


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a classifier says of one picture."""

    label: str
    """Name of the most probable class."""
    probability: float
    """Its probability, 0 to 1."""
    probabilities: dict[str, float]
    """Probability of every class by name, the most probable first; they sum to one."""


class Classifier:
    """A network with its preprocessing and class names: predict, evaluate, explain, save.

    Computation is in float32, so that prediction, evaluation and export agree with each other to rounding.

    Args:
        network: the trained network; it is put into evaluation mode.
        preprocessing: what was done to the training pictures.
        class_names: the name of each class, in the order of the logits.
        metadata: plain values that travel along, such as the recipe and the measured accuracy.
        device: `auto`, or where to compute.

    Raises:
        ValueError: the three parts contradict each other.
    """

    def __init__(
        self,
        network: NiN,
        preprocessing: Preprocessing,
        class_names: Sequence[str],
        *,
        metadata: Mapping[str, Any] | None = None,
        device: str = "auto",
    ) -> None:
        if len(class_names) != network.num_classes:
            raise ValueError(f"{len(class_names)} class names for a network of {network.num_classes} classes; one name per class is needed")
        if preprocessing.channels != network.config.in_channels:
            raise ValueError(f"the preprocessing gives {preprocessing.channels} channels; the network takes {network.config.in_channels}")
        self.choice: DeviceChoice = choose_device(device, "float32")
        self.network = self.choice.place(network).eval()
        self.preprocessing = preprocessing
        self.class_names = tuple(class_names)
        self.metadata: dict[str, Any] = dict(metadata or {})

    def __repr__(self) -> str:
        p = self.preprocessing
        return f"Classifier({len(self.class_names)} classes, {p.channels}x{p.height}x{p.width}, {self.choice.device})"

    def predict(self, pictures: Any) -> Any:
        """Classify one picture or many.

        Args:
            pictures: a path, the bytes of a file, a PIL image, or a uint8 array or tensor of shape (H, W), (H, W, C) or
                (C, H, W), 0 to 255; or an iterable of those, or a batch of shape (N, C, H, W). Any size; other channel
                counts are converted (grey is repeated, colour becomes luma).

        Returns:
            A `Prediction` for one picture, a list of them, in order, for many.

        Raises:
            DataError: a picture does not decode; the message names it.
            ValueError: an array has a shape or type that is no picture.
        """
        if _is_one(pictures):
            return next(self.predict_each([pictures]))
        return list(self.predict_each(pictures))

    def predict_each(self, pictures: Iterable[PictureSource]) -> Iterator[Prediction]:
        """Like `predict` for many pictures, but one after the other as they are done, in bounded memory."""
        for prediction in self.predict_or_error(pictures):
            if isinstance(prediction, DataError):
                raise prediction
            yield prediction

    def predict_or_error(self, pictures: Iterable[PictureSource]) -> Iterator[Prediction | DataError]:
        """Like `predict_each`, but a picture that does not decode gives its error, in its place, and the others go on.

        The next pictures are decoded on a few threads while the network looks at those before them; up to a batch of them is
        taken from `pictures` ahead.
        """
        size = min(_MOST_AHEAD, self._batch_size())
        decoded = decode_ahead(pictures, self.decode, ahead=size)
        while group := list(islice(decoded, size)):
            predictions = self.predict_decoded([item for item in group if isinstance(item, Tensor)])
            for item in group:
                yield item if isinstance(item, DataError) else next(predictions)

    def decode(self, picture: PictureSource) -> Tensor:
        """Pixels `(channels, h, w)`, 0 to 255: at the picture's own size (uint8), or where that is large at the network's (float32).

        Large ones are resized at once because those of many pictures would fill the memory.

        Raises:
            DataError: the picture does not decode; the message names it.
            ValueError: an array has a shape or type that is no picture.
        """
        pixels = self.preprocessing.pixels(picture)
        return pixels if pixels[0].numel() <= _LARGE else self.preprocessing.resize(pixels[None])[0]

    def predict_decoded(self, pictures: Sequence[Tensor]) -> Iterator[Prediction]:
        """Predictions, in order, of pictures that `decode` gave, all in one forward pass: the caller bounds their number."""
        by_shape: dict[torch.Size, list[int]] = {}
        for place, pixels in enumerate(pictures):
            by_shape.setdefault(pixels.shape, []).append(place)
        # Pictures of one size are resized together, many times faster than one by one; then all go through the network at once.
        p = self.preprocessing
        sized = torch.empty(len(pictures), p.channels, p.height, p.width, device=self.choice.device)
        for places in by_shape.values():
            sized[places] = p.resize(torch.stack([pictures[place] for place in places]).to(self.choice.device))
        for probabilities in self.logits(sized).double().softmax(1).tolist() if pictures else ():
            ranked = sorted(zip(self.class_names, probabilities, strict=True), key=lambda item: -item[1])
            yield Prediction(label=ranked[0][0], probability=ranked[0][1], probabilities=dict(ranked))

    @torch.inference_mode()
    def logits(self, pixels: Tensor) -> Tensor:
        """Logits `(n, num_classes)`, float32 on the host, of pixels `(n, channels, h, w)`, 0 to 255, of any size."""
        inputs = self.preprocessing(pixels.to(self.choice.device))
        return self.network(inputs.contiguous(memory_format=self.choice.memory_format)).float().cpu()

    def evaluate(self, dataset: ImageDataset, *, tta: Literal["none", "flip"] = "none") -> Report:
        """Accuracy, loss, per-class figures and confusion on a dataset; classes are matched by name.

        Args:
            dataset: labelled pictures.
            tta: test-time augmentation; `flip` takes the mean of the logits of each picture and of its mirror image. Its figures
                are those of another, slower procedure: report them apart.

        Raises:
            DataError: the dataset holds pictures of a class that this classifier does not know, or has other channels.
            ValueError: `tta` is neither.
        """
        if tta not in ("none", "flip"):
            raise ValueError(f"tta is {tta!r}; accepted: 'none', 'flip'")
        if dataset.in_channels != self.preprocessing.channels:
            raise DataError(
                f"the dataset has {dataset.in_channels} channels, the classifier takes {self.preprocessing.channels}; "
                f"load it with channels={self.preprocessing.channels}"
            )
        dataset = dataset.with_class_names(self.class_names)
        batches = Batches(dataset, batch_size=self._batch_size(), device=self.choice.device)
        views = (lambda pictures: pictures, lambda pictures: pictures.flip(3))[: 2 if tta == "flip" else 1]
        logits = torch.cat([torch.stack([self.logits(view(batch.pictures)) for view in views]).mean(0) for batch in batches.epoch()])
        return evaluate_logits(logits, torch.tensor(dataset.labels), self.class_names)

    def explain(self, picture: PictureSource, *, resize: bool = True) -> Explanation:
        """Class maps of one picture: what the network saw where. With `resize=False` the picture goes in at its own size."""
        return explain(self.network, self.preprocessing, self.class_names, self.preprocessing.pixels(picture), resize=resize)

    def feature_maps(self, picture: PictureSource, *, resize: bool = True) -> tuple[tuple[str, Tensor], ...]:
        """What each block makes of one picture: the block's name and its output `(channels, y, x)`; the last are the class maps."""
        return feature_maps(self.network, self.preprocessing, self.preprocessing.pixels(picture), resize=resize)

    def pixel_vectors(self, picture: PictureSource, x: int, y: int, *, resize: bool = True) -> tuple[PixelVectors, ...]:
        """The per-pixel MLP at work: of each block the channels at one pixel, before and after each 1 x 1 convolution."""
        return pixel_vectors(self.network, self.preprocessing, self.preprocessing.pixels(picture), x, y, resize=resize)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write `model.safetensors` and `config.json` into a folder.

        A crash at any moment leaves a folder that loads: as the classifier that was there before, or as this one. `config.json` names
        the checksum of its weights, so the moment when it is renamed decides; until the weights have their own name, `load` finds
        them aside as `model.safetensors.new`.

        Returns:
            The folder.

        Raises:
            OSError: the disk is full or the folder cannot be written to; the classifier that was there before is untouched.
        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.network.state_dict().items()}
        weights = save(tensors, metadata={"format": "pt"})
        config = {
            "format": "torchnin classifier 1",
            "torchnin": __version__,
            "network": self.network.config.to_dict(),
            "preprocessing": self.preprocessing.to_dict(),
            "class_names": list(self.class_names),
            "metadata": self.metadata,
            "weights_sha256": hashlib.sha256(weights).hexdigest(),
        }
        json.dumps(config)  # metadata that JSON cannot hold are refused before anything is written
        _settle(path)
        waiting = path / _WAITING
        write_atomically(waiting, weights)
        try:
            write_json(path / "config.json", config)
        except OSError:
            waiting.unlink(missing_ok=True)
            raise
        os.replace(waiting, path / _WEIGHTS)
        return path

    @classmethod
    def load(cls, folder: str | os.PathLike[str], *, device: str = "auto") -> "Classifier":
        """Read what `save` wrote, or the classifier inside a run folder.

        Raises:
            ValueError: there is no such folder, or it holds no classifier.
            DataError: a file of it is broken or does not fit the other.
        """
        path = Path(folder)
        if (path / "classifier" / "config.json").is_file():
            path = path / "classifier"
        if not (path / "config.json").is_file() or not any((path / name).is_file() for name in (_WEIGHTS, _WAITING)):
            raise ValueError(_no_classifier(Path(folder)))
        config, weights = _read(path)
        try:
            with torch.device("meta"):  # without memory: how large the network is, config.json says alone
                network = NiN(NiNConfig.from_dict(config["network"]))
            preprocessing = Preprocessing.from_dict(config["preprocessing"])
            names = [str(name) for name in config["class_names"]]
            metadata = dict(config["metadata"])
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
            raise _no_description(path, error) from error
        try:
            if (needed := sum(tensor.numel() for tensor in network.state_dict().values())) > len(weights):
                raise RuntimeError(f"they are {needed:,} numbers, the file has {len(weights):,} bytes")
            network.to_empty(device="cpu").load_state_dict(load_weights(weights))
        except (SafetensorError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:300]
            raise DataError(f"{path / _WEIGHTS} does not hold the weights of config.json's network: {reason}") from error
        try:
            return cls(network, preprocessing, names, metadata=metadata, device=device)
        except ValueError as error:
            raise DataError(f"{path / 'config.json'}: {error}. Save the classifier again.") from error

    def _batch_size(self) -> int:
        return max(1, min(1024, _PIXELS_PER_BATCH // (self.preprocessing.height * self.preprocessing.width)))


def load(source: str | os.PathLike[str], *, device: str = "auto") -> Classifier:
    """Load a classifier: a run folder, or a saved classifier's folder.

    Raises:
        ValueError: there is no classifier at that place.
        DataError: its files are broken.
    """
    return Classifier.load(source, device=device)


def _read(folder: Path) -> tuple[dict[str, Any], bytes]:
    """`config.json`, and the weights whose checksum it names: under their name, or aside where `save` was cut off before that."""
    text, before = _read_config(folder), None
    while text != before:  # another process may save at this moment: then the weights fit the next config.json
        try:
            config = parse_json(text)
            expected = str(config["weights_sha256"])
        except (ValueError, KeyError) as error:
            raise _no_description(folder, error) from error
        found = "none"
        for name in (_WAITING, _WEIGHTS):
            with contextlib.suppress(FileNotFoundError):
                weights = (folder / name).read_bytes()
                found = hashlib.sha256(weights).hexdigest()
                if found == expected:
                    return config, weights
        text, before = _read_config(folder), text
    raise DataError(
        f"{folder / _WEIGHTS} is not the file that config.json was written for: expected SHA-256 {expected[:12]}..., "
        f"found {found[:12]}. Copy both files again, or save the classifier again."
    )


def _read_config(folder: Path) -> bytes:
    with (folder / "config.json").open("rb") as file:
        return file.read(MAX_JSON_BYTES + 1)


def _settle(folder: Path) -> None:
    """Give weights that a `save` left aside when it was cut off their name, so that the next `save` can use the place."""
    with contextlib.suppress(FileNotFoundError, DataError):
        _, weights = _read(folder)
        if (folder / _WAITING).read_bytes() == weights:
            os.replace(folder / _WAITING, folder / _WEIGHTS)


def _no_description(folder: Path, error: Exception) -> DataError:
    return DataError(f"{folder / 'config.json'} describes no classifier: {error}. Save the classifier again.")


def _is_one(pictures: Any) -> bool:
    if isinstance(pictures, str | os.PathLike | bytes | bytearray | Image.Image):
        return True
    return getattr(pictures, "ndim", 4) <= 3 and hasattr(pictures, "shape")


def _no_classifier(folder: Path) -> str:
    if not folder.exists():
        return f"{folder} is no classifier: there is no such folder; give a run folder or a saved classifier's folder"
    if (folder / "checkpoint").is_dir():
        return f"{folder} is a run that has not finished: go on with nin train --resume --out {folder}"
    return f"{folder} holds no classifier: expected config.json and model.safetensors in it, or in {folder / 'classifier'}"
