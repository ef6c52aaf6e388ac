"""What a checkpoint keeps of a training's tensors is all that the next step depends on."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from torchnin import NiN, NiNConfig, Recipe
from torchnin.training.monitor import Monitor
from torchnin.training.optimisation import WeightMean, make_optimizers
from torchnin.training.state import State, below
from torchnin.training.thinning import Thinning

RECIPE = Recipe(optimizer="muon", ema_decay=0.9, thinning=0.5, initialisation="alive")
PICTURES, LABELS = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 10


def begun(config: NiNConfig, seed: int) -> State:
    """A training before its first step, with all that one may have."""
    torch.manual_seed(seed)
    network, device = NiN(config).train(), torch.device("cpu")
    monitor = Monitor(network, [f"kind {number}" for number in range(10)], [2] * 10, 0, device)
    thinning = Thinning(len(LABELS), RECIPE.thinning, 5, seed, device)
    sums = torch.zeros(3, dtype=torch.float64)
    return State(network, make_optimizers(network, RECIPE), WeightMean(network, RECIPE.ema_decay), monitor, thinning, sums)


def learn(state: State, first: int, count: int) -> None:
    """Some steps as the loop makes them."""
    assert state.mean is not None
    assert state.thinning is not None
    for step in range(first, first + count):
        torch.manual_seed(step)
        for parameter in state.network.parameters():
            parameter.grad = None
        logits = state.network(PICTURES)
        losses = nn.functional.cross_entropy(logits, LABELS, reduction="none")
        losses.mean().backward()
        for optimizer in state.optimizers:
            optimizer.step()
        state.mean.update(state.network, state.mean.share(step))
        state.thinning.note(torch.arange(len(LABELS)), losses)
        state.monitor.after_step(logits.detach(), losses.mean().detach(), LABELS)
        state.sums += torch.tensor([float(losses.detach().sum()), 0.0, len(LABELS)])


def kept(state: State) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in state.read()[0].items()}


def test_another_training_that_adopts_it_goes_on_to_the_bit(tiny: NiNConfig) -> None:
    state, other = begun(tiny, seed=0), begun(tiny, seed=1)
    learn(state, 0, 3)
    tensors, plain = kept(state), state.read()[1]
    assert {name.partition(".")[0] for name in tensors} == {"network", "mean", "optimizer", "monitor", "thinning", "sums"}
    learn(other, 0, 1)
    other.adopt(tensors, plain)
    for each in (state, other):
        learn(each, 3, 3)
    found, expected = kept(other), kept(state)
    assert found.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(found[name], expected[name])] == []
    assert any(not torch.equal(tensors[name], expected[name]) for name in tensors)


def test_a_state_of_another_training_is_refused(tiny: NiNConfig) -> None:
    state = begun(tiny, seed=0)
    tensors, plain = kept(state), state.read()[1]
    with pytest.raises(RuntimeError, match="size mismatch for class_block"):
        begun(replace(tiny, num_classes=9), seed=0).adopt(tensors, plain)
    del tensors["sums"]
    with pytest.raises(KeyError, match="sums"):
        state.adopt(tensors, plain)


def test_a_last_block_drawn_anew_lives_and_nothing_remembers_the_one_before(tiny: NiNConfig) -> None:
    state = begun(replace(tiny, batch_norm=False), seed=0)
    learn(state, 0, 2)
    with torch.no_grad():
        for parameter in state.network.class_block.parameters():
            parameter.fill_(-1)
    before = kept(state)
    assert "whose class maps are alive" in state.draw_anew(RECIPE, 3, all_of_it=False)
    after = kept(state)
    drawn = {name.removeprefix("network.") for name in before if name.startswith("network.") and not torch.equal(before[name], after[name])}
    assert drawn
    assert all(name.startswith("class_block.") for name in drawn)
    assert bool((state.network.eval()(PICTURES) > 0).any(0).all())
    learned = {name.removeprefix("optimizer.").rpartition(".")[0] for name in before if name.startswith("optimizer.")}
    remembered = {name.removeprefix("optimizer.").rpartition(".")[0] for name in after if name.startswith("optimizer.")}
    assert learned - remembered == drawn
    assert all(torch.equal(after[f"mean.{name}"], after[f"network.{name}"]) for name in drawn)


def test_all_weights_drawn_anew_are_those_of_the_seed(tiny: NiNConfig) -> None:
    states = [begun(replace(tiny, batch_norm=False), seed) for seed in (0, 1)]
    for state in states:
        learn(state, 0, 1)
        assert "weights drawn anew" in state.draw_anew(RECIPE, 3, all_of_it=True)
        assert not any(optimizer.state for optimizer in state.optimizers)
    first, second = (below(kept(state), "network.") for state in states)
    assert all(torch.equal(first[name], second[name]) for name in first)
