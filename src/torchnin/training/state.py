"""All that the next step of a training depends on and that lies in tensors, in one dictionary and back."""

import dataclasses
from typing import Any

import torch
from torch import Tensor

from torchnin.models import NiN
from torchnin.training.descent import Descent
from torchnin.training.monitor import Monitor
from torchnin.training.optimisation import WeightMean, initialise, revive_class_maps
from torchnin.training.recipe import Recipe
from torchnin.training.thinning import Thinning


class State:
    """A training's tensors under the names that a checkpoint has for them.

    Args:
        network, optimizers, mean, monitor, thinning: the training's; None where it has none.
        sums: `(3,)`, over the epoch so far: loss, right answers, pictures.
    """

    def __init__(
        self,
        network: NiN,
        optimizers: list[Descent],
        mean: WeightMean | None,
        monitor: Monitor,
        thinning: Thinning | None,
        sums: Tensor,
    ) -> None:
        self.network, self.optimizers, self.mean = network, optimizers, mean
        self.monitor, self.thinning, self.sums = monitor, thinning, sums

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The tensors by name, the training's own, which the next step changes; and what belongs to them as plain values."""
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        if self.mean is not None:
            tensors |= {f"mean.{name}": value for name, value in self.mean.state.items()}
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.network.named_parameters()}
        for optimizer in self.optimizers:
            for parameter, state in optimizer.state.items():
                tensors |= {f"optimizer.{names[parameter]}.{key}": value for key, value in state.items()}
        watched, plain = self.monitor.state()
        tensors |= {f"monitor.{name}": value for name, value in watched.items()}
        if self.thinning is not None:
            tensors |= {f"thinning.{name}": value for name, value in self.thinning.state().items()}
        return tensors | {"sums": self.sums}, {"monitor": plain}

    def adopt(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """The inverse of `read`: values are copied in.

        Raises:
            KeyError, RuntimeError: they are not of this network and recipe.
        """
        self.network.load_state_dict(below(tensors, "network."))
        if self.mean is not None:
            for name, value in below(tensors, "mean.").items():
                self.mean.state[name].copy_(value)
        names = {parameter: name for name, parameter in self.network.named_parameters()}
        for optimizer in self.optimizers:
            for parameter in (parameter for group in optimizer.param_groups for parameter in group["params"]):
                state = below(tensors, f"optimizer.{names[parameter]}.")
                optimizer.state[parameter] = {key: _laid_out_as(parameter, value) for key, value in state.items()}
        if self.thinning is not None:
            self.thinning.restore(below(tensors, "thinning."))
        self.monitor.restore(below(tensors, "monitor."), plain["monitor"])
        self.sums.copy_(tensors["sums"])

    def draw_anew(self, recipe: Recipe, seed: int, *, all_of_it: bool) -> str:
        """Draw the last block, or all weights, so that every class map is alive; the optimisers and the running mean forget what was there.

        Args:
            recipe: the training's.
            seed: decides what is drawn.
            all_of_it: nothing was learned yet that would be lost, and the start itself is what failed.

        Returns:
            What was done, as the end of a sentence.
        """
        torch.manual_seed(seed)
        if all_of_it:
            initialise(self.network, dataclasses.replace(recipe, initialisation="alive"))
            drawn, words = list(self.network.parameters()), ", and weights drawn anew so that every class map is alive"
        else:
            drawn, words = revive_class_maps(self.network), ", and a last block drawn anew, whose class maps are alive"
        for optimizer in self.optimizers:
            for parameter in drawn:
                optimizer.state.pop(parameter, None)
        if self.mean is not None:
            self.mean.adopt(self.network, drawn)
        return words


def _laid_out_as(parameter: Tensor, value: Tensor) -> Tensor:
    """A copy beside the parameter; in its layout if it has its shape, for the update must run through the values in the order of before."""
    if value.shape != parameter.shape:
        return value.to(parameter.device, copy=True)
    return torch.empty_like(parameter, requires_grad=False).copy_(value)


def below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Those whose names begin with a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
