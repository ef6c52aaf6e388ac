"""What moves the weights: groups of parameters with what is set for them, and what is remembered of each."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.sgd import sgd


class Descent:
    """As much of torch.optim.Optimizer as a training needs.

    That class imports torch's compiler when an optimizer is made, which takes longer than many an epoch here and is of no use here.

    Args:
        groups: of each the `params`, and what is set for them in place of the `defaults`.
        **defaults: what is set for every group, `lr` among them.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], **defaults: Any) -> None:
        self.param_groups = [{**defaults, **group} for group in groups]
        self.state: defaultdict[Tensor, dict[str, Tensor]] = defaultdict(dict)

    def step(self) -> None:
        """One update of every weight that has a gradient."""
        raise NotImplementedError


class SGD(Descent):
    """torch.optim.SGD with `foreach`, computed by its own function: to the bit the same.

    Args:
        groups: see `Descent`; each sets its `weight_decay`.
        lr: learning rate; a group's `lr` may be a tensor of one value on the weights' device, which is not waited for.
        momentum: in Nesterov's form, in [0, 1).
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float, momentum: float) -> None:
        super().__init__(groups, lr=lr, momentum=momentum)

    @torch.no_grad()
    def step(self) -> None:
        """One update of every weight that has a gradient."""
        for group in self.param_groups:
            parameters: list[nn.Parameter] = [parameter for parameter in group["params"] if parameter.grad is not None]
            if isinstance(group["lr"], Tensor):
                self._step_on_device(group, parameters)
                continue
            buffers = [self.state[parameter].get("momentum_buffer") for parameter in parameters] if group["momentum"] else []
            sgd(
                list(parameters),
                [parameter.grad for parameter in parameters if parameter.grad is not None],
                buffers or [None] * len(parameters),
                foreach=True,
                weight_decay=group["weight_decay"],
                momentum=group["momentum"],
                lr=group["lr"],
                dampening=0.0,
                nesterov=group["momentum"] > 0,
                maximize=False,
            )
            # Where it was None, in a parameter's first step, the function has put the new buffer into the list.
            for parameter, buffer in zip(parameters, buffers, strict=False):
                assert buffer is not None
                self.state[parameter]["momentum_buffer"] = buffer

    def _step_on_device(self, group: dict[str, Any], parameters: list[nn.Parameter]) -> None:
        """The same, to rounding, with a learning rate that lies on the device, which torch's function would wait for."""
        weights: Any = list(parameters)
        changes: Any = [parameter.grad for parameter in parameters]
        if group["weight_decay"]:
            changes = torch._foreach_add(changes, weights, alpha=group["weight_decay"])
        if momentum := group["momentum"]:
            for parameter in parameters:
                if "momentum_buffer" not in self.state[parameter]:
                    self.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter, requires_grad=False)
            buffers = [self.state[parameter]["momentum_buffer"] for parameter in parameters]
            torch._foreach_mul_(buffers, momentum)
            torch._foreach_add_(buffers, changes)
            changes = torch._foreach_add(changes, buffers, alpha=momentum)
        moves: Any = torch._foreach_mul(changes, group["lr"])
        torch._foreach_sub_(weights, moves)
