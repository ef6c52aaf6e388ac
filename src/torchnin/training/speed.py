"""How fast networks predict and train on this machine, measured side by side."""

import copy
import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from torchnin.device import DeviceChoice, choose_device
from torchnin.models import FoldedNiN, NiN
from torchnin.training.optimisation import make_optimizers
from torchnin.training.recipe import Recipe

# At least so many rounds, whatever they take, so that there is a median; no more than so many, so that turns are not too short.
_FEWEST_ROUNDS, _MOST_ROUNDS = 3, 9
# The same step for all, so that the networks are compared and not their recipes.
_STEP = Recipe(optimizer="sgd", lr=1e-4, clip_norm=None)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rate:
    """Images per second over the rounds of a measurement."""

    median: float
    """The middle one of the rounds."""
    low: float
    """The slowest round."""
    high: float
    """The fastest round."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast a network is on one machine, at one batch size."""

    predict: Rate
    """The forward pass of batches, float32, as `Classifier.predict` computes it, without decoding."""
    train: Rate
    """Steps of SGD with momentum: forward, loss, backward, update, in the dtype that `choose_device` picks; without loading."""
    rounds: int
    """How many rounds were measured."""
    batch_size: int
    """Pictures in a batch."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return dataclasses.asdict(self)


def measure_speed(
    networks: Sequence[NiN],
    input_shapes: Sequence[tuple[int, int, int]],
    *,
    batch_size: int = 32,
    seconds: float = 20.0,
    device: str = "auto",
) -> tuple[Speed, ...]:
    """Images per second of each network, predicting and training.

    All take turns, round after round, so that whatever else the machine does meets all of them alike; each is run once or
    twice before anything is timed. The networks are copied, so their weights stay as they are. Pixels are random numbers.

    Args:
        networks: what to measure.
        input_shapes: `(channels, height, width)` of each one's pictures.
        batch_size: pictures in a batch, at least 2.
        seconds: for all turns together, above 0; slow networks may need more for the three rounds that are always measured.
        device: `auto`, or where to compute.

    Returns:
        One entry a network, in order. Prediction is float32; training is in the dtype that `choose_device` picks.

    Raises:
        ValueError: `seconds` or `batch_size` is out of range, or a network does not admit its pictures.
    """
    if not 0 < seconds < float("inf"):
        raise ValueError(f"seconds is {seconds}; it must be above 0")
    if batch_size < 2:
        raise ValueError(f"batch_size is {batch_size}; speed is measured with at least 2, as batch normalisation needs")
    plain, fast = choose_device(device, "float32"), choose_device(device)
    turns: list[Callable[[], None]] = []
    for network, shape in zip(networks, input_shapes, strict=True):
        turns += [_predicting(network, shape, batch_size, plain), _training(network, shape, batch_size, fast)]
    for turn in turns:
        _timed(turn, plain, 0.0)
        _timed(turn, plain, seconds / 100 / len(turns))
    share = seconds / (_MOST_ROUNDS * len(turns))
    rates: list[list[float]] = [[] for _ in turns]
    begun = time.perf_counter()
    while len(rates[0]) < _MOST_ROUNDS and (len(rates[0]) < _FEWEST_ROUNDS or time.perf_counter() - begun < seconds):
        for turn, found in zip(turns, rates, strict=True):
            found.append(batch_size * _timed(turn, plain, share))
    made = [Rate(median=statistics.median(found), low=min(found), high=max(found)) for found in rates]
    return tuple(
        Speed(predict=predict, train=train, rounds=len(rates[0]), batch_size=batch_size)
        for predict, train in zip(made[::2], made[1::2], strict=True)
    )


def _predicting(network: NiN, shape: tuple[int, int, int], batch_size: int, choice: DeviceChoice) -> Callable[[], None]:
    twin = FoldedNiN(choice.place(copy.deepcopy(network)).eval())
    pictures = torch.rand(batch_size, *shape, dtype=torch.float32, device=choice.device).contiguous(memory_format=choice.memory_format)

    def turn() -> None:
        with torch.inference_mode():
            twin(pictures)

    return turn


def _training(network: NiN, shape: tuple[int, int, int], batch_size: int, choice: DeviceChoice) -> Callable[[], None]:
    twin = choice.place(copy.deepcopy(network)).train()
    pictures = torch.rand(batch_size, *shape, dtype=torch.float32, device=choice.device).contiguous(memory_format=choice.memory_format)
    labels = torch.randint(twin.num_classes, (batch_size,), device=choice.device)
    optimizers = make_optimizers(twin, _STEP)

    def turn() -> None:
        with choice.autocast():
            logits = twin(pictures)
        for parameter in twin.parameters():
            parameter.grad = None
        F.cross_entropy(logits.float(), labels).backward()
        for optimizer in optimizers:
            optimizer.step()

    return turn


def _timed(turn: Callable[[], None], choice: DeviceChoice, seconds: float) -> float:
    """Calls per second over at least so many seconds, and at least one call."""
    begun, calls = time.perf_counter(), 0
    while True:
        turn()
        _wait(choice.device)
        calls += 1
        passed = time.perf_counter() - begun
        if passed >= seconds:
            return calls / passed


def _wait(device: torch.device) -> None:
    """Until the device has done what was asked of it; the CPU has, when the call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
