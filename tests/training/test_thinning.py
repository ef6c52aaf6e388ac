"""Easy pictures are seen less often, count more, and nothing else changes."""

import torch

from torchnin.training.thinning import Thinning

SHARE = 0.6


def thinned(num_pictures: int = 1000) -> Thinning:
    """Half of the pictures have been found easy, in the second of five epochs."""
    thinning = Thinning(num_pictures, SHARE, 5, seed=0, device=torch.device("cpu"))
    thinning.begin_epoch(0)
    thinning.note(torch.arange(num_pictures), torch.arange(num_pictures).float())
    thinning.begin_epoch(1)
    return thinning


def test_an_epoch_has_as_many_pictures_as_ever_and_hard_ones_in_every_pass() -> None:
    thinning = thinned()
    order = thinning.order(1)
    assert order is not None
    assert len(order) == 1000
    seen = torch.bincount(order, minlength=1000)
    assert seen[500:].min() >= 1
    assert seen[:500].float().mean() < 0.6 * seen[500:].float().mean()
    assert torch.equal(order, thinned().order(1))


def test_weights_keep_the_expected_gradient() -> None:
    thinning = thinned(100_000)
    losses = torch.arange(100_000).float()
    order = thinning.order(1)
    assert order is not None
    estimate = float((losses[order] * thinning.weights(order)).double().sum() / thinning.weights(order).double().sum())
    assert abs(estimate / float(losses.double().mean()) - 1) < 0.02


def test_the_first_epoch_and_the_last_fifth_are_whole() -> None:
    thinning = thinned()
    assert [thinning.order(epoch) is None for epoch in range(5)] == [True, False, False, False, True]
    thinning.begin_epoch(4)
    assert torch.equal(thinning.weights(torch.arange(1000)), torch.ones(1000))
