import pytest
import torch
from torch import nn

from torchnin import NiN, NiNConfig, Recipe
from torchnin.training.muon import Muon, orthogonalised
from torchnin.training.optimisation import make_optimizers


def test_norms_are_kept_where_the_recipe_asks(tiny: NiNConfig) -> None:
    network = NiN(tiny)
    kernels = [parameter for parameter in network.parameters() if parameter.ndim == 4][1:-1]
    for keep in (True, False):
        before = [float(kernel.detach().norm()) for kernel in kernels]
        sgd, muon = make_optimizers(network, Recipe(optimizer="muon", keep_norms=keep))
        assert len(sgd.param_groups[0]["params"]) == 2  # the first convolution and the last, which are free
        for _ in range(3):
            network(torch.rand(4, 1, 28, 28)).square().sum().backward()
            muon.step()
        after = [float(kernel.detach().norm()) for kernel in kernels]
        assert (after == pytest.approx(before, rel=1e-5)) is keep


@pytest.mark.parametrize("gradient", [0.0, 1.0])
def test_weights_of_zero_stay_zero_where_norms_are_kept(gradient: float) -> None:
    kernel = nn.Parameter(torch.zeros(4, 3, 1, 1))
    kernel.grad = torch.full_like(kernel, gradient)
    Muon([kernel], lr=0.1, momentum=0.6, keep_norms=True).step()
    assert torch.equal(kernel, torch.zeros_like(kernel))


@pytest.mark.parametrize("shape", [(6, 6), (5, 8), (4, 40), (40, 4), (1, 7), (7, 1)])
def test_the_singular_vectors_stay_and_the_values_come_near_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    left, _, right = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linspace(1, 0.1, min(shape))  # a matrix whose directions are all seen
    turned = left.T @ orthogonalised(left @ values.diag() @ right) @ right.T
    assert 0.6 < float(turned.diagonal().min()) <= float(turned.diagonal().max()) < 1.3
    torch.testing.assert_close(turned, turned.diagonal().diag(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("shape", [(6, 3, 1, 1), (4, 5, 3, 3)])
def test_a_step_is_as_long_as_the_rate_says_however_large_the_gradient(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    begin, slope = torch.randn(shape), torch.randn(shape)
    moved = []
    for size, lr in ((1.0, 0.1), (1000.0, 0.1), (1.0, torch.tensor(0.1))):
        kernel = nn.Parameter(begin.clone())
        optimizer = Muon([kernel], lr=0.1, momentum=0.6)
        optimizer.param_groups[0]["lr"] = lr  # on a GPU the rate is a tensor, which is not waited for
        kernel.grad = slope * size
        optimizer.step()
        moved.append(begin - kernel.detach())
    for other in moved[1:]:
        torch.testing.assert_close(other, moved[0], rtol=1e-4, atol=1e-5)
    matrix = slope.permute(0, 2, 3, 1).reshape(shape[0], -1)
    wide = max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
    expected = 0.1 * wide * orthogonalised(matrix).reshape(shape[0], *shape[2:], shape[1]).permute(0, 3, 1, 2)
    torch.testing.assert_close(moved[0], expected, rtol=1e-4, atol=1e-5)


def test_weights_that_no_loss_reaches_stay_where_they_are() -> None:
    kernel = nn.Parameter(torch.ones(2, 2, 1, 1))
    optimizer = Muon([kernel], lr=0.1, momentum=0.6)
    optimizer.step()
    assert torch.equal(kernel, torch.ones(2, 2, 1, 1))
    assert not optimizer.state
