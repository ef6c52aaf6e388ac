"""What a trained network answers, computed by the faster of torch and onnxruntime."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchnin.data import Preprocessing
from torchnin.device import DeviceChoice, within_memory
from torchnin.models import FoldedNiN, NiN
from torchnin.onnx_network import Backend, OnnxNetwork, choose_backend


class Inference:
    """From pixels of any size to the logits and probabilities of a network, in float32, for prediction alone.

    Both come from the network's folded form, which is made when the first is asked for, and anew when the network's weights have
    changed. Where memory is short, fewer pictures are computed at once. Several threads may ask at a time.

    Args:
        network: in evaluation mode, where `choice` places it.
        choice: the device.
        backend: what computes.

    Raises:
        ValueError: there is no such backend, or not for this device.
        ModuleNotFoundError: it is not installed.
    """

    def __init__(self, network: NiN, choice: DeviceChoice, backend: Backend) -> None:
        self.backend = choose_backend(backend, choice)
        """`torch`, or `onnxruntime`, which leaves to torch what torch is faster at; `torch` from when onnxruntime has failed."""
        self.network_is_known = True
        """Whether others have the network, so that each answer looks whether its weights have changed."""
        self._network, self._device = network, choice.device
        self._folded: FoldedNiN | None = None
        self._onnx: OnnxNetwork | None = None

    def probabilities(self, pictures: Sequence[np.ndarray], p: Preprocessing) -> np.ndarray:
        """Probabilities `(n, num_classes)` of pictures `(channels, h, w)`, 0 to 255, each of any size."""
        _, onnx = self._current(p)
        sizes = {pictures.shape[2:]} if isinstance(pictures, np.ndarray) else {pixels.shape[1:] for pixels in pictures}
        if onnx is not None and onnx.is_faster(len(pictures)) and sizes == {(p.height, p.width)}:
            # No call of torch's: around one small picture a few of them take as long as half the network.
            pixels = pictures if isinstance(pictures, np.ndarray) else pictures[0][None] if len(pictures) == 1 else np.stack(pictures)
            return within_memory(onnx.probabilities, pixels, np.concatenate)
        return self.logits(self._together(pictures, p), p).double().softmax(1).numpy()

    @torch.inference_mode()
    def logits(self, pixels: Tensor, p: Preprocessing) -> Tensor:
        """Logits `(n, num_classes)`, float32 on the host, of `(n, channels, h, w)`, 0 to 255.

        Raises:
            ValueError: the pixels have another number of channels than the network.
        """
        return within_memory(lambda some: self._logits(some, p), pixels, torch.cat)

    def _logits(self, pixels: Tensor, p: Preprocessing) -> Tensor:
        resized = p.resize(pixels.to(self._device))
        self._network.check_pictures(resized)
        if not len(resized):
            return torch.empty(0, self._network.num_classes, device="cpu")
        folded, onnx = self._current(p)
        if onnx is not None and onnx.is_faster(len(resized)):
            return onnx(resized)
        return folded(p.normalise(resized)).float().cpu()

    def _together(self, pictures: Sequence[np.ndarray], p: Preprocessing) -> Tensor:
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for place, pixels in enumerate(pictures):
            by_shape.setdefault(pixels.shape, []).append(place)
        if len(by_shape) == 1:
            return torch.from_numpy(np.stack(pictures))
        # Pictures of one size are resized together, many times faster than one by one; then all go through the network at once.
        sized = torch.empty(len(pictures), p.channels, p.height, p.width, dtype=torch.float32, device=self._device)
        for places in by_shape.values():
            sized[places] = p.resize(torch.from_numpy(np.stack([pictures[place] for place in places])).to(self._device))
        return sized

    def _current(self, p: Preprocessing) -> tuple[FoldedNiN, OnnxNetwork | None]:
        """The network with its normalisation folded in, and as onnxruntime computes it; anew where its weights have changed."""
        folded, onnx = self._folded, self._onnx
        # Looking at every weight takes a tenth of a small picture, and where nobody else has the network nobody changes it.
        if folded is None or (self.network_is_known and not folded.is_current(self._network)):
            folded, onnx = FoldedNiN(self._network), None
        if self.backend == "onnxruntime" and (onnx is None or onnx.preprocessing is not p):
            try:
                onnx = OnnxNetwork(folded, p)
            except (ImportError, RuntimeError) as error:
                self.backend, onnx = "torch", None
                warnings.warn(f"torch predicts, for onnxruntime does not: {error}", stacklevel=2)
        # Several threads may be here; each has made what fits the weights that it saw.
        self._onnx, self._folded = onnx, folded
        return folded, onnx

    def __getstate__(self) -> dict[str, Any]:
        """To be copied or pickled, without what is made of the network when it is wanted."""
        return {**self.__dict__, "_folded": None, "_onnx": None}
