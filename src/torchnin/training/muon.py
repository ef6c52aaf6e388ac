"""Muon for convolutions: momentum whose matrices are orthogonalised before they move the weights."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from torchnin.training.descent import Descent

# A quintic iteration whose slope at zero is steep: a few steps bring all singular values near 1, which is all that is wanted.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_ITERATIONS = 4  # enough at this size
_SMALLEST_NORM = 1e-12  # of weights that are all zero, which stay so


class Muon(Descent):
    """Steepest descent in the spectral norm, for convolution weights seen as matrices (out, in * kernel * kernel).

    torch.optim.Muon takes only parameters of two dimensions, and a 1x1 convolution's weight has four; hence this one.

    Args:
        parameters: convolution weights `(out, in, k, k)`.
        lr: step in units of the weights: every update has singular values near 1, times `sqrt(max(1, out / (in * k * k)))`.
        momentum: of the gradient, in Nesterov's form, in [0, 1).
        keep_norms: bring every weight back to the norm that it began with. An update adds to the norm, so that later ones turn the weight
            less and less; with the norms kept the learning rate alone says by how much.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); KellerJordan/cifar10-airbench.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], *, lr: float, momentum: float, keep_norms: bool = False) -> None:
        super().__init__([{"params": list(parameters)}], lr=lr, momentum=momentum)
        self._keep_norms = keep_norms

    @torch.no_grad()
    def step(self) -> None:
        """One update of every weight that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                    if self._keep_norms:
                        state["norm"] = parameter.norm()
                buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(parameter.grad)
                direction = parameter.grad.add(buffer, alpha=group["momentum"])
                # Channels last is how the weights lie in memory, so this order makes the matrix without a copy.
                matrix = direction.permute(0, 2, 3, 1).reshape(len(direction), -1)
                update = orthogonalised(matrix) * max(1.0, matrix.shape[0] / matrix.shape[1]) ** 0.5
                out, channels, height, width = parameter.shape
                update = update.reshape(out, height, width, channels).permute(0, 3, 1, 2)
                if isinstance(group["lr"], Tensor):  # on the weights' device, where it is not waited for
                    parameter.sub_(update * group["lr"])
                else:
                    parameter.sub_(update, alpha=group["lr"])
                if self._keep_norms:
                    parameter.mul_(state["norm"] / parameter.norm().clamp_min(_SMALLEST_NORM))


def orthogonalised(matrix: Tensor) -> Tensor:
    """A matrix with the singular vectors of the given one `(m, n)` and singular values near 1 (0.7 to 1.2)."""
    a, b, c = _COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.T if tall else matrix
    x = x / (x.norm() + 1e-7)
    if x.shape[1] < 2 * x.shape[0]:
        for _ in range(_ITERATIONS):
            gram = x @ x.T
            x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    else:
        # The same iteration on the small Gram matrix; the wide matrix is multiplied once, at the end.
        gram = x @ x.T
        product = torch.eye(len(gram), device=x.device, dtype=x.dtype)
        for _ in range(_ITERATIONS):
            factor = torch.addmm(gram, gram, gram, beta=b, alpha=c)
            factor.diagonal().add_(a)
            product = factor @ product
            gram = factor @ gram @ factor
        x = product @ x
    return x.T if tall else x
