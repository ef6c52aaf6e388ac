"""From a network and its preprocessing to one ONNX graph: pictures of any size in, probabilities and class maps out."""

import copy
import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from torchnin.data import Preprocessing
from torchnin.exported import CLASS_MAPS, FORMAT, INPUT, PROBABILITIES, import_onnxruntime
from torchnin.files import utf8
from torchnin.models import NiN
from torchnin.models.folded import is_mean
from torchnin.version import __version__

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 18
"""The first whose Resize knows antialiasing."""
# What came with the opset, so that every runtime that knows the one reads the other.
_IR_VERSION = 8
_NORMALISED = "normalised"
_DOCUMENTATION = (
    "pictures: uint8 (batch, channels, height, width), 0 to 255, {channels}, of any height and width; they are stretched and normalised "
    "inside the graph. probabilities: (batch, classes), in the order of class_names in the metadata.{maps}"
)
_MAPS = " class_maps: (batch, classes, rows, columns), over the whole picture; the mean of each is the class's logit."
_CHANNELS = {1: "grey", 3: "red, green, blue"}


def build(network: NiN, preprocessing: Preprocessing, class_names: Sequence[str], facts: Mapping[str, Any]) -> "ModelProto":
    """The whole classifier as one graph, in float32.

    Args:
        network: the trained network; it is copied and stays as it is.
        preprocessing: becomes nodes of the graph.
        class_names: the name of each class, in the order of the logits.
        facts: further entries of the metadata; text stays as it is, everything else becomes JSON.

    Raises:
        ModuleNotFoundError: the extra `onnx` is not installed.
    """
    import onnx

    require_exporter()
    model = _network_graph(network, preprocessing)
    _clean(model)
    _put_preprocessing_first(model, preprocessing)
    model.ir_version = _IR_VERSION
    model.producer_name, model.producer_version = "torchnin", __version__
    model.graph.name = utf8(str(facts.get("name") or "NiN")).decode()
    channels = _CHANNELS.get(preprocessing.channels, f"{preprocessing.channels} channels")
    model.doc_string = _DOCUMENTATION.format(channels=channels, maps=_MAPS if is_mean(network.head) else "")
    describe(
        model,
        {
            "format": FORMAT,
            "torchnin": __version__,
            "class_names": list(class_names),
            "preprocessing": preprocessing.to_dict(),
            "network": network.config.to_dict(),
            **facts,
        },
    )
    onnx.checker.check_model(model)
    return model


def describe(model: "ModelProto", facts: Mapping[str, Any]) -> None:
    """Write facts into the metadata; one that is there already is replaced, and with None it is taken out."""
    known: dict[str, Any] = {entry.key: entry.value for entry in model.metadata_props}
    del model.metadata_props[:]
    for key, value in (known | dict(facts)).items():
        if value is not None:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            model.metadata_props.add(key=key, value=utf8(text).decode())


def require_exporter() -> None:
    """Raise now what exporting would raise later where the extra is not installed.

    Raises:
        ModuleNotFoundError: naming what to install.
    """
    try:
        import_onnxruntime()  # before the others, which might import it themselves
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"exporting needs onnx, onnxscript and onnxruntime ({error}): pip install 'torchnin[onnx]'", name=error.name
        ) from error


class _Answers(nn.Module):
    """Probabilities and, where there are any, class maps."""

    def __init__(self, network: NiN) -> None:
        super().__init__()
        self.network = network

    def forward(self, normalised: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        maps = self.network.class_maps(normalised)
        probabilities = self.network.head(maps).softmax(1)
        return (probabilities, maps) if is_mean(self.network.head) else probabilities


def _network_graph(network: NiN, preprocessing: Preprocessing) -> "ModelProto":
    """The network from normalised pixels of its own size on, by torch's exporter; any number of pictures."""
    twin = copy.deepcopy(network).eval().to("cpu", torch.float32)
    twin.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    names = [PROBABILITIES] + [CLASS_MAPS] * is_mean(network.head)
    # Two pictures: of one the exporter would conclude that it is always one.
    example = torch.zeros(2, preprocessing.channels, preprocessing.height, preprocessing.width, device="cpu")
    with _quiet_exporter():
        program = torch.onnx.export(
            _Answers(twin).eval(),
            (example,),
            input_names=[_NORMALISED],
            output_names=names,
            dynamic_shapes=({0: "batch"},),
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """What the exporter says of itself (that torchvision is absent, that it calls what is deprecated) is nothing for users of this."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _clean(model: "ModelProto") -> None:
    """Leave out what only the exporter's developers need: it names the folders of the machine that exported."""
    del model.metadata_props[:], model.graph.metadata_props[:]
    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, *model.graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]


def _put_preprocessing_first(model: "ModelProto", p: Preprocessing) -> None:
    """Cast, stretch and normalise in the graph, with the very numbers of `Preprocessing`."""
    from onnx import TensorProto, helper, numpy_helper

    factor, offset = p.factor_and_offset()
    constants = {
        "size": np.array([p.height, p.width], dtype=np.int64),
        "factor": factor.numpy().reshape(1, -1, 1, 1),
        "offset": offset.numpy().reshape(1, -1, 1, 1),
    }
    nodes = [
        helper.make_node("Cast", [INPUT], ["pixels"], name="to_float", to=TensorProto.FLOAT),
        helper.make_node("Shape", ["pixels"], ["batch_and_channels"], name="batch_and_channels", start=0, end=2),
        helper.make_node("Concat", ["batch_and_channels", "size"], ["wanted_shape"], name="wanted_shape", axis=0),
        # Weights of what lies outside the picture are left out and the others sum to one, as torch and Pillow do it;
        # without exclude_outside the borders of a shrunken picture are off by up to 20 grey levels.
        helper.make_node(
            "Resize",
            ["pixels", "", "", "wanted_shape"],
            ["stretched"],
            name="stretch",
            mode="linear",
            antialias=1,
            exclude_outside=1,
            coordinate_transformation_mode="half_pixel",
        ),
        helper.make_node("Mul", ["stretched", "factor"], ["scaled"], name="scale"),
        helper.make_node("Add", ["scaled", "offset"], [_NORMALISED], name="normalise"),
    ]
    network = list(model.graph.node)
    del model.graph.node[:], model.graph.input[:]
    model.graph.node.extend([*nodes, *network])
    model.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    shape: list[str | int | None] = ["batch", p.channels, "height", "width"]
    model.graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.UINT8, shape))
