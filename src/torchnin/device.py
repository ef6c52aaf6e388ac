"""Which device, which number format and which memory layout to compute in, and why."""

import ctypes
import dataclasses
import os
import platform
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

# What CPU allocators, oneDNN, cuDNN, cuBLAS and Metal say; only CUDA's own allocator has an error type for it.
_SAYINGS = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "Cannot allocate memory",
    "std::bad_alloc",
    "Failed to allocate memory",  # onnxruntime
    "could not create a memory object",
    "could not create a primitive",  # which oneDNN says of other failures too, and smaller pieces do not help those
    "ALLOC_FAILED",
)
# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_MMAP_MAX = -1, -2, -3, -4
_Module = TypeVar("_Module", bound=nn.Module)
_Rows = TypeVar("_Rows", Tensor, np.ndarray)
DtypeName = Literal["auto", "float32", "bfloat16"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class DeviceChoice:
    """Where and how tensors are computed, with one sentence of reason for each choice."""

    device: torch.device
    """The device that holds the network and the batches."""
    dtype: torch.dtype
    """float32, or bfloat16 under autocast; parameters and their updates are float32 either way."""
    memory_format: torch.memory_format
    """Layout of pictures and convolution weights."""
    reasons: dict[str, str]
    """Why: a sentence for each of `device`, `dtype`, `memory_format`."""

    def autocast(self) -> AbstractContextManager[Any]:
        """The context for a forward pass: autocast in bfloat16, nothing in float32."""
        if self.dtype == torch.float32:
            return nullcontext()
        # torch keeps its bfloat16 copies of the weights until the outermost autocast ends: inside another one they would outlast updates.
        return torch.autocast(self.device.type, self.dtype, cache_enabled=False)

    def place(self, network: _Module) -> _Module:
        """Move a network to the device and lay out its weights, in place."""
        network.to(self.device)
        # torch's annotations lack the overload that takes a layout alone
        return network.to(memory_format=self.memory_format)  # type: ignore[call-overload]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as written to a run's `config.json`."""
        return {
            "device": str(self.device),
            "dtype": str(self.dtype).removeprefix("torch."),
            "memory_format": str(self.memory_format).removeprefix("torch."),
            "threads": torch.get_num_threads(),
            "reasons": dict(self.reasons),
        }

    def __str__(self) -> str:
        values = self.to_dict()
        return "\n".join(f"{name}: {values[name]} ({self.reasons[name]})" for name in ("device", "dtype", "memory_format"))


def choose_device(device: str = "auto", dtype: DtypeName = "auto") -> DeviceChoice:
    """Choose device, dtype and memory format, or check the ones asked for.

    Args:
        device: `auto`, `cpu`, `cuda`, `cuda:1`, `mps`.
        dtype: `auto` takes bfloat16 only where the processor computes in it: emulated, it is slower than float32.

    Raises:
        ValueError: the device is not known, or not present on this machine.
    """
    chosen, why_device = _device(device)
    computes, why = _computes_in_bfloat16(chosen)
    if dtype == "auto":
        number, why_dtype = (torch.bfloat16 if computes else torch.float32), why
    elif dtype in ("float32", "bfloat16"):
        number, why_dtype = getattr(torch, dtype), "asked for" + ("" if computes or dtype == "float32" else f", though {why}")
    else:
        raise ValueError(f"dtype is {dtype!r}; accepted: auto, float32, bfloat16")
    layout, why_layout = torch.channels_last, "convolutions run faster on pictures whose channels lie together"
    if chosen.type == "mps":
        layout, why_layout = torch.contiguous_format, "Metal's convolutions expect it"
    return DeviceChoice(
        device=chosen,
        dtype=number,
        memory_format=layout,
        reasons={"device": why_device, "dtype": why_dtype, "memory_format": why_layout},
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that host or device had no memory left."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(saying in str(error) for saying in _SAYINGS)


def release_memory(device: torch.device) -> None:
    """Give back to the system, or to the GPU's other programs, what was freed and is kept for later; and keep less from now on."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        # `nin` keeps freed memory for the next step (commands/process.py). Where memory is short, pieces of it between others serve
        # nobody else, such as oneDNN, which compiles code for each number of pictures; so from now on large pieces go back at once.
        for setting, value in ((_M_MMAP_MAX, 65536), (_M_MMAP_THRESHOLD, 1 << 20), (_M_TRIM_THRESHOLD, 1 << 20), (_M_TOP_PAD, 1 << 17)):
            libc.mallopt(setting, value)
        libc.malloc_trim(0)


@cache
def survive_forks() -> None:
    """From now on, have processes that are forked from this one compute with one thread of torch's.

    Threads are not forked along: where this process has computed with several, a forked one that did so too would wait for them for ever.
    """
    if hasattr(os, "register_at_fork"):  # no forks on Windows
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def within_memory(work: Callable[[_Rows], _Rows], pictures: _Rows, join: Callable[[list[_Rows]], _Rows]) -> _Rows:
    """What `work` makes of some pictures, a row each; where memory is short, of each half of them on its own, down to single ones.

    `join` puts the rows of the halves together: `torch.cat`, `np.concatenate`.
    """
    try:
        return work(pictures)
    except (RuntimeError, MemoryError) as error:
        if len(pictures) < 2 or not is_out_of_memory(error):
            raise
    # Not in the handler, where the error's traceback still holds what was computed.
    release_memory(pictures.device if isinstance(pictures, Tensor) else torch.device("cpu"))
    half = len(pictures) // 2
    return join([within_memory(work, pictures[:half], join), within_memory(work, pictures[half:], join)])


def _device(name: str) -> tuple[torch.device, str]:
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda"), f"a GPU is present: {torch.cuda.get_device_name()}"
        if torch.backends.mps.is_available():
            return torch.device("mps"), "Apple's GPU is present"
        return torch.device("cpu"), "no GPU is present"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"{name!r} is no device; accepted: auto, cpu, cuda, cuda:0, mps") from error
    present = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device.type == "cuda" and present["cuda"] and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(f"device is {name!r}; this machine has cuda:0 to cuda:{torch.cuda.device_count() - 1}")
    if not present.get(device.type, False):
        raise ValueError(f"device is {name!r}; present on this machine: {', '.join(kind for kind, there in present.items() if there)}")
    return device, "asked for"


def _computes_in_bfloat16(device: torch.device) -> tuple[bool, str]:
    if device.type == "cuda":
        if torch.cuda.get_device_capability(device) >= (8, 0):
            return True, "the GPU multiplies bfloat16 on its matrix units"
        return False, "this GPU has no bfloat16 units"
    if device.type == "cpu":
        # Private names: where a torch has them no more we cannot know, and float32 is always right.
        for probe, unit in (("_is_amx_tile_supported", "AMX"), ("_is_avx512_bf16_supported", "AVX-512 BF16")):
            if getattr(torch.cpu, probe, lambda: False)():
                return True, f"the processor computes in bfloat16 ({unit})"
        return False, "the processor has no bfloat16 arithmetic"
    return False, "float32 is the safe choice on this device"
