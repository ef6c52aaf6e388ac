"""The training loop: one step after the other, able to stop and go on between any two."""

import copy
import math
import time
from typing import Any

import torch
from torch import Tensor

from torchnin.classifier import Classifier
from torchnin.data import Batches, ImageDataset, Preprocessing, derived_seed
from torchnin.device import DeviceChoice, within_memory
from torchnin.files import in_command
from torchnin.models import NiN
from torchnin.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from torchnin.training.errors import CollapseError, DivergenceError, Interrupted, TrainingError
from torchnin.training.gradient import BatchGradient
from torchnin.training.growth import Growth
from torchnin.training.log import Display
from torchnin.training.monitor import Finding, Finite, Monitor
from torchnin.training.optimisation import PICTURES_TO_LEVEL, WeightMean, initialise, level_class_maps, make_optimizers
from torchnin.training.options import Options
from torchnin.training.processes import Processes
from torchnin.training.progress import check_progress
from torchnin.training.recipe import Recipe
from torchnin.training.run import Run
from torchnin.training.signals import StopSignal
from torchnin.training.state import State, below
from torchnin.training.step import Step, recorder
from torchnin.training.thinning import Thinning

# On a GPU, looking at a value waits for all the work before it; so the loss is looked at every so many steps there.
_LOOK_EVERY = 50
_SHOW_SECONDS = 0.2
_CHECKPOINT_SECONDS = 60.0
# Several processes are told to stop more than once: by the scheduler, and by torchrun, which passes on what it was told.
_ECHO_SECONDS = 10.0
# With on_collapse="recover": how often a good state is kept to go back to, and how often that may happen in one training.
_GOOD_EVERY = 100
_MOST_RECOVERIES = 6


