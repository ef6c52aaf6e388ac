"""Weights at the start, the optimiser, and the running mean of the weights."""

import math
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

from torchnin.device import within_memory
from torchnin.models import NiN
from torchnin.training.descent import SGD, Descent
from torchnin.training.muon import Muon
from torchnin.training.recipe import Recipe

# Of the train pictures.
PICTURES_TO_LEVEL = 256


@torch.no_grad()
def initialise(network: NiN, recipe: Recipe) -> None:
    """Draw the weights that the recipe starts from, out of torch's global random numbers.

    - `as built`: nothing is drawn; the network starts as it was given.
    - `he`: weights are drawn He-normal for the outputs, those of the class maps and of a fully connected head for their inputs, biases
      are zero.
    - `xavier`: every convolution and linear weight is drawn Xavier-uniform, biases stay as built (the notebooks' `train_ch6`).
    - `alive`: He-normal weights and zero biases, so that signals keep their size through the ReLUs; the class maps start
      from small weights and a positive bias, so that the last ReLU silences none of them.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            if recipe.initialisation == "xavier":
                nn.init.xavier_uniform_(layer.weight)
            elif recipe.initialisation in ("he", "alive"):
                _he(layer, mode="fan_out" if recipe.initialisation == "he" else "fan_in")
    if recipe.initialisation == "alive":
        revive_class_maps(network)
    elif recipe.initialisation == "he":
        for weight in (_convolutions(network.class_block)[-1].weight, *(layer.weight for layer in _linear(network.head))):
            nn.init.kaiming_normal_(weight, nonlinearity="linear")


@torch.no_grad()
def revive_class_maps(network: NiN) -> list[nn.Parameter]:
    """Draw the last block anew so that no class map is dead: He-normal weights, then small ones and a bias above zero for the maps.

    Returns:
        The parameters that were drawn.
    """
    layers = _convolutions(network.class_block)
    for layer in layers:
        _he(layer)
    # A third of what keeps the signal's size, however many channels the class maps are made of, so that the bias outweighs it.
    nn.init.normal_(layers[-1].weight, std=math.sqrt(0.1 / layers[-1].weight[0].numel()))
    if layers[-1].bias is not None and network.config.class_map_relu:
        nn.init.constant_(layers[-1].bias, 0.5)
    return [parameter for layer in layers for parameter in layer.parameters()]


@torch.no_grad()
def level_class_maps(network: NiN, pictures: Tensor, preprocess: Callable[[Tensor], Tensor]) -> nn.Parameter | None:
    """Take out of the class maps' weights what tells no picture from another, so that each map's mean before its ReLU is its bias.

    The channels that the class maps are made of are all above zero, so random weights lift some maps and lower others, for all
    pictures alike; a map close to zero gets next to no gradient (docs/why-nin-fails.md). Of each map's weights the part along
    those channels' means over some pictures is taken away. The biases stay, and no random number is drawn.

    Args:
        network: one whose class maps have biases and end in a ReLU; another stays as it is.
        pictures: `(n, c, h, w)`, whatever `preprocess` takes, on the network's device; they go through the network 32 at once.
        preprocess: makes of some of them what the network takes.

    Returns:
        The weights; None where the network stays as it is.
    """
    last = _convolutions(network.class_block)[-1]
    if last.bias is None or not network.config.class_map_relu:
        return None
    geometry: Any = {name: getattr(last, name) for name in ("kernel_size", "dilation", "padding", "stride")}
    means: list[Tensor] = []  # of what each weight of a map is multiplied by, a picture a row

    def look(_layer: nn.Module, inputs: tuple[Tensor]) -> None:
        means.append(nn.functional.unfold(inputs[0], **geometry).mean(2))

    def of_some(some: Tensor) -> Tensor:
        means.clear()
        network.class_maps(preprocess(some))
        return means.pop()

    handle, training = last.register_forward_pre_hook(look), network.training
    network.eval()
    try:
        rows = torch.cat([within_memory(of_some, some, torch.cat) for some in pictures.split(32)])
    finally:
        handle.remove()
        network.train(training)
    # Zeros, where all those channels are dead, stay zeros.
    along = nn.functional.normalize(rows.cpu().double().mean(0), dim=0)
    weights = last.weight.cpu().double().flatten(1)
    kernel = next(last.parameters())
    kernel.copy_((weights - torch.outer(weights @ along, along)).view_as(kernel))
    return kernel


def _convolutions(block: nn.Module) -> list[nn.Conv2d]:
    return [layer for layer in block.modules() if isinstance(layer, nn.Conv2d)]


def _linear(block: nn.Module) -> list[nn.Linear]:
    return [layer for layer in block.modules() if isinstance(layer, nn.Linear)]


def _he(layer: nn.Conv2d | nn.Linear, mode: Literal["fan_in", "fan_out"] = "fan_in") -> None:
    nn.init.kaiming_normal_(layer.weight, mode=mode, nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)


def turned_by_muon(network: NiN, recipe: Recipe) -> list[nn.Parameter]:
    """The weights that Muon trains: those of all convolutions but the first and the last; none where the recipe is SGD's."""
    kernels = [parameter for parameter in network.parameters() if parameter.ndim == 4]
    return kernels[1:-1] if recipe.optimizer == "muon" else []


