"""Weights that grow because nothing holds them: Muon's steps have a size of their own, however large the weights are."""

import torch
from torch import nn

from torchnin.models import NiN
from torchnin.training.optimisation import turned_by_muon
from torchnin.training.recipe import Recipe

_MUCH = 3.0  # times the first norm; docs/lab-log.md: ten epochs of `nin_d2l` come to 2.4, and at 4 to 6 `nin_cifar10` had stopped learning


class Growth:
    """Watches the norms of the weights that Muon trains, where neither it nor normalisation behind them holds them.

    Args:
        network: as it begins.
        recipe: how it is trained.
    """

    def __init__(self, network: NiN, recipe: Recipe) -> None:
        free = [] if network.config.batch_norm or recipe.keep_norms else turned_by_muon(network, recipe)
        wanted = {id(parameter) for parameter in free}
        self._weights = {name: parameter for name, parameter in network.named_parameters() if id(parameter) in wanted}
        self.first = self._norms()
        """Of each of those weights when the training began."""

    def finding(self) -> str | None:
        """One sentence where some weight has grown to much more than it began with; waits for the device."""
        shares = {name: norm / self.first[name] for name, norm in self._norms().items() if self.first.get(name)}
        name = max(shares, key=shares.__getitem__, default=None)
        if name is None or not shares[name] >= _MUCH:
            return None
        return (
            f"the weights {name} have grown to {shares[name]:.1f} times their first norm and nothing holds them, so that the biases lose "
            "their say and learning may come to a stand; train anew with --keep-norms"
        )

    @torch.no_grad()
    def _norms(self) -> dict[str, float]:
        return {name: float(nn.utils.get_total_norm([weight])) for name, weight in self._weights.items()}
