"""The folded network as onnxruntime computes it: on a processor the faster one for few pictures, and for small networks for many."""

import importlib.util
import math
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from torchnin.data import DataError, Preprocessing
from torchnin.device import DeviceChoice
from torchnin.exported import open_session
from torchnin.models import FoldedConvolution, FoldedNiN
from torchnin.models.folded import pooling

Backend = Literal["auto", "torch", "onnxruntime"]
"""What computes predictions; `auto` is onnxruntime on a processor where the extra `onnx` is installed, else torch."""

_INPUT, _LOGITS, _PROBABILITIES = "pixels", "logits", "probabilities"
_OPSET, _IR_VERSION = 18, 8
# Multiply-adds of one picture in convolutions for which the folded network has a way of fewer multiplications, from which it is the faster
# one for two pictures and more (measured: nin_d2l has 540 million of them, nin_cifar10, which onnxruntime computes as fast, 140).
_MUCH_WORK = 300_000_000
# Multiply-adds of all pictures at once up to which one thread is as fast as two, which have to be woken.
_LITTLE_WORK = 10_000_000
# Largest difference from the folded network's logits that is taken for rounding: of a logit, or where logits are above one, of the largest.
_SAME = 1e-4


class OnnxNetwork:
    """From the pixels of pictures of the network's size, 0 to 255, to their logits, by onnxruntime; for prediction alone.

    The graph holds the very weights of the folded network: the logits differ from its own by rounding. As many threads compute as
    torch has, one where there is little to do. Needs the extra `onnx`.

    Args:
        folded: a network on the host, in float32.
        preprocessing: how its pictures are normalised, and their size.

    Raises:
        ImportError: onnx or onnxruntime is not installed, or broken.
        RuntimeError: there is a layer that a NiN is not built of, onnxruntime does not run the network, or it answers otherwise than the
            folded network, as an old version may.
    """

    def __init__(self, folded: FoldedNiN, preprocessing: Preprocessing) -> None:
        p = preprocessing
        self._folded, self.preprocessing = folded, p
        self._macs, by_winograd = folded.macs(p.height, p.width)
        self._most_pictures = 1 if by_winograd >= _MUCH_WORK else math.inf
        self._sessions: dict[int, Any] = {}
        generator = torch.Generator().manual_seed(0)
        pixels = torch.rand((1, p.channels, p.height, p.width), dtype=torch.float32, generator=generator, device="cpu") * 255
        here, there = self(pixels), folded(p.normalise(pixels))
        scale = there.abs().amax().clamp(min=1.0)
        if not torch.allclose(here / scale, there / scale, rtol=0, atol=_SAME, equal_nan=True):
            raise RuntimeError(f"onnxruntime's logits differ by {float((here - there).abs().max()):.3g} of up to {float(scale):.3g}")

    def is_faster(self, num_pictures: int) -> bool:
        """Whether so many pictures at once take less time here than in the folded network."""
        return num_pictures <= self._most_pictures

    def __call__(self, pixels: Tensor) -> Tensor:
        """Logits `(n, num_classes)` of `(n, channels, height, width)`, float32, both on the host.

        Raises:
            RuntimeError: onnxruntime fails, as where memory is short.
        """
        return torch.from_numpy(self._run(_LOGITS, pixels.contiguous().numpy()))

    def probabilities(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities `(n, num_classes)`, float32, of `(n, channels, height, width)`, uint8 or float32; raises as a call does."""
        return self._run(_PROBABILITIES, pixels.astype(np.float32, order="C", copy=False))

    def _run(self, output: str, pixels: np.ndarray) -> np.ndarray:
        session = self._session(1 if len(pixels) * self._macs <= _LITTLE_WORK else torch.get_num_threads())
        try:
            values: np.ndarray = session.run([output], {_INPUT: pixels})[0]
            return values
        except Exception as error:  # onnxruntime's errors share no class of their own
            raise RuntimeError(f"onnxruntime: {' '.join(str(error).split())[:300]}") from error

    def _session(self, threads: int) -> Any:
        sessions = self._sessions
        if threads not in sessions:
            try:
                made = open_session(_model(self._folded, self.preprocessing), "the folded network", threads)
            except DataError as error:
                raise RuntimeError(str(error)) from error
            # That of one thread, and of the others the one that was asked for last; a forked process, which has one thread, could not
            # close one of several, whose threads were not forked along.
            self._sessions = sessions = {number: each for number, each in sessions.items() if 1 in (number, threads)} | {threads: made}
        return sessions[threads]


def choose_backend(asked: Backend, choice: DeviceChoice) -> Literal["torch", "onnxruntime"]:
    """What is to compute the predictions of a network that is placed there.

    Raises:
        ValueError: there is no such backend, or it does not compute there.
        ModuleNotFoundError: it is not installed.
    """
    if asked not in ("auto", "torch", "onnxruntime"):
        raise ValueError(f"backend is {asked!r}; accepted: 'auto', 'torch', 'onnxruntime'")
    can = choice.device.type == "cpu"
    if asked == "torch" or (asked == "auto" and not (can and _is_installed())):
        return "torch"
    if not can:
        raise ValueError("backend is 'onnxruntime', which computes on the host here; give device='cpu', or leave backend out")
    if not _is_installed():
        raise ModuleNotFoundError("backend='onnxruntime' needs onnx and onnxruntime: pip install 'torchnin[onnx]'", name="onnxruntime")
    return "onnxruntime"


def _is_installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in ("onnx", "onnxruntime"))


def _model(folded: FoldedNiN, p: Preprocessing) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    nodes: list[Any] = []
    constants: list[Any] = []

    def constant(values: Tensor) -> str:
        constants.append(numpy_helper.from_array(values.detach().contiguous().numpy(), f"constant_{len(constants)}"))
        name: str = constants[-1].name
        return name

    def node(kind: str, *inputs: str, **settings: Any) -> str:
        name = f"{kind}_{len(nodes)}"
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **settings))
        return name

    factor, offset = (values.view(1, -1, 1, 1) for values in p.factor_and_offset())
    values = node("Add", node("Mul", _INPUT, constant(factor)), constant(offset))
    for step in folded.steps:
        if isinstance(step, FoldedConvolution):
            values = node("Conv", values, constant(step.weight), constant(step.bias), strides=step.stride, pads=step.padding * 2)
            values = node("Relu", values) if step.relu else values
        else:
            kernel, stride, up = pooling(step)
            kind = "MaxPool" if isinstance(step, nn.MaxPool2d) else "AveragePool"
            values = node(kind, values, kernel_shape=[kernel] * 2, strides=[stride] * 2, ceil_mode=int(up))
    if folded.other_head is not None:
        raise RuntimeError(f"{' '.join(str(folded.other_head).split())} is no head that a NiN is built with")
    if folded.linear:
        weight, bias = folded.linear
        values = node("Gemm", node("Flatten", values), constant(weight), constant(bias), transB=1)
    else:
        values = node("Flatten", node("GlobalAveragePool", values))
    nodes[-1].output[0] = _LOGITS
    nodes.append(helper.make_node("Softmax", [_LOGITS], [_PROBABILITIES], axis=1))
    pictures: list[str | int | None] = ["n", p.channels, p.height, p.width]
    graph = helper.make_graph(
        nodes,
        "NiN",
        [helper.make_tensor_value_info(_INPUT, TensorProto.FLOAT, pictures)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", None]) for name in (_LOGITS, _PROBABILITIES)],
        constants,
    )
    model: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION).SerializeToString()
    return model