def make_optimizers(network: NiN, recipe: Recipe) -> list[Descent]:
    """SGD with Nesterov's momentum, its weight decay on convolution and linear weights alone; and Muon where the recipe asks.

    A fully connected head adds up all pixels of the class maps, of which an averaged one takes the mean; so the rate of its weights is
    the recipe's divided by the pixels of a map. Each group remembers its highest learning rate as `peak_lr`.
    """
    turned = turned_by_muon(network, recipe)
    connected = [layer.weight for layer in _linear(network.head)] if network.config.head == "fc" else []
    apart = {id(parameter) for parameter in (*turned, *connected)}
    decayed = [parameter for parameter in network.parameters() if parameter.ndim > 1 and id(parameter) not in apart]
    plain = [parameter for parameter in network.parameters() if parameter.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": decayed, "weight_decay": recipe.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    if connected:
        side = network.config.map_size(network.config.image_size) or 1
        groups.append({"params": connected, "weight_decay": recipe.weight_decay, "lr": recipe.lr / side**2})
    optimizers: list[Descent] = [SGD([group for group in groups if group["params"]], lr=recipe.lr, momentum=recipe.momentum)]
    if turned:
        optimizers.append(Muon(turned, lr=recipe.muon_lr, momentum=recipe.muon_momentum, keep_norms=recipe.keep_norms))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def gradient_norm(parameters: Iterable[nn.Parameter]) -> Tensor:
    """Euclidean norm of all gradients together; one value, on the device."""
    return torch.nn.utils.get_total_norm([parameter.grad for parameter in parameters if parameter.grad is not None])


class WeightMean:
    """Exponential running mean of a network's parameters and buffers, in place of its last weights.

    The decay grows from 0 as `(1 + steps) / (10 + steps)` up to the recipe's, so that the first weights are soon forgotten.
    """

    def __init__(self, network: NiN, decay: float) -> None:
        self.decay = decay
        self.state = {name: value.detach().clone() for name, value in network.state_dict().items()}

    def share(self, step: int) -> float:
        """How far the mean moves towards the network's weights after a step (from 0)."""
        return 1 - min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, network: NiN, share: float | Tensor) -> None:
        """Move the mean towards the network's weights by `share(step)`, which on a GPU may lie there as one value."""
        mean, now = [], []
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                mean.append(self.state[name])
                now.append(value)
            else:
                self.state[name].copy_(value)  # counters are not averaged
        torch._foreach_lerp_(mean, now, [share] * len(mean) if isinstance(share, Tensor) else share)

    @torch.no_grad()
    def adopt(self, network: NiN, parameters: list[nn.Parameter]) -> None:
        """Take these parameters as they are now into the mean."""
        wanted = {id(parameter) for parameter in parameters}
        for name, parameter in network.named_parameters():
            if id(parameter) in wanted:
                self.state[name].copy_(parameter)
