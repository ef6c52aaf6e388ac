"""What the page and `POST /v1/explain` show of a classifier: its network as plain values, and what it makes of one picture.

Numbers that are many travel as base64 of little-endian arrays, described where they stand. Class maps and the picture are
exact (float32, uint8); the maps of the layers are 16-bit codes between the layer's smallest and largest value, which is
finer than a screen can show and half the size.
"""

import base64
from typing import Any

import numpy as np
import torch
from torch import Tensor

from torchnin.classifier import Classifier
from torchnin.explanation import BlockMaps
from torchnin.models import LayerRow
from torchnin.models.folded import is_mean
from torchnin.saved import number_in, record_of_data, without_places

_CODES = 65535


def network_json(classifier: Classifier) -> dict[str, Any]:
    """The network as its parts, in the order in which they run, with shapes, parameters and what a value sees.

    Shapes are those of one picture of the size that the network was trained on; `mlp` says whether a layer is a 1 x 1
    convolution, one fully connected layer at every pixel.
    """
    p = classifier.preprocessing
    summary = classifier.summarize()
    parts: list[dict[str, Any]] = []
    for row in summary.rows:
        if not parts or parts[-1]["name"] != row.part:
            parts.append({"name": row.part, "kind": row.part.split()[0], "num_parameters": 0, "num_macs": 0, "layers": []})
        part = parts[-1]
        part["num_parameters"] += row.num_parameters
        part["num_macs"] += row.num_macs
        if row.layer in ("norm", "relu") and part["layers"]:
            part["layers"][-1]["num_parameters"] += row.num_parameters
            part["layers"][-1]["with"].append(row.layer)
        else:
            part["layers"].append(_layer(row))
    metadata = without_places(classifier.metadata)
    return {
        "name": metadata.get("name"),
        "data": record_of_data(metadata).get("name"),
        "test_accuracy": number_in(metadata, "test_accuracy"),
        "class_names": list(classifier.class_names),
        "input": {"channels": p.channels, "height": p.height, "width": p.width, "mean": list(p.mean)},
        "head": classifier.config.head,
        "num_parameters": summary.num_parameters,
        "num_macs": summary.num_macs,
        "parts": parts,
    }


def explanation_json(classifier: Classifier, pixels: np.ndarray, *, layers: bool = True) -> dict[str, Any]:
    """What the network makes of one picture: class maps, their means, the softmax; with `layers`, every layer's maps too.

    Args:
        classifier: any classifier; where its head does not take the means of the maps, they are no class maps and `means` is None.
        pixels: what `Classifier.decode` made of the picture.
        layers: whether to add the maps of all layers, which are many numbers.

    Returns:
        `label`, `probability`, `class_names`, `logits` and `probabilities` in the order of the class names; `means`, of each
        class map (the logits, exactly); `picture`, what the network sees after resizing, uint8 `(c, h, w)`; `class_maps`,
        float32 `(k, y, x)`; `grid`, where the class maps' values lie in that picture; and `blocks`, of each block its
        `grid` and its `layers`, whose maps are `low + code * (high - low) / 65535`. Of every map of `blocks` its place in
        the picture is as `Grid` has it. A head of another kind gives `class_maps` and `grid` None.
    """
    blocks = classifier.block_maps_decoded(pixels)
    maps = blocks[-1].layers[-1][1]
    logits = classifier.logits_of_maps(maps)
    probabilities = logits.double().softmax(0)
    best = int(logits.argmax())
    averaged = is_mean(classifier.network.head)
    seen = classifier.preprocessing.resize(torch.from_numpy(pixels)[None])[0].round().clamp(0, 255).to(torch.uint8)
    return {
        "label": classifier.class_names[best],
        "probability": float(probabilities[best]),
        "class_names": list(classifier.class_names),
        "logits": logits.tolist(),
        "probabilities": probabilities.tolist(),
        "means": maps.double().mean((1, 2)).tolist() if averaged else None,
        "picture": {"dtype": "uint8", **_packed(seen.numpy())},
        "class_maps": {"dtype": "float32", **_packed(maps.numpy().astype("<f4"))} if averaged else None,
        "grid": _grid(blocks[-1]) if averaged else None,
        **({"blocks": [_block(block) for block in blocks]} if layers else {}),
    }


def _layer(row: LayerRow) -> dict[str, Any]:
    kind, _, kernel = row.layer.rpartition(" ")
    return {
        "layer": row.layer,
        "mlp": kind == "conv" and kernel == "1x1",
        "with": [],
        "shape": list(row.output_shape[1:]),
        "num_parameters": row.num_parameters,
        "num_macs": row.num_macs,
        "sees": row.receptive_field,
        "stride": row.stride,
    }


def _block(block: BlockMaps) -> dict[str, Any]:
    return {
        "block": block.block,
        "grid": _grid(block),
        "layers": [{"layer": name, **_coded(values)} for name, values in block.layers],
    }


def _grid(block: BlockMaps) -> dict[str, Any]:
    grid = block.grid
    return {"size": list(grid.size), "centre": grid.centre, "stride": grid.stride, "picture_size": list(grid.picture_size)}


def _coded(values: Tensor) -> dict[str, Any]:
    low, high = float(values.min()), float(values.max())
    span = (high - low) or 1.0
    codes = ((values.double() - low) * (_CODES / span)).round().numpy().astype("<u2")
    return {"dtype": "uint16", "low": low, "high": low + span, **_packed(codes)}


def _packed(array: np.ndarray) -> dict[str, Any]:
    return {"shape": list(array.shape), "data": base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")}
