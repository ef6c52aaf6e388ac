"""Ways of our own give what torch's kernels give also where PyTorch asks for more than one gradient."""

import pytest
import torch
from torch.autograd import forward_ad

from torchnin import create_model
from torchnin.models import rectified
from torchnin.models.passes import FusedReLU


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ["nin_small", "nin_mnist"])
def test_gradients_of_several_outputs_at_once(name: str, autocast: bool) -> None:
    torch.manual_seed(0)
    network = create_model(name, dropout=0.0).to(torch.float32)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = network(torch.randn(2, 1, 28, 28).contiguous(memory_format=torch.channels_last))
    directions = torch.randn(3, *logits.shape).to(logits.dtype)
    weights = list(network.parameters())
    together = torch.autograd.grad(logits, weights, directions, is_grads_batched=True, retain_graph=True)
    for number, direction in enumerate(directions):
        for found, alone in zip(together, torch.autograd.grad(logits, weights, direction, retain_graph=True), strict=True):
            assert (found[number] - alone).norm() <= (5e-2 if autocast else 1e-4) * alone.norm() + 1e-5


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own
@pytest.mark.parametrize("name", ["nin_small", "nin_mnist"])
def test_derivatives_are_carried_forward_as_well(name: str) -> None:
    network, pictures = create_model(name, dropout=0.0).to(torch.float32), torch.randn(2, 1, 28, 28)
    with forward_ad.dual_level():
        found = forward_ad.unpack_dual(network(forward_ad.make_dual(pictures, torch.ones_like(pictures)))).tangent
    expected = torch.autograd.functional.jvp(network, pictures, torch.ones_like(pictures))[1]
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("way", [rectified.Way(winograd=True), rectified.Way(pixels=True)])
def test_the_way_back_is_in_the_dtype_of_the_way_forward(way: rectified.Way) -> None:
    kernel = 3 if way.winograd else 1
    pictures, weight = (torch.randn(4, 48, side, side).contiguous(memory_format=torch.channels_last) for side in (24, kernel))
    values = pictures.requires_grad_(), weight.requires_grad_()
    output = rectified.Convolution.apply(*values, None, (1, 1), (kernel // 2,) * 2, way, FusedReLU(), None)
    expected = torch.autograd.grad(output.sum(), values, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(output.sum(), values)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("name", ["nin_small", "nin_mnist"])
def test_hooks_may_lay_out_anew_what_is_saved_for_the_way_back(name: str, autocast: bool) -> None:
    """As `save_on_cpu(pin_memory=True)` does: in the order of the shape, not in that of memory."""
    network = create_model(name, dropout=0.0).to(torch.float32, memory_format=torch.channels_last)
    pictures, weights = torch.randn(8, 1, 28, 28), list(network.parameters())

    def loss() -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            return network(pictures).float().square().sum()

    expected = torch.autograd.grad(loss(), weights)
    with torch.autograd.graph.saved_tensors_hooks(torch.Tensor.contiguous, lambda values: values):
        moved = loss()
    for found, here in zip(torch.autograd.grad(moved, weights), expected, strict=True):
        assert (found - here).norm() <= (5e-2 if autocast else 1e-4) * here.norm()
