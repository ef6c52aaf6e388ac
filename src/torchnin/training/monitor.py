"""What is watched while learning: class maps and channels that die, learning that does not begin, weights that grow, numbers that burst."""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torchnin.models import NiN, NiNBlock
from torchnin.training.errors import DivergenceError
from torchnin.training.growth import Growth
from torchnin.training.recipe import Recipe

_IDLE_STEPS = 50  # a class map without a positive value for so many steps in a row is called dead,
_IDLE_PICTURES = 5  # and for so many pictures of its own class among them: it may well be zero for those of all others
_LOSS_STEPS = 100  # steps over which the loss is averaged before it is called stuck
_STUCK = 0.01  # nats; how near to ln(num_classes) the averaged loss is called stuck
_LEARNING_STEPS = 200  # steps after the warm-up within which a network that learns is better than guessing
_CHANNEL_STEPS = 100  # every so many steps the channels are looked at, which costs a pass over each block's output
_DEAD_CHANNELS = 0.5  # share of a block's channels from which it is worth a sentence
_UNRECOGNISED = 0.01  # recall over an epoch of training below which a class is called not recognised
_UNLEARNED = 0.05  # train accuracy by which trained weights fall behind their first epoch before it is worth a sentence
_LEARNED = 0.3  # train accuracy from which a class that is not recognised is worth a sentence

