"""What PyTorch may ask of a way of our own beside its gradient: other derivatives, which its own kernels know, and other dtypes."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy


def have_memory(*values: Tensor | None) -> bool:
    """Whether values lie on the host, with memory to point to: other kinds, as those that have a shape alone, have none."""
    return all(each is None or (type(each) in (Tensor, nn.Parameter) and each.device.type == "cpu") for each in values)


def is_traced(values: Tensor | Proxy) -> bool:
    """Whether what is done to values is written down, to be done to others: by `torch.compile`, `torch.jit.trace` or `torch.fx`."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None or isinstance(values, Proxy)


def are_transformed() -> bool:
    """Whether values stand for many at once or for derivatives (`torch.func`), and have no memory to point to."""
    # A private name: where it is absent there is nothing to ask.
    return bool(getattr(torch._C, "_are_functorch_transforms_active", lambda: False)())


def go_forward() -> bool:
    """Whether derivatives are carried forward (`torch.autograd.forward_ad`)."""
    return bool(getattr(torch.autograd.forward_ad, "_current_level", -1) >= 0)


def need_torch(grad: Tensor) -> bool:
    """Whether the way back must be one of torch's own kernels: the gradients are to have gradients, or stand for many at once."""
    stands_for_many = getattr(getattr(torch._C, "_functorch", None), "is_legacy_batchedtensor", lambda _grad: False)
    return torch.is_grad_enabled() or are_transformed() or bool(stands_for_many(grad))


def in_its_memory(*saved: Any) -> tuple[Any, ...]:
    """What was saved for the way back, `(n, c, h, w)`, or None: in channels-last memory again, as hooks may have laid it out anew.

    `torch.autograd.graph.save_on_cpu(pin_memory=True)` does.
    """
    return tuple(None if each is None else each.contiguous(memory_format=torch.channels_last) for each in saved)


def found(
    output: Callable[[], Tensor], values: tuple[Tensor | None, ...], wanted: tuple[bool, ...], grad: Tensor
) -> tuple[Tensor | None, ...]:
    """The gradients of those values that are wanted, by torch's own kernels; with gradients of their own where these are asked for.

    Args:
        output: computes from the values what `grad` is of.
        values: whose gradients.
        wanted: which of them.
        grad: of the output.
    """
    again = torch.is_grad_enabled()
    asked = [value for value, want in zip(values, wanted, strict=True) if want and value is not None]
    with torch.enable_grad():
        gradients = iter(torch.autograd.grad(output(), asked, grad, create_graph=again))
    return tuple(next(gradients) if want else None for want in wanted)


def in_own_dtype(way_back: Callable[[Any, Tensor], Any]) -> Callable[[Any, Tensor], Any]:
    """A way back which is that of the way forward also where autocast is on by then."""

    @functools.wraps(way_back)
    def found(ctx: Any, grad: Tensor) -> Any:
        if not torch.is_autocast_enabled("cpu"):
            return way_back(ctx, grad)
        with torch.autocast("cpu", enabled=False):
            return way_back(ctx, grad)

    return found
