"""Whether a network is what its configuration describes, which is all that is kept of it beside its weights."""

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.overrides import TorchFunctionMode

from .config import NiNConfig
from .nin import NiN


def require_described(network: NiN) -> None:
    """Raise ValueError, naming the first difference, where a network is not what its configuration describes."""
    described = unfilled(network.config)
    weights, expected = ({name: tuple(tensor.shape) for name, tensor in each.state_dict().items()} for each in (network, described))
    remedy = "save its state_dict() with torch.save"
    layers, meant = _layers(network), _layers(described)
    if names := [*sorted(weights.keys() - expected.keys()), *sorted(expected.keys() - weights.keys())]:
        what = f"{names[0]} is {'none of its weights' if names[0] in weights else 'missing'}"
        if any(name.endswith(("_orig", "_mask")) for name in names):
            remedy = "make what pruning left the weight, by torch.nn.utils.prune.remove(module, 'weight') for each pruned module"
    elif names := [name for name in weights if weights[name] != expected[name]]:
        what = f"{names[0]} is {weights[names[0]]} and not {expected[names[0]]}"
    elif names := sorted(name for name in layers.keys() | meant.keys() if layers.get(name) != meant.get(name)):
        what = f"{names[0]} is {layers.get(names[0], 'nothing')} and not {meant.get(names[0], 'nothing')}"
    else:
        return
    raise ValueError(f"the network is not the one that its configuration describes, and would be read as another: {what}; {remedy}")


def _layers(network: NiN) -> dict[str, str]:
    """What each layer computes at rest, by name."""
    layers = {}
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm):
            layers[name] = f"BatchNorm2d({module.num_features}, eps={module.eps})"
        elif isinstance(module, nn.ReLU):
            layers[name] = "ReLU()"
        elif not isinstance(module, _DropoutNd | nn.Identity) and not any(True for _ in module.children()):
            layers[name] = repr(module)
    return layers


def unfilled(config: NiNConfig) -> NiN:
    """The network of a configuration, without memory: how large it is, a `config.json` says alone."""
    with torch.device("meta"), _Unfilled():
        return NiN(config)


class _Unfilled(TorchFunctionMode):
    """Makes parameters without drawing them: they have no memory, and what PyTorch draws them with there takes long to import."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))
