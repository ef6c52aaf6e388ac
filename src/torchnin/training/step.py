"""One step of a training: gradient, clipping, update, and what is counted; on a GPU recorded once and launched as a whole."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from torchnin.data import Batch
from torchnin.device import release_memory
from torchnin.models import NiN
from torchnin.training.descent import Descent
from torchnin.training.gradient import BatchGradient
from torchnin.training.monitor import Finite, Monitor
from torchnin.training.optimisation import WeightMean, gradient_norm
from torchnin.training.recipe import Recipe
from torchnin.training.thinning import Thinning

# Steps that a GPU takes one by one before one is recorded: libraries choose their ways and memory meanwhile.
_STEPS_BEFORE_RECORDING = 3
# Every so many steps the weights are looked at, beside loss and gradient, which tell of most that is wrong with them a step later. It takes
# more than a hundredth of a small step; before a state is saved, and at the end of an epoch, it is done in any case.
_WEIGHTS_EVERY = 20

Recorder = Callable[[Callable[[], None], torch.Generator], Callable[[], None]]
"""Records what some work asks of the device, without doing it, and gives what does it: as often as it is called, on the same tensors."""


class Step:
    """Moves the weights by one batch.

    On a GPU, asking for the few hundred kernels of a step one by one takes longer than computing a small network. So steps of whole
    batches are recorded as a CUDA graph. What changes from one to the next lies in tensors that stay where they are: the batch, the
    learning rates, the share of the running mean; random numbers are drawn with the step's own seeds, recorded or not.

    Args:
        network, recipe, num_steps, gradient, optimizers, mean, thinning, monitor, finite: the training's.
        sums: `(3,)`: loss, right answers and pictures, to which every step adds.
        look_every: whether loss, gradient and weights are finite is looked at in every so many steps.
        record: None where nothing is recorded.
    """

    def __init__(
        self,
        network: NiN,
        recipe: Recipe,
        num_steps: int,
        *,
        gradient: BatchGradient,
        optimizers: list[Descent],
        mean: WeightMean | None,
        thinning: Thinning | None,
        monitor: Monitor,
        finite: Finite,
        sums: Tensor,
        look_every: int,
        record: Recorder | None,
    ) -> None:
        self.network, self.recipe, self.num_steps = network, recipe, num_steps
        self.gradient, self.optimizers, self.mean, self.thinning = gradient, optimizers, mean, thinning
        self.monitor, self.finite, self.sums, self.look_every, self.record = monitor, finite, sums, look_every, record
        self._mean_share: Tensor | float = 0.0
        if record is not None:
            self._mean_share = torch.zeros((), dtype=torch.float32, device=sums.device)
            for group in self._groups():
                group["lr"] = torch.zeros((), dtype=torch.float32, device=sums.device)
        gradient.spare = self._give_up_recording
        self.forget()

    def forget(self) -> None:
        """Record anew: tensors that a step works on are others now."""
        self._alone = 0
        self._again: Callable[[], None] | None = None
        self._batch: Batch | None = None
        self._found: tuple[Tensor, Tensor | None] | None = None

    def _give_up_recording(self) -> bool:
        """Go on without a recorded step, which has memory of its own beside that of the others; whether there was one."""
        if self._again is None:
            return False
        self.forget()
        self.record = None
        for parameter in self.network.parameters():
            parameter.grad = None
        release_memory(self.sums.device)
        return True

    def __call__(self, batch: Batch, step: int, lr_scale: float) -> None:
        """Do a step (from 0).

        Args:
            batch: its pictures.
            step: decides learning rate and random numbers.
            lr_scale: of the recipe's learning rate.

        Raises:
            DivergenceError: loss, gradient or weights are not finite.
            OutOfMemoryError: see `BatchGradient`.
        """
        self._set(step, lr_scale)
        look = step % self.look_every == 0
        if self._recorded(batch, step):
            assert self._again is not None
            self.gradient.draw(step)
            self._again()
            if look:
                self._look(step)
        else:
            self._work(batch, step, look=look)
            self._alone += 1

    def _set(self, step: int, lr_scale: float) -> None:
        self.finite.lr_scale = lr_scale
        share = lr_scale * self.recipe.lr_share(step, self.num_steps)
        for group in self._groups():
            rate = share * group["peak_lr"]
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate
        if self.mean is not None:
            mean_share = self.mean.share(step)
            self._mean_share = self._mean_share.fill_(mean_share) if isinstance(self._mean_share, Tensor) else mean_share

    def _groups(self) -> list[dict[str, Any]]:
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def _recorded(self, batch: Batch, step: int) -> bool:
        """Whether this step is recorded, with its batch in place: whole batches, on steps that look at nothing on the way."""
        if self.record is None or self._alone < _STEPS_BEFORE_RECORDING or self.gradient.pieces > 1 or self.monitor.watches(step):
            return False
        if len(batch.labels) != self.recipe.batch_size:
            return False
        if self._batch is None:
            return self._record(self.record, batch, step)
        for name in ("pictures", "labels", "indices"):
            getattr(self._batch, name).copy_(getattr(batch, name))
        return True

    def _record(self, record: Recorder, batch: Batch, step: int) -> bool:
        here = Batch(pictures=batch.pictures.clone(), labels=batch.labels.clone(), indices=batch.indices.clone(), part=batch.part)

        def work() -> None:
            with self.gradient.recording():
                self._found = self._work(here, step, look=False)

        try:
            self._again = record(work, self.gradient.generator)
        except RuntimeError as error:  # memory for a second set of activations is short, or this GPU's libraries wait for something
            self.record = None
            self.gradient.generator = torch.Generator(self.gradient.generator.device)  # the other one may still count as recorded
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"steps cannot be recorded here ({reason}); they go on one by one, which takes longer", stacklevel=2)
            return False
        self._batch = here
        return True

    def _work(self, batch: Batch, step: int, *, look: bool) -> tuple[Tensor, Tensor | None]:
        """The step, on the device; what it says of loss and gradient's norm. Where not looked at, nothing is waited for."""
        logits, loss = self.gradient(batch, step)
        if look:
            self.finite.check(loss, "loss", step + 1)
        norm = None
        if self.recipe.clip_norm is not None:
            norm = gradient_norm(self.network.parameters())
            if look:
                self.finite.check(norm, "gradient", step + 1)
            torch.nn.utils.clip_grads_with_norm_(self.network.parameters(), self.recipe.clip_norm, norm)
        for optimizer in self.optimizers:
            optimizer.step()
        if look and step % _WEIGHTS_EVERY == 0:
            self.finite.check_weights(step + 1)
        if self.mean is not None:
            self.mean.update(self.network, self._mean_share)
        with torch.no_grad():
            # Thinned out, easy pictures count for those that were left out, so that loss and accuracy are those of all pictures.
            weights = torch.ones_like(logits[:, 0]) if self.thinning is None else self.thinning.weights(batch.indices)
            right = logits.argmax(1) == batch.labels
            total, count = loss * len(weights), weights.sum()
            self.sums += torch.stack([total, (right * weights).sum(), count]).to(self.sums)
        self.monitor.after_step(logits, loss if self.thinning is None else total / count, batch.labels, right)
        return loss, norm

    def _look(self, step: int) -> None:
        assert self._found is not None
        loss, norm = self._found
        self.finite.check(loss, "loss", step + 1)
        if norm is not None:
            self.finite.check(norm, "gradient", step + 1)
        self.finite.check_weights(step + 1)


def recorder(device: torch.device, alone: bool) -> Recorder | None:
    """What records steps on a device; None on those that have no way of it, and where several processes train together."""
    return _cuda_graph if device.type == "cuda" and alone else None


def _cuda_graph(work: Callable[[], None], generator: torch.Generator) -> Callable[[], None]:
    device = generator.device
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(generator)  # so that it can be given another seed between two launches
    before = torch.cuda.current_stream(device)
    try:
        # On this device, which need not be the current one. Other threads, as the one that writes a progress bar, may go on.
        with torch.cuda.device(device), torch.cuda.graph(graph, stream=torch.cuda.Stream(device), capture_error_mode="thread_local"):
            work()
    except RuntimeError:
        # Where recording fails torch leaves its own stream current, and random numbers as if they were still recorded.
        torch.cuda.set_stream(before)
        default = torch.cuda.default_generators[before.device_index]
        default.graphsafe_set_state(torch.Generator(device).graphsafe_get_state())
        raise
    return graph.replay
