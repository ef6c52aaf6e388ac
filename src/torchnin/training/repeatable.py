"""The same bits twice: what torch has to be told for it."""

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"


@contextlib.contextmanager
def repeatable(wanted: bool | None, device: torch.device) -> Iterator[bool]:
    """While open, the same seed, machine and number of threads give the same bits, where that is wanted.

    Args:
        wanted: None where it costs nothing, which is on a CPU.
        device: where the training computes.

    Yields:
        Whether it is so.

    Raises:
        ValueError: CUDA is in use already and was not told to be repeatable.
    """
    if not (device.type == "cpu" if wanted is None else wanted):
        tried = torch.backends.cudnn.benchmark
        torch.backends.cudnn.benchmark = True  # a GPU tries its ways to convolve, and takes the fastest, which may be another each time
        try:
            yield False
        finally:
            torch.backends.cudnn.benchmark = tried
        return
    if device.type == "cuda" and os.environ.get(_CUBLAS) not in (":4096:8", ":16:8"):
        if torch.cuda.is_initialized() and torch.cuda.memory_allocated(device):
            raise ValueError(
                f"the GPU's matrix products are repeatable only with {_CUBLAS}=:4096:8 in the environment from the start; set it"
            )
        os.environ[_CUBLAS] = ":4096:8"
    mode = torch.get_deterministic_debug_mode()
    memory: Any  # torch declares its setting without a type
    cudnn, memory = torch.backends.cudnn, torch.utils.deterministic
    before = cudnn.benchmark, cudnn.deterministic, memory.fill_uninitialized_memory
    # use_deterministic_algorithms() does the same, and then tells torch's compiler, which it imports for that: seconds, for nothing here
    # is compiled.
    torch.set_deterministic_debug_mode("error")
    cudnn.benchmark, cudnn.deterministic = False, True
    memory.fill_uninitialized_memory = False  # nothing here reads what was not written, and filling takes time
    try:
        yield True
    finally:
        torch.set_deterministic_debug_mode(mode)
        cudnn.benchmark, cudnn.deterministic, memory.fill_uninitialized_memory = before
