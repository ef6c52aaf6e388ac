"""The processes that train one network together: who they are, and what they tell each other."""

import contextlib
import dataclasses
import datetime
import json
import os
import socket
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from torchnin.training.errors import EndedElsewhere, LostProcessError

# Longer than any step and any checkpoint takes: a process that does not answer for so long will not answer at all.
_TIMEOUT = datetime.timedelta(minutes=5)
# While the first process reads or evaluates, the others wait as long as it takes; that it was killed, they notice at once.
_PATIENCE = datetime.timedelta(days=7)
# What the errors of a connection that broke have in common; torch raises them as plain RuntimeErrors.
_BROKEN = ("gloo", "NCCL", "monitoredBarrier", "Connection closed by peer", "Connection reset by peer", "Broken pipe", "TCPStore")
_VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")


@dataclasses.dataclass(frozen=True)
class Processes:
    """The process that runs this and those that train with it. Alone, every exchange gives back what it was given.

    Whatever decides the course of a training is the same in all of them, so that none goes one way and the others another.
    """

    rank: int = 0
    """Which of them this is, from 0."""
    count: int = 1
    """How many there are."""
    local_rank: int = 0
    """Which of those on this host this is, from 0; the number of its GPU."""
    control: "dist.ProcessGroup | None" = None
    """The group for plain values on the host; tensors of the device go through torch's default group."""

    @property
    def alone(self) -> bool:
        """Whether there are no others."""
        return self.count == 1

    @property
    def first(self) -> bool:
        """Whether this is the one that writes, and speaks to the user."""
        return self.rank == 0

    def device_name(self, asked: str) -> str:
        """The device of this process: each of several processes on a host has a GPU of its own.

        Raises:
            ValueError: the device that was asked for is one that several processes cannot train on.
        """
        if self.alone:
            return asked
        kind = asked.partition(":")[0]
        if kind == "auto":
            kind = "cuda" if torch.cuda.is_available() else "cpu"
        if kind not in ("cpu", "cuda") or ":" in asked:
            raise ValueError(
                f"device is {asked!r}; {self.count} processes train on cpu, or on cuda, where each takes the GPU of its number"
            )
        if kind == "cpu" and dist.get_backend() == "nccl":
            # Known too late: which of the two the processes talk by is settled before they can tell each other of a run.
            raise ValueError("the run was begun on the processor, and its processes have joined to train on GPUs; give --device cpu anew")
        return f"cuda:{self.local_rank}" if kind == "cuda" else "cpu"

    def summed(self, tensor: Tensor) -> Tensor:
        """The sum over all processes of a tensor, which is changed."""
        if not self.alone:
            dist.all_reduce(tensor)
        return tensor

    def whole(self, values: Tensor, part: slice, count: int) -> Tensor:
        """The values of a whole batch of `count` pictures, of which this process has those of `part`; exact."""
        if self.alone:
            return values
        whole = values.new_zeros(count, *values.shape[1:])
        whole[part] = values
        return self.summed(whole)

    def highest(self, number: int) -> int:
        """The highest of the numbers that the processes give."""
        if self.alone:
            return number
        told = torch.tensor(number, device="cpu")
        dist.all_reduce(told, dist.ReduceOp.MAX, group=self.control)
        return int(told)

    def told(self, data: bytes) -> bytes:
        """What the first process gives, in every process; what the others give is ignored."""
        if self.alone:
            return data
        length = torch.tensor(len(data), device="cpu")
        dist.broadcast(length, 0, group=self.control)
        room = torch.zeros(int(length), dtype=torch.uint8, device="cpu")
        content = torch.frombuffer(bytearray(data), dtype=torch.uint8) if self.first else room
        if len(content):
            dist.broadcast(content, 0, group=self.control)
        return content.numpy().tobytes()

    def told_plain(self, values: Any) -> Any:
        """`told` for plain values, which come back as JSON has them: tuples as lists."""
        return json.loads(self.told(json.dumps(values).encode()))

    def adopt_first(self, tensor: Tensor) -> None:
        """Overwrite a tensor with the first process's: what each has computed may differ in its last bit on another machine."""
        if not self.alone:
            told = self.told(tensor.detach().cpu().numpy().tobytes())
            tensor.data.copy_(torch.frombuffer(bytearray(told), dtype=tensor.dtype).view(tensor.shape))

    def wait(self) -> None:
        """Until all have come here, however long it takes."""
        if not self.alone:
            dist.monitored_barrier(self.control, timeout=_PATIENCE)

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Around what may fail in one process and not in another: all come out of it, or none.

        Raises:
            EndedElsewhere: it failed in another process, which raises its own error and says why.
        """
        failure: Exception | None = None
        try:
            yield
        except EndedElsewhere:
            raise
        except Exception as error:
            if self.alone or is_broken_connection(error):
                raise
            failure = error
        self.wait()
        # The first of those that failed says why, and what it says is said once.
        speaker = self.count - self.highest(0 if failure is None else self.count - self.rank)
        if failure is not None and speaker == self.rank:
            raise failure
        if speaker < self.count:
            raise EndedElsewhere(f"process {speaker + 1} of {self.count} could not go on; its own message says why")


ALONE = Processes()
_joined: Processes | None = None
_joinings = 0  # how often this process has met the others


def launched() -> bool:
    """Whether this process was started as one of several, by torchrun or as torchrun does."""
    return all(name in os.environ for name in _VARIABLES) and int(os.environ["WORLD_SIZE"]) > 1


@contextlib.contextmanager
def joined(device: str | torch.device = "auto") -> Iterator[Processes]:
    """The processes that train together, from the environment that torchrun sets; a training alone where there is none.

    Inside another `joined`, it is that one's.

    Args:
        device: `auto`, `cpu`, `cuda`: what they will train on. GPUs talk by NCCL, processors by gloo.

    Raises:
        LostProcessError: another process ended, or does not answer.
    """
    global _joined, _joinings
    device = str(device)
    if _joined is not None or not launched():
        yield _joined or ALONE
        return
    rank, count, local_rank = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    gpu = torch.cuda.is_available() and (device == "auto" or device.startswith("cuda"))
    try:
        ours = not dist.is_initialized()
        if gpu and local_rank < torch.cuda.device_count():
            torch.cuda.set_device(local_rank)
        if ours:
            from torch.distributed.distributed_c10d import PrefixStore
            from torch.distributed.rendezvous import rendezvous

            # torchrun keeps what was said at an earlier joining, to which the next one would listen: each has keys of its own.
            store = PrefixStore(f"joining {_joinings}", next(rendezvous("env://", timeout=_TIMEOUT))[0])
            _joinings += 1
            dist.init_process_group("nccl" if gpu else "gloo", store=store, rank=rank, world_size=count, timeout=_TIMEOUT)
        _joined = Processes(rank, count, local_rank, dist.new_group(backend="gloo", timeout=_TIMEOUT))
        yield _joined
        if ours:
            dist.destroy_process_group()
    except RuntimeError as error:
        if not is_broken_connection(error):
            raise
        raise LostProcessError(
            f"process {rank + 1} of {count} on {socket.gethostname()} has lost the others: one of them ended or was killed, or the network "
            f"between them broke ({_why(error)}); go on from the last checkpoint with --resume"
        ) from error
    finally:
        _joined = None


def is_broken_connection(error: BaseException) -> bool:
    """Whether an error says that another process is gone or does not answer."""
    return isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and any(word in str(error) for word in _BROKEN))


def _why(error: BaseException) -> str:
    """What torch says, without the place in its source and without its advice."""
    said = str(error).strip().partition("\n")[0].partition(". ")[0]
    return said.partition("] ")[2] if said.startswith("[/") else said