class Training:
    """One training between its first step and its last, able to stop and go on between any two steps.

    No random state is carried: order, augmentation and dropout of every step are drawn from seeds that the run's seed and
    the step's number decide, so a resumed training draws what the uninterrupted one would have drawn.

    Where several processes train together, each goes through all of this with the same numbers: a batch's logits are gathered
    before anything is decided by them. The first one alone writes.
    """

    def __init__(
        self,
        run: Run,
        network: NiN,
        learned: ImageDataset,
        held_out: ImageDataset | None,
        preprocessing: Preprocessing,
        recipe: Recipe,
        seed: int,
        choice: DeviceChoice,
        options: Options,
        display: Display,
        processes: Processes,
        trained: bool = False,
    ) -> None:
        self.trained = trained  # the weights that it begins with
        self.run, self.recipe, self.seed, self.choice, self.preprocessing = run, recipe, seed, choice, preprocessing
        self.options, self.display, self.processes = options, display, processes
        torch.manual_seed(derived_seed(seed, "initialisation"))
        initialise(network, recipe)
        self.network = choice.place(network).train()
        self.optimizers = make_optimizers(network, recipe)
        self.mean = WeightMean(network, recipe.ema_decay) if recipe.ema_decay else None
        share = (processes.rank, processes.count)
        self.batches = Batches(learned, batch_size=recipe.batch_size, device=choice.device, seed=seed, share=share)
        self.held_out = None
        if held_out is not None:
            self.held_out = Batches(held_out, batch_size=recipe.batch_size * 2, device=choice.device, share=share)
        self.thinning = None
        if recipe.thinning:
            self.thinning = Thinning(len(learned), recipe.thinning, recipe.num_epochs, seed, choice.device)
        self.num_steps = recipe.num_epochs * self.batches.num_batches
        counts = learned.class_counts
        weights = torch.tensor(len(learned) / (counts.clip(1) * len(counts)), dtype=next(network.parameters()).dtype, device="cpu")
        warmup_steps = math.ceil(recipe.warmup * self.num_steps)
        summed = None if processes.alone else processes.summed
        self.monitor = Monitor(
            network,
            learned.class_names,
            counts.tolist(),
            warmup_steps,
            choice.device,
            summed,
            remedy=f"try {recipe.gentler}" if trained else recipe.remedy,
            gentler=recipe.gentler,
            balanced=recipe.class_weights,
            growth=Growth(network, recipe),
        )
        self.finite = Finite(network, recipe, self.num_steps, run.path / "checkpoint")
        self.gradient = BatchGradient(
            network,
            recipe=recipe,
            preprocessing=preprocessing,
            seed=seed,
            choice=choice,
            monitor=self.monitor,
            thinning=self.thinning,
            class_weights=weights.to(choice.device) if recipe.class_weights else None,
            processes=processes,
            pieces=options.accumulate or 1,
            on_out_of_memory=options.on_out_of_memory,
            compile=options.compile,
            say=self._say_out_of_memory,
        )
        # Where the training stands. The sums are over the epoch so far: loss, right answers, pictures.
        self.step = 0
        self.sums = torch.zeros(3, dtype=torch.float64, device="cpu" if choice.device.type == "mps" else choice.device)
        self.look_every = 1 if choice.device.type == "cpu" else _LOOK_EVERY
        self.advance = Step(
            network,
            recipe,
            self.num_steps,
            gradient=self.gradient,
            optimizers=self.optimizers,
            mean=self.mean,
            thinning=self.thinning,
            monitor=self.monitor,
            finite=self.finite,
            sums=self.sums,
            look_every=self.look_every,
            record=recorder(choice.device, processes.alone),
        )
        self.state = State(network, self.optimizers, self.mean, self.monitor, self.thinning, self.sums)
        self.epoch_seconds = 0.0
        self.total_seconds = 0.0
        self.rows: list[dict[str, Any]] = []
        self.findings: list[Finding] = []
        self.collapse: Finding | None = None
        self.stopping = 0  # the signal that asked for it
        self.lr_scale = 1.0
        self.recoveries = 0
        self.good: tuple[dict[str, Tensor], dict[str, Any]] | None = None
        self._passed_over: tuple[str, ...] = ()
        self._saved_at = time.monotonic()

    def level_class_maps(self) -> None:
        """Level the class maps of weights that were just drawn, where the recipe asks for it; not of weights out of a checkpoint."""
        if not (self.recipe.initialisation == "alive" and self.recipe.level_class_maps):
            return
        weights = level_class_maps(self.network, self.batches.some(PICTURES_TO_LEVEL), self._prepared)
        if weights is None:
            return
        self.processes.adopt_first(weights)
        if self.mean is not None:
            self.mean.adopt(self.network, [weights])

    def _prepared(self, pictures: Tensor) -> Tensor:
        """Pictures of the dataset as the network takes them, in the type of its weights."""
        return self.preprocessing(pictures).to(self.gradient.dtype).contiguous(memory_format=self.choice.memory_format)

    def go(self) -> None:
        """Train to the recipe's end."""
        with StopSignal(0.0 if self.processes.alone else _ECHO_SECONDS) as stop, self.gradient.shared():
            try:
                while self.step < self.num_steps:
                    self._epoch(stop)
            except (TrainingError, Interrupted) as error:
                self._leave(error)
                raise
            finally:
                # Each refers back to this object, and the cycle would hold the device's memory until the garbage collector runs.
                self.gradient.say, self.gradient.spare = _unheard, bool

    def _epoch(self, stop: StopSignal) -> None:
        per_epoch = self.batches.num_batches
        epoch, done = divmod(self.step, per_epoch)
        self.network.train()  # who heard of the last epoch may have looked at the network as it predicts
        self.display.begin_epoch(epoch + 1, self.recipe.num_epochs, done, per_epoch)
        since, before, shown, began = time.monotonic(), self.epoch_seconds, 0.0, done
        if self.thinning is not None and done == 0:
            self.thinning.begin_epoch(epoch)
            self.processes.adopt_first(self.thinning.easy)
        order = None if self.thinning is None else self.thinning.order(epoch)
        for batch in self.batches.epoch(epoch, start=done, order=order):
            try:
                self._keep_good()
                self.advance(batch, self.step, self.lr_scale)
                self.step += 1
                last = done + 1 == per_epoch
                if last:
                    self._check_state()  # before the epoch gets its line
            except DivergenceError as error:
                if self.options.on_collapse != "recover":
                    raise
                self._go_back(error)
                return
            done += 1
            self.epoch_seconds = before + time.monotonic() - since
            if (last or self.step % _LOOK_EVERY == 0) and self._report(self.monitor.findings(epoch + 1, self.step)):
                return
            if not last and (self.look_every == 1 or self.step % self.look_every == 0) and self.epoch_seconds - shown > _SHOW_SECONDS:
                shown = self.epoch_seconds
                loss, right, count = self.sums.tolist()
                # Of this pass alone: the epoch's seconds are also those of steps that were thrown away.
                rate = (done - began) * self.batches.batch_size / max(self.epoch_seconds - before, 1e-9)
                self.display.step(done, loss / count, right / count, rate, self.monitor.dead_class_names)
            if last:
                break
            if self.step % self.look_every == 0 or self.processes.alone:
                self._agree(stop)
            looked = (self.step - 1) % self.look_every == 0  # so that what is saved is known to be finite
            if self.stopping or self.collapse or (looked and time.monotonic() - self._saved_at > _CHECKPOINT_SECONDS):
                try:
                    self.save()
                except DivergenceError as error:
                    # Of several processes the first alone looks, and the others would not go back with it.
                    if self.options.on_collapse != "recover" or not self.processes.alone:
                        raise
                    self._go_back(error)
                    return
                self._stop_if_asked()
        accuracy = float(self.sums[1] / self.sums[2])
        known = (self.rows[0]["train_accuracy"] or 0.0) if self.trained and self.rows else 0.0
        if self._report(self.monitor.after_epoch(epoch + 1, self.step, accuracy, known=known)):
            return
        self._end_epoch(epoch + 1)
        self._agree(stop)
        self._stop_if_asked()

    def _keep_good(self) -> None:
        """Keep the state that recovering goes back to, where it is asked for and due.

        Raises:
            DivergenceError: on a GPU, where not every step is looked at, the state turns out not to be finite.
        """
        if self.options.on_collapse != "recover":
            return
        if self.good is None:
            self.good = self._state(copied=True)
        elif self.step % _GOOD_EVERY == 0 and self.monitor.healthy:
            self._check_state()
            self.good = self._state(copied=True)

    def _row(self, epoch: int, pictures: int, **measured: float) -> dict[str, Any]:
        """What `metrics.jsonl` says of an epoch, of which so many pictures were learned from."""
        loss, right, count = self.sums.tolist()
        return {
            "epoch": epoch,
            "train_loss": _share(loss, count),
            "train_accuracy": _share(right, count),
            **measured,
            "lr": self.lr_scale * self.recipe.lr_at(max(0, self.step - 1), self.num_steps),
            "images_per_second": pictures / max(self.epoch_seconds, 1e-9),
            "dead_class_maps": len(self.monitor.dead_class_maps),
            "dead_channels": dict(self.monitor.dead_channels),
            "findings": [finding.to_dict() for finding in self.findings if finding.epoch == epoch],
            "seconds": self.epoch_seconds,
        }

    def _end_epoch(self, epoch: int) -> None:
        measured = {} if self.held_out is None else {"validation_accuracy": self._validation_accuracy()}
        row = self._row(epoch, len(self.batches.dataset), **measured)
        self.rows.append(row)
        self.total_seconds += self.epoch_seconds
        self.epoch_seconds = 0.0
        self.sums.zero_()
        self.save()  # before the line is written, so that a crash between the two writes it when resumed
        if self.processes.first:
            self.run.write_metrics(self.rows)
        self.display.end_epoch(row, self.recipe.num_epochs)

    @torch.inference_mode()
    def _validation_accuracy(self) -> float:
        """Accuracy on the held-out pictures of the weights that would become the classifier now, computed as the training computes."""
        assert self.held_out is not None
        own = self._swap_in_mean()
        self.network.eval()
        right = torch.zeros((), dtype=torch.int64, device=self.choice.device)

        def answers(pictures: Tensor) -> Tensor:
            with self.choice.autocast():
                return self.network(self._prepared(pictures)).argmax(1)

        for batch in self.held_out.epoch():
            right += (within_memory(answers, batch.pictures, torch.cat) == batch.labels[batch.part]).sum()
        self.network.train()
        if own is not None:
            self.network.load_state_dict(own)
        return int(self.processes.summed(right)) / len(self.held_out.dataset)

    def _swap_in_mean(self) -> dict[str, Tensor] | None:
        if self.mean is None:
            return None
        own = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.mean.state)
        return own

    def classifier(self, class_names: tuple[str, ...], config: dict[str, Any]) -> Classifier:
        """The trained network, its running mean where the recipe asks for one, as a classifier."""
        self._swap_in_mean()
        kept = ("name", "recipe", "data", "seed", "validation", "versions", "begun_from")
        facts, device = {key: config[key] for key in kept if key in config}, str(self.choice.device)
        # A network that is trained in float64 stays so; a classifier's is in float32.
        network = self.network if self.gradient.dtype == torch.float32 else copy.deepcopy(self.network).float()
        # What a run says it reached does not depend on what else is installed.
        return Classifier(network, self.preprocessing, class_names, metadata=facts, device=device, backend="torch")

    def _leave(self, error: TrainingError | Interrupted) -> None:
        """Where the training stops in an epoch in which something was found, write the line of that epoch as far as it came.

        A training that goes on begins by writing the lines of its checkpoint alone, so this one is gone then.
        """
        if isinstance(error, DivergenceError):
            self._report([self.finite.finding(error, f"stopped; train anew with {self.recipe.gentler}")])
        found = [finding.to_dict() for finding in self.findings if finding.epoch > len(self.rows)]
        if found and self.processes.first:
            learned = (self.step - len(self.rows) * self.batches.num_batches) * self.batches.batch_size
            row = self._row(len(self.rows) + 1, min(learned, len(self.batches.dataset)))
            self.run.write_metrics([*self.rows, row | {"findings": found, "unfinished": True}])

    def _say_out_of_memory(self, message: str) -> None:
        """Note that from this step on batches are learned in smaller pieces."""
        epoch = self.step // self.batches.num_batches + 1
        self._report([Finding(kind="out of memory", epoch=epoch, step=self.step + 1, message=message)])

    def _report(self, findings: list[Finding]) -> bool:
        """Say what was found, and do about it what was asked for; True where the training went back."""
        self.findings += findings
        for finding in findings:
            self.display.note(f"{finding.kind} (epoch {finding.epoch}, step {finding.step}): {finding.message}")
        serious = [finding for finding in findings if finding.serious]
        if serious and self.options.on_collapse == "stop":
            self.collapse = serious[0]  # the loop stops where it can go on again: an epoch that is over gets its row first
        if serious and self.options.on_collapse == "recover":
            self._recover(serious[0].kind, self.step, revive=True)
            return True
        return False

    def _go_back(self, error: DivergenceError) -> None:
        self._report([self.finite.finding(error, "going back")])
        why = str(error).partition(";")[0]  # what to do is said once, for all that was tried
        self._recover(why, error.step, revive=False)

    def _recover(self, why: str, at: int, revive: bool) -> None:
        """Go back from a step to the last good state, with half the learning rate and, where maps died, a last block that is alive."""
        assert self.good is not None  # the first state is kept before the first step
        if self.recoveries == _MOST_RECOVERIES:
            # Numbers that are not finite want smaller steps, whatever the start.
            advice = self.monitor.remedy if revive else f"train anew with {self.monitor.gentler}"
            raise CollapseError(f"gave up after {_MOST_RECOVERIES} recoveries: {why}; {advice}")
        findings, recoveries, scale = self.findings, self.recoveries + 1, self.lr_scale / 2
        seconds = self.total_seconds + self.epoch_seconds
        self._adopt(*self.good)
        self.findings, self.recoveries, self.lr_scale = findings, recoveries, scale
        self.epoch_seconds = max(0.0, seconds - self.total_seconds)  # the time spent on what is thrown away was spent all the same
        drawn = ""
        if revive:
            _, right, count = self.sums.tolist()
            accuracy = right / count if count else self.rows[-1]["train_accuracy"] if self.rows else 0.0
            seed = derived_seed(self.seed, "revival", recoveries)
            lost = not self.trained and self.monitor.at_chance(accuracy)
            drawn = self.state.draw_anew(self.recipe, seed, all_of_it=lost)
            self.level_class_maps()
        self.monitor.forget(self.step)
        epoch = self.step // self.batches.num_batches + 1
        message = f"went back from step {at} to step {self.step}, with half the learning rate ({scale:g} of the recipe's){drawn}"
        finding = Finding(kind="recovered", epoch=epoch, step=at, message=message)
        self.findings.append(finding)
        self.display.note(f"recovered: {message}")
        # From the adopted state, not a copy of it: the next collapse before the next good state halves the rate once more.
        self.good = self._state(copied=True)
        self.save()

    def _check_state(self) -> None:
        """What the steps so far have led to: on a GPU not every one of them is looked at."""
        self.finite.check(self.sums[0], "loss", self.step)
        self.finite.check_weights(self.step)

    def _agree(self, stop: StopSignal) -> None:
        """Take note of a signal that came to any of the processes: all of them stop after the same step."""
        self.stopping = self.processes.highest(stop.received)

    def _stop_if_asked(self) -> None:
        if self.collapse is None and not self.stopping:
            return
        self.processes.wait()  # for the first one's checkpoint: as soon as one process has ended, torchrun ends all
        if self.collapse is not None:
            raise CollapseError(
                f"stopped at step {self.step}, as asked: {self.collapse.message}; everything is saved, "
                "go on all the same with --resume --on-collapse warn"
            )
        command = "nin" if self.processes.alone else "torchrun ... -m torchnin"
        raise Interrupted(
            f"stopped at step {self.step:,} of {self.num_steps:,}; everything is saved, "
            f"go on with: {command} train --resume --out {in_command(self.run.path)}",
            self.stopping,
        )

    def save(self) -> None:
        """Write a checkpoint; never one of numbers that are not finite."""
        if not self.processes.first:
            return
        self._check_state()
        tensors, progress = self._state()
        if self.good is not None:
            tensors |= {f"good.{name}": value for name, value in self.good[0].items()}
            progress["good"] = self.good[1]
        checkpoint = Checkpoint(tensors=tensors, progress=progress, passed_over=self._passed_over)
        write_checkpoint(self.run.path / "checkpoint", checkpoint)
        self._passed_over = ()
        self._saved_at = time.monotonic()

    def restore(self, pieces: int | None = None) -> None:
        """Take up the newest whole checkpoint; batches are learned in so many pieces from there on, None: in as many as before."""
        checkpoint = self._read_checkpoint()
        step, epochs = checkpoint.progress["step"], len(checkpoint.progress["rows"])
        try:
            if step > self.num_steps or epochs != step // self.batches.num_batches:
                raise ValueError(f"it stands at step {step} of {self.num_steps}, with the lines of {epochs} epochs")
            self._adopt(checkpoint.tensors, checkpoint.progress)
            self.gradient.pieces = pieces or max(checkpoint.progress.get("pieces", 1), self.options.accumulate or 1)
            if "good" in checkpoint.progress:
                self.good = (below(checkpoint.tensors, "good."), checkpoint.progress["good"])
            if self.options.on_collapse != "warn":
                self.monitor.say_again()
        except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
            where, reason = self.run.path / "checkpoint", " ".join(str(error).split())[:300]
            raise TrainingError(f"{where} is not of this network and recipe ({reason}); train anew with --overwrite") from error
        self.display.note(f"resuming {self.run.path} at step {self.step:,} of {self.num_steps:,}")

    def _read_checkpoint(self) -> Checkpoint:
        """The newest whole one, read by the first process and told to the others, whose hosts may not see the folder."""
        packed = b""
        with self.processes.together():
            if self.processes.first:
                checkpoint, broken = read_checkpoint(self.run.path / "checkpoint", check_progress)
                self._passed_over = checkpoint.passed_over
                for sentence in broken:
                    self.display.note(sentence)
                if self.processes.alone:
                    return checkpoint
                packed = checkpoint.to_bytes()
        return Checkpoint.from_bytes(self.processes.told(packed))

    def _state(self, copied: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything that the next step depends on, as tensors and plain values; `copied`, it stays as it is now."""
        tensors, plain = self.state.read()
        progress = {
            "step": self.step,
            "epoch_seconds": self.epoch_seconds,
            "total_seconds": self.total_seconds,
            "rows": list(self.rows),
            "findings": [finding.to_dict() for finding in self.findings],
            "lr_scale": self.lr_scale,
            "recoveries": self.recoveries,
            "pieces": self.gradient.pieces,
            **plain,
        }
        return ({name: value.detach().clone() for name, value in tensors.items()} if copied else tensors), progress

    def _adopt(self, tensors: dict[str, Tensor], progress: dict[str, Any]) -> None:
        """The inverse of `_state`."""
        self.state.adopt(tensors, progress)
        self.advance.forget()
        self.step, self.rows = progress["step"], list(progress["rows"])
        self.epoch_seconds, self.total_seconds = progress["epoch_seconds"], progress["total_seconds"]
        self.findings = [Finding(**finding) for finding in progress["findings"]]
        self.lr_scale, self.recoveries = progress["lr_scale"], progress["recoveries"]


def _unheard(_said: str) -> None:
    return


def _share(part: float, whole: float) -> float | None:
    """None where there is no number for it, which JSON has none for either."""
    return part / whole if whole and math.isfinite(part / whole) else None