_NOTHING = nullcontext()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Finding:
    """Something that is going wrong, said once when it begins."""

    kind: str
    """`dead class maps`, `dead channels`, `loss stuck`, `accuracy at chance`, `classes not recognised`, `weights grow`, `not finite`,
    `unlearning` where trained weights forget, `out of memory`; where the training went back, `recovered`."""
    epoch: int
    """Epoch in which it began, from 1."""
    step: int
    """Step of the whole training, from 1."""
    message: str
    """One sentence, with what to do about it."""

    @property
    def serious(self) -> bool:
        """Whether the training will not come right by itself; dead channels alone leave others to learn with."""
        return self.kind in ("dead class maps", "loss stuck", "accuracy at chance")

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as in a line of `metrics.jsonl`."""
        return dataclasses.asdict(self)


class Monitor:
    """Watches a training from what each step computes anyway.

    A class map behind a ReLU that is zero everywhere gives a logit of exactly zero, so the logits alone tell which maps are
    dead: no further pass is needed. Channels inside the blocks are looked at once in a while.

    Args:
        network: the network that is trained.
        class_names: the classes, as findings call them.
        class_counts: how many training pictures each class has, for the accuracy of guessing.
        warmup_steps: steps before which a loss near ln(num_classes) is no finding.
        device: where the counters live, so that watching does not wait for the device.
        summed: gives the sum of a tensor over all processes that look at a part of the batch each; None where one looks at all.
        remedy: what to do about a training that does not learn, as its findings say it.
        gentler: what makes its steps smaller, as its findings say it.
        balanced: whether rare classes weigh as much as common ones, so that the commonest one's share says nothing of guessing.
        growth: watches weights that nothing holds; None where nobody does.
    """

    def __init__(
        self,
        network: NiN,
        class_names: Sequence[str],
        class_counts: list[int],
        warmup_steps: int,
        device: torch.device,
        summed: Callable[[Tensor], Tensor] | None = None,
        remedy: str = "use --recipe steady, whose start keeps the class maps alive",
        gentler: str = "a lower --lr",
        balanced: bool = False,
        growth: Growth | None = None,
    ) -> None:
        self.network, self.summed, self.remedy, self.gentler, self.growth = network, summed, remedy, gentler, growth
        self.can_die = network.config.class_map_relu and network.config.head == "gap"
        self.class_names = tuple(class_names)
        self.class_counts = class_counts
        self.balanced = balanced
        self.guess = guess_of(class_counts, balanced)
        self.warmup_steps = warmup_steps
        self.idle = torch.zeros(network.num_classes, dtype=torch.int32, device=device)
        self.idle_pictures = torch.zeros_like(self.idle)  # of a map's own class, in those steps
        # Pictures of each class in this epoch: those that were recognised, and those that were seen, which with thinning are not all.
        self.right, self.seen = (torch.zeros(network.num_classes, dtype=torch.int64, device=device) for _ in range(2))
        self.recent_loss = torch.zeros((), dtype=torch.float32, device=device)
        self.recent_steps = torch.zeros((), dtype=torch.int32, device=device)
        self.dead_channels: dict[str, float] = {}
        self.said: set[str] = set()
        self.begun = 0  # the step from which the weights have been learning

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and plain values that a checkpoint keeps."""
        plain = {
            "recent_steps": int(self.recent_steps),
            "dead_channels": dict(self.dead_channels),
            "said": sorted(self.said),
            "begun": self.begun,
            "first_norms": self.growth.first if self.growth else {},
        }
        return {name: getattr(self, name) for name in ("idle", "idle_pictures", "right", "seen", "recent_loss")}, plain

    def restore(self, tensors: dict[str, Tensor], plain: dict[str, Any]) -> None:
        """The inverse of `state`."""
        self.idle.copy_(tensors["idle"])
        # Checkpoints of earlier versions lack these.
        self.idle_pictures.copy_(tensors.get("idle_pictures", self.idle))
        self.right.copy_(tensors.get("right", self.right))
        self.seen.copy_(tensors.get("seen", self.seen))
        self.recent_loss.copy_(tensors["recent_loss"])
        self.recent_steps.fill_(plain["recent_steps"])
        self.dead_channels, self.said = dict(plain["dead_channels"]), set(plain["said"])
        self.begun = plain.get("begun", 0)
        if self.growth:
            self.growth.first |= plain.get("first_norms", {})

    def watches(self, step: int) -> bool:
        """Whether the blocks' channels are looked at in a step (from 0): the last of so many, for an untrained network says nothing."""
        return (step + 1) % _CHANNEL_STEPS == 0

    def watching(self, step: int) -> AbstractContextManager[None]:
        """Around the forward passes of a step (from 0): looks at the blocks' channels every so many steps, else does nothing."""
        return self._watching() if self.watches(step) else _NOTHING

    @contextmanager
    def _watching(self) -> Iterator[None]:
        blocks = [part for part in self.network.parts()[:-1] if isinstance(part, NiNBlock)]
        alive: dict[str, Tensor] = {}
        handles = [block.register_forward_hook(_look(alive, f"block {number}")) for number, block in enumerate(blocks, 1)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
        for name, channels in alive.items():
            counts = channels.float() if self.summed is None else self.summed(channels.float())
            self.dead_channels[name] = round(1 - float((counts > 0).float().mean()), 4)

    @torch.no_grad()
    def after_step(self, logits: Tensor, loss: Tensor, labels: Tensor, right: Tensor | None = None) -> None:
        """Take in a step; no value is waited for.

        Args:
            logits: `(n, k)`.
            loss: the mean over the pictures, a picture counted for those that it stands for.
            labels: `(n,)`.
            right: `(n,)`, which pictures were recognised, where that is known already.
        """
        if self.can_die:
            alive = logits.amax(0) > 0
            self.idle.add_(1).masked_fill_(alive, 0)
            self.idle_pictures.index_add_(0, labels, torch.ones_like(labels, dtype=torch.int32)).masked_fill_(alive, 0)
        right = logits.argmax(1) == labels if right is None else right
        self.right.index_add_(0, labels, right.long())
        self.seen.index_add_(0, labels, torch.ones_like(labels))
        self.recent_loss.add_(loss.detach())
        self.recent_steps.add_(1)

    @property
    def healthy(self) -> bool:
        """Whether every class map has lived in the last few steps; waits for the device."""
        return not self.can_die or not bool(((self.idle >= _IDLE_STEPS // 10) & (self.idle_pictures > 0)).any())

    def forget(self, step: int) -> None:
        """Begin to watch anew, after the training went back to so many steps."""
        self.begun = step
        self.idle.zero_()
        self.idle_pictures.zero_()
        self.recent_loss.zero_()
        self.recent_steps.zero_()
        self.said = {key for key in self.said if key.startswith("dead channels")}

    def say_again(self) -> None:
        """Say what is serious once more where it lasts: now something is to be done about it."""
        self.said = {key for key in self.said if not key.startswith(("dead class map", "loss stuck", "accuracy at chance"))}

    @property
    def dead_class_maps(self) -> list[int]:
        """The classes whose maps have been zero over every picture of the last steps; waits for the device."""
        dead = (self.idle >= _IDLE_STEPS) & (self.idle_pictures >= _IDLE_PICTURES)
        return torch.nonzero(dead).flatten().tolist() if self.can_die else []

    @property
    def dead_class_names(self) -> list[str]:
        """The names of those classes."""
        return [self.class_names[number] for number in self.dead_class_maps]

    def findings(self, epoch: int, step: int) -> list[Finding]:
        """What began since the last call; to be called every so many steps (from 1), waits for the device."""
        found = []
        dead = {f"dead class map {number}": self.class_names[number] for number in self.dead_class_maps}
        if not dead.keys() <= self.said:
            self.said |= dead.keys()
            message = (
                f"the maps of {len(dead)} of {self.network.num_classes} classes are dead (zero for every picture: "
                f"{_few(list(dead.values()))}); behind the last ReLU they get no gradient, and these classes are not learned as long as "
                f"that lasts; {self.remedy}"
            )
            found.append(Finding(kind="dead class maps", epoch=epoch, step=step, message=message))
        for name, share in self.dead_channels.items():
            if share >= _DEAD_CHANNELS:
                message = f"{share:.0%} of the channels of {name} are zero for every picture; a lower learning rate keeps them alive"
                found += self._once("dead channels", epoch, step, message, of=name)
        if (steps := int(self.recent_steps)) >= _LOSS_STEPS:
            mean, chance = float(self.recent_loss) / steps, math.log(self.network.num_classes)  # with one class both are 0 when all is well
            self.recent_loss.zero_()
            self.recent_steps.zero_()
            if self.network.num_classes > 1 and step > self._learning_from and abs(mean - chance) < _STUCK:
                message = (
                    f"the loss stands at {mean:.4f}, which is ln({self.network.num_classes}): the network answers the same for every "
                    f"picture; {self.remedy}"
                )
                found += self._once("loss stuck", epoch, step, message)
        return found

    @property
    def _learning_from(self) -> int:
        """The step from which a network that learns is better than guessing."""
        return max(self.warmup_steps, self.begun) + _LEARNING_STEPS

    def at_chance(self, accuracy: float) -> bool:
        """Whether a train accuracy (a fraction of one) is no better than guessing: the commonest class, or any where they are balanced."""
        return is_guessing(accuracy, self.guess, sum(self.class_counts))

    def after_epoch(self, epoch: int, step: int, accuracy: float, *, known: float = 0.0) -> list[Finding]:
        """What a whole epoch tells: that weights have grown, that trained ones forget, and that its train accuracy is that of guessing, or
        which classes were never right.

        Args:
            epoch: from 1.
            step: of the whole training, from 1.
            accuracy: of the epoch, a fraction of one.
            known: the accuracy of the first epoch where the training began with trained weights, a fraction of one.
        """
        grown = self.growth.finding() if self.growth else None
        found = self._once("weights grow", epoch, step, grown) if grown else []
        if accuracy < known - _UNLEARNED:
            message = (
                f"the train accuracy has fallen from {known:.3f} in the first epoch to {accuracy:.3f}: the steps undo what the trained "
                f"weights know of these pictures, which few pictures do not give back; {self.gentler} keeps it"
            )
            found += self._once("unlearning", epoch, step, message)
        return found + self._of_classes(epoch, step, accuracy)

    def _of_classes(self, epoch: int, step: int, accuracy: float) -> list[Finding]:
        right, seen = self.right.tolist(), self.seen.tolist()
        self.right.zero_()
        self.seen.zero_()
        if step < self._learning_from or len(self.class_counts) < 2:
            return []
        what, reached = "train accuracy", accuracy
        if self.balanced and any(seen):
            recalls = [hits / count for hits, count in zip(right, seen, strict=True) if count]
            what, reached = "mean of the classes' recalls", sum(recalls) / len(recalls)
        if self.at_chance(reached):
            message = (
                f"after epoch {epoch} the {what} is {reached:.3f}, no better than guessing ({self.guess:.3f}) can be by chance; "
                f"{self.remedy}, or check that the labels belong to the pictures"
            )
            return self._once("accuracy at chance", epoch, step, message)
        # Thinning leaves out easy pictures, which those of a class that is not recognised hardly are; what was left out tells nothing.
        counts = enumerate(self.class_counts)
        lost = [number for number, count in counts if 0 < count <= seen[number] and right[number] < _UNRECOGNISED * seen[number]]
        if not lost or accuracy < _LEARNED or len(lost) > len(right) / 2:
            return []
        names = _few([self.class_names[number] for number in lost], 5)
        message = (
            f"the train accuracy is {accuracy:.3f}, but {len(lost)} of {len(right)} classes are not recognised ({names})"
            f"{': their maps may get next to no gradient without being dead' if self.can_die else ''}; {self.remedy}"
        )
        return self._once("classes not recognised", epoch, step, message, of=names)

    def _once(self, kind: str, epoch: int, step: int, message: str, of: str = "") -> list[Finding]:
        """A finding, or none where the same was said before; `of` tells those of one kind apart, as by the block."""
        key = f"{kind} {of}".rstrip()
        if key in self.said:
            return []
        self.said.add(key)
        return [Finding(kind=kind, epoch=epoch, step=step, message=message)]


def guess_of(class_counts: Sequence[int], balanced: bool) -> float:
    """What guessing comes to, a fraction of one: as accuracy, by the commonest class; `balanced`, as mean of the classes' recalls."""
    return 1 / sum(count > 0 for count in class_counts) if balanced else max(class_counts) / sum(class_counts)


def is_guessing(accuracy: float, guess: float, num_pictures: int) -> bool:
    """Whether an accuracy is no better than that of guessing, within what chance makes of so many pictures; never where all guess right.

    Args:
        accuracy: a fraction of one.
        guess: the accuracy of guessing, a fraction of one.
        num_pictures: over how many it was taken.
    """
    # A hundredth more is little where there are ten classes, and ten times guessing where there are a thousand. Where guessing comes far,
    # or pictures are few, three standard deviations would reach beyond what even a perfect network has.
    margin = min(3 * math.sqrt(guess * (1 - guess) / num_pictures) + min(0.01, guess / 10), (1 - guess) / 2)
    return guess < 1 and accuracy <= guess + margin


class Finite:
    """Stops a training whose loss, gradient or weights are no numbers any more.

    Args:
        network: the network that is trained.
        recipe: how it is trained.
        num_steps: of the training.
        checkpoint: the folder with the last good state.
    """

    def __init__(self, network: NiN, recipe: Recipe, num_steps: int, checkpoint: Path) -> None:
        self.network, self.recipe, self.num_steps, self.checkpoint = network, recipe, num_steps, checkpoint
        self.lr_scale = 1.0
        self._values: list[Tensor] | None = None

    def check(self, value: Tensor, what: str, step: int) -> None:
        """Look at a value that a step (from 1) led to; waits for the device.

        Raises:
            DivergenceError: it is not finite.
        """
        if not math.isfinite(float(value)):
            step, recipe = max(1, step), self.recipe
            raise DivergenceError(
                f"the {what} is {float(value):g} at step {step} (epoch {self._epoch(step)}, learning rate "
                f"{self.lr_scale * recipe.lr_at(step - 1, self.num_steps):g}); stopped, the last good state is in {self.checkpoint}; "
                f"train anew with {recipe.gentler}",
                step,
            )

    def check_weights(self, step: int) -> None:
        """Look at all weights: a step may leave some of which no loss has told yet."""
        if self._values is None:  # kept, for gathering them takes longer than looking at those of a small network
            self._values = [value for value in self.network.state_dict().values() if value.is_floating_point()]
        self.check(torch.nn.utils.get_total_norm(self._values), "norm of the weights", step)

    def finding(self, error: DivergenceError, then: str) -> Finding:
        """The error as a finding, with what is done about it."""
        return Finding(kind="not finite", epoch=self._epoch(error.step), step=error.step, message=f"{str(error).partition(';')[0]}; {then}")

    def _epoch(self, step: int) -> int:
        return (step - 1) * self.recipe.num_epochs // self.num_steps + 1


def _few(names: Sequence[str], most: int = 10) -> str:
    """The first of so many names, as a sentence has room for them."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def _look(alive: dict[str, Tensor], name: str) -> Any:
    """A hook that notes which channels of a block are above zero anywhere, in this pass or one before it."""

    def hook(_module: nn.Module, _inputs: Any, output: Tensor) -> None:
        values = output.detach()
        # The largest value tells as much as each one compared would, in a twenty-fifth of the time.
        now = values.amax((0, 2, 3)) > 0 if values.numel() else values.new_zeros(values.shape[1], dtype=torch.bool)
        alive[name] = now | alive[name] if name in alive else now

    hook.takes_pooled = True  # type: ignore[attr-defined]  # so that the step stays as fast, and watched channels are those that go on
    return hook
