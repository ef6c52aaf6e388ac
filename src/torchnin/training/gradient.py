"""The gradient of a batch's loss, however its pictures are spread over processes and over pieces of memory's size."""

import contextlib
import warnings
from collections.abc import Callable, Iterator
from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from torchnin.data import Batch, Preprocessing, derived_seed
from torchnin.device import DeviceChoice, is_out_of_memory, release_memory
from torchnin.models import NiN
from torchnin.training.errors import OutOfMemoryError
from torchnin.training.monitor import Monitor
from torchnin.training.options import OnOutOfMemory
from torchnin.training.processes import Processes
from torchnin.training.recipe import Recipe
from torchnin.training.thinning import Thinning
from torchnin.training.whole_batch import Spread, seeing_whole_batches

# torch 2.13 has renamed it and warns of the old name.
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in signature(DistributedDataParallel).parameters else "broadcast_buffers"


class BatchGradient:
    """Leaves the gradient of a batch's mean loss in the network's parameters.

    One process with memory enough looks at the batch at once. Several processes look at a part each, and their gradients are added
    up (DistributedDataParallel); batch normalisation and dropout stay those of the whole batch. Where memory is short, a part
    is looked at in pieces, one after the other; batch normalisation then sees a piece at a time.

    Args:
        network: in training mode, on its device.
        recipe, preprocessing, seed, choice: the training's.
        monitor: watches the forward passes.
        thinning: what is told the losses; None where every picture counts the same.
        class_weights: `(k,)` on the device, or None.
        processes: which share the batch.
        pieces: in how many pieces a part is looked at, to begin with; no more than have a picture, or two for batch normalisation.
        on_out_of_memory: halve the pieces, or stop.
        compile: let torch compile the network for whole batches of one process; steps in which the monitor looks at it take it as it is.
        say: called with one sentence when the pieces are halved.
    """

    def __init__(
        self,
        network: NiN,
        *,
        recipe: Recipe,
        preprocessing: Preprocessing,
        seed: int,
        choice: DeviceChoice,
        monitor: Monitor,
        thinning: Thinning | None,
        class_weights: Tensor | None,
        processes: Processes,
        pieces: int,
        on_out_of_memory: OnOutOfMemory,
        compile: bool,
        say: Callable[[str], None],
    ) -> None:
        self.network, self.recipe, self.preprocessing, self.seed, self.choice = network, recipe, preprocessing, seed, choice
        self.monitor, self.thinning, self.class_weights, self.processes = monitor, thinning, class_weights, processes
        self.pieces, self.on_out_of_memory, self.say = pieces, on_out_of_memory, say
        self.spare: Callable[[], bool] = bool
        """Frees memory that can be done without and says whether there was any; called before a batch is looked at in smaller pieces."""
        self.generator = torch.Generator(choice.device)
        self._recording = False
        self.dtype = next(network.parameters()).dtype
        self.spread = Spread(processes)
        self.module: nn.Module = network
        # Compiled when it is first called: its gradient with the first step that asks for one.
        self._compiled: Callable[[Tensor], Tensor] | None = torch.compile(network, dynamic=False) if compile and processes.alone else None
        self._compiles = False
        self.normalises = any(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())

    @contextlib.contextmanager
    def shared(self) -> Iterator[None]:
        """While open, several processes learn together; the first one's weights are those of all."""
        if self.processes.alone:
            yield
            return
        options: dict[str, Any] = {_SYNC_BUFFERS: False}
        if self.choice.device.type == "cuda":
            options["device_ids"] = [self.choice.device.index]
        with seeing_whole_batches(self.network, self.spread):
            # The buffers are the same everywhere, being made of whole batches' statistics.
            self.module = DistributedDataParallel(self.network, **options)
            try:
                yield
            finally:
                self.module = self.network

    def __call__(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        """The logits `(n, k)` of the whole batch and its mean loss, as the recipe weighs it; both without gradient.

        Raises:
            OutOfMemoryError: memory is short, and smaller pieces are not wanted, not possible, or would not help.
        """
        while True:
            try:
                return self._learn(batch, step)
            except (RuntimeError, MemoryError) as error:
                if self._recording or not is_out_of_memory(error):
                    raise
                said = str(error).strip().partition("\n")[0]
            # Not in the handler, where the error's traceback still holds the activations.
            if not self.spare():
                self._halve(batch, step, said)

    def draw(self, step: int) -> None:
        """Begin a step's random numbers, with seeds of its own, so that no random state is carried from one to the next."""
        self.generator.manual_seed(derived_seed(self.seed, "augmentation", step))
        seed = derived_seed(self.seed, "dropout", step)
        if self.generator.device.type == "cpu":
            torch.default_generator.manual_seed(seed)  # torch.manual_seed takes a millisecond to write down who asks it
        else:
            torch.manual_seed(seed)

    @contextlib.contextmanager
    def recording(self) -> Iterator[None]:
        """While a step is recorded as a CUDA graph: it seeds nothing and is not tried again in smaller pieces, which cannot be recorded."""
        self._recording = True
        try:
            yield
        finally:
            self._recording = False

    def _learn(self, batch: Batch, step: int) -> tuple[Tensor, Tensor]:
        if not self._recording:
            self.draw(step)
        pictures = self.recipe.augmentation(batch.pictures, self.generator, batch.part, len(batch.labels))
        for parameter in self.network.parameters():
            parameter.grad = None
        pieces = self._pieces(batch)
        if pieces == 1 and self.processes.alone:
            if self._compiled is not None and not self.monitor.watches(step) and len(batch.labels) == self.recipe.batch_size:
                return self._learn_compiled(pictures, batch, self._compiled)
            with self.monitor.watching(step):
                return self._learn_at_once(pictures, batch, self.module)
        parts, labels, indices = [], batch.labels[batch.part], batch.indices[batch.part]
        counted = self._counted(batch)
        with self.monitor.watching(step):
            for number in range(pieces):
                piece = _piece(len(pictures), number, pieces)
                self._lay_out(batch, number, pieces)
                # The gradients are added up over the processes once, with the last piece's.
                with contextlib.nullcontext() if number == pieces - 1 else self._unsynchronised():
                    logits = self._logits(pictures[piece], self.module)
                    parts.append(logits.detach())
                    losses = self._losses(logits, labels[piece], indices[piece])
                    # DistributedDataParallel takes the mean over the processes; their number makes a sum of it.
                    (losses.sum() * (self.processes.count / counted)).backward()
        logits = self.processes.whole(torch.cat(parts), batch.part, len(batch.labels))
        return logits, self._loss(logits, batch)

    def _learn_compiled(self, pictures: Tensor, batch: Batch, compiled: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        try:
            found = self._learn_at_once(pictures, batch, compiled)
        except RuntimeError as error:
            if self._compiles or is_out_of_memory(error):
                raise
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"the network cannot be compiled here ({reason}); it is trained as it is", stacklevel=2)
            self._compiled = None
            for parameter in self.network.parameters():
                parameter.grad = None
            return self._learn_at_once(pictures, batch, self.module)
        self._compiles = True
        return found

    def _learn_at_once(self, pictures: Tensor, batch: Batch, module: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        logits = self._logits(pictures, module)
        loss = self._loss(logits, batch)
        loss.backward()
        return logits.detach(), loss.detach()

    def _logits(self, pictures: Tensor, module: Callable[[Tensor], Tensor]) -> Tensor:
        prepared = self.preprocessing(pictures).to(self.dtype).contiguous(memory_format=self.choice.memory_format)
        with self.choice.autocast():
            logits = module(prepared)
        return logits.to(self.dtype)

    def _loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Cross-entropy of a whole batch, as the recipe weighs it."""
        if self.thinning is None and self.class_weights is None:
            return F.cross_entropy(logits, batch.labels, label_smoothing=self.recipe.label_smoothing)
        # torch's own mean waits for the device where classes are weighed and labels smoothed.
        losses = self._cross_entropies(logits, batch.labels)
        if self.thinning is not None:
            self.thinning.note(batch.indices, losses)
            losses = losses * self.thinning.weights(batch.indices)
        return losses.sum() / self._counted(batch)

    def _losses(self, logits: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        """What each of some pictures adds to the sum of losses."""
        losses = self._cross_entropies(logits, labels)
        return losses if self.thinning is None else losses * self.thinning.weights(indices)

    def _cross_entropies(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels, self.class_weights, label_smoothing=self.recipe.label_smoothing, reduction="none")

    def _counted(self, batch: Batch) -> int | Tensor:
        """What the sum of a whole batch's losses is divided by."""
        return len(batch.labels) if self.class_weights is None else self.class_weights[batch.labels].sum()

    def _unsynchronised(self) -> contextlib.AbstractContextManager[None]:
        return self.module.no_sync() if isinstance(self.module, DistributedDataParallel) else contextlib.nullcontext()

    @property
    def _fewest(self) -> int:
        """Pictures that a piece needs: batch normalisation sees no spread in one."""
        return 2 if self.normalises else 1

    def _pieces(self, batch: Batch) -> int:
        """In how many pieces every process looks at its part of a batch: no more than have pictures."""
        return max(1, min(self.pieces, len(batch.labels) // self.processes.count // self._fewest))

    def _lay_out(self, batch: Batch, number: int, pieces: int) -> None:
        """Set `spread` for what the processes look at together now: of each its piece of this number."""
        count, whole = self.processes.count, len(batch.labels)
        sizes = []
        for rank in range(count):
            piece = _piece(whole * (rank + 1) // count - whole * rank // count, number, pieces)
            sizes.append(piece.stop - piece.start)
        before = sum(sizes[: self.processes.rank])
        self.spread.part, self.spread.whole = slice(before, before + sizes[self.processes.rank]), sum(sizes)

    def _halve(self, batch: Batch, step: int, said: str) -> None:
        """Look at half as many pictures at once from here on.

        The running statistics of the first layers have already counted the pass that failed; as it was over the same pictures, they stay.
        """
        for parameter in self.network.parameters():
            parameter.grad = None
        release_memory(self.choice.device)
        here, whole = batch.part.stop - batch.part.start, len(batch.labels)
        self.pieces = self._pieces(batch)
        size = -(-here // self.pieces)
        short = f"out of memory at step {step + 1}, with {size} pictures at once ({said})"
        if self.on_out_of_memory == "stop":
            raise OutOfMemoryError(
                f"{short}; stopped, as asked: go on with --resume --accumulate {2 * self.pieces}, which halves the pieces"
            )
        if size < 2 * self._fewest:
            raise OutOfMemoryError(f"{short}; fewer would not do: take a smaller --image-size or network, or a machine with more memory")
        if not self.processes.alone:
            raise OutOfMemoryError(
                f"process {self.processes.rank + 1} of {self.processes.count}: {short}; the others cannot be told in the middle of a step: "
                f"go on with --resume --accumulate {2 * self.pieces}, which halves the pieces"
            )
        self.pieces *= 2
        size = -(-here // self.pieces)
        seen = f"; batch normalisation sees {size} at a time" if self.normalises else ""
        self.say(
            f"{short}: from here on each batch is learned in pieces of {size}, whose gradients are added up, "
            f"so a step is still one of {whole}{seen}"
        )


def _piece(count: int, number: int, pieces: int) -> slice:
    """The pictures of a piece, of `count` in so many pieces."""
    return slice(count * number // pieces, count * (number + 1) // pieces)
