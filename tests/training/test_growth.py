from dataclasses import replace

import pytest
import torch

from torchnin import NiN, NiNConfig, Recipe
from torchnin.training.growth import Growth
from torchnin.training.optimisation import turned_by_muon


@pytest.mark.parametrize(
    ("held", "recipe"),
    [
        ({}, Recipe(optimizer="muon", keep_norms=True)),
        ({}, Recipe(optimizer="sgd")),
        ({"batch_norm": True}, Recipe(optimizer="muon", keep_norms=False)),
    ],
    ids=("the norms are kept", "SGD", "normalisation"),
)
def test_weights_may_grow_where_something_holds_them(tiny: NiNConfig, held: dict[str, bool], recipe: Recipe) -> None:
    network = NiN(replace(tiny, **held))  # type: ignore[arg-type]
    growth = Growth(network, recipe)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 10
    assert growth.finding() is None


def test_the_weights_that_have_grown_most_are_told(tiny: NiNConfig) -> None:
    network, recipe = NiN(replace(tiny, batch_norm=False)), Recipe(optimizer="muon", keep_norms=False)
    growth, weights = Growth(network, recipe), turned_by_muon(network, recipe)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    assert growth.first.keys() == {names[id(weight)] for weight in weights}
    with torch.no_grad():
        weights[0].mul_(2.9)
        assert growth.finding() is None
        weights[0].mul_(2)
        weights[1].mul_(4)
    found = growth.finding()
    assert found is not None
    assert found.startswith(f"the weights {names[id(weights[0])]} have grown to 5.8 times their first norm and nothing holds them")
    assert found.endswith("train anew with --keep-norms")


def test_weights_that_began_at_zero_have_no_share_to_grow_by(tiny: NiNConfig) -> None:
    network, recipe = NiN(replace(tiny, batch_norm=False)), Recipe(optimizer="muon", keep_norms=False)
    with torch.no_grad():
        for weight in turned_by_muon(network, recipe):
            weight.zero_()
        growth = Growth(network, recipe)
        for weight in turned_by_muon(network, recipe):
            weight.fill_(1)
    assert growth.finding() is None
