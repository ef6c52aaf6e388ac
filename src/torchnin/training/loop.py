"""The training loop: a network, a dataset and a recipe in; a run folder with its classifier out."""

import math
import os
import time
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from torchnin.classifier import Classifier
from torchnin.data import Batch, Batches, DataError, DatasetSplits, ImageDataset, Preprocessing, derived_seed, load_dataset
from torchnin.device import DeviceChoice, DtypeName, choose_device
from torchnin.models import NiN, NiNConfig, create_model
from torchnin.training.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from torchnin.training.errors import CollapseError, DivergenceError, Interrupted
from torchnin.training.log import Display, make_display
from torchnin.training.monitor import Finding, Monitor
from torchnin.training.optimisation import WeightMean, gradient_norm, initialise, make_optimizer
from torchnin.training.provenance import describe_run
from torchnin.training.recipe import Recipe, recipe_for
from torchnin.training.run import Run, new_run_folder, opened
from torchnin.training.signals import StopSignal

# On a GPU, looking at a value waits for all the work before it; so the loss is looked at every so many steps there.
_LOOK_EVERY = 50
_SHOW_SECONDS = 0.2
_CHECKPOINT_SECONDS = 60.0


def train(
    network: NiN | str,
    data: Any,
    recipe: Recipe | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    seed: int = 0,
    device: str = "auto",
    dtype: DtypeName = "auto",
    validation: float = 0.0,
    on_collapse: Literal["warn", "stop"] = "warn",
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a network and write a run folder.

    Args:
        network: a NiN, trained in place, or a network's name, built for the data's channels and classes.
        data: `DatasetSplits`, or anything `load_dataset` takes: a dataset's name, a folder of pictures, arrays.
        recipe: how to train; None takes the network's own (`recipe_for`).
        out: the run folder; None makes a new one under `runs/`.
        seed: decides the order of pictures, augmentation, dropout, held-out pictures and, unless a built network is
            given, its first weights.
        device: `auto`, `cpu`, `cuda`, `mps`.
        dtype: `auto`, `float32`, `bfloat16`: what to compute in.
        validation: share of the train pictures to hold out, in [0, 1); the accuracy on them stands in every epoch's row.
            Where the data comes with a validation split, that is used and this stays 0.
        on_collapse: `warn` says what the monitor finds; `stop` ends the training at its first finding.
        resume: go on with the run in `out`, from its last checkpoint; a finished run is returned as it is.
        overwrite: replace the run in `out`.
        quiet: show nothing.

    Returns:
        The finished run: `.classifier`, `.result`, `.metrics`, `.path`.

    Raises:
        ValueError: the arguments contradict each other, or the run folder is taken.
        DataError: the data is broken.
        DivergenceError: loss or gradient is not finite; the last good state stays in the checkpoint.
        CollapseError: the monitor found something and `on_collapse` is `stop`.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
    """
    splits = data if isinstance(data, DatasetSplits) else load_dataset(data, seed=seed)
    if isinstance(network, str):
        torch.manual_seed(derived_seed(seed, "weights"))
        name, network = network, create_model(network, in_channels=splits.train.in_channels, num_classes=splits.train.num_classes)
    else:
        name = type(network).__name__
    recipe = recipe or recipe_for(network.config)
    _check_fit(network, splits.train)
    if not 0 <= validation < 1:
        raise ValueError(f"validation is {validation}; it is the share of train pictures to hold out, at least 0 and below 1")
    held_out = splits.validation
    if validation and held_out is not None:
        raise ValueError(f"{splits.name} comes with {len(held_out)} validation pictures; leave out validation={validation}")
    learned = splits.train
    if validation:
        learned, held_out = splits.train.split(validation, seed=derived_seed(seed, "validation"))
    choice = choose_device(device, dtype)
    preprocessing = Preprocessing.of(learned, image_size=_image_size(recipe, network, learned), normalise=recipe.normalise)
    config = describe_run(name, network, recipe, splits, len(learned), held_out, preprocessing, seed, validation, choice)
    path = new_run_folder(f"{splits.name}-{name}".replace("/", "-")) if out is None else Path(out)
    with opened(path, resume=resume, overwrite=overwrite) as run:
        if run.finished:
            return run
        display = make_display(quiet)
        try:
            if resume:
                _check_same(run.config, config)
            training = _Training(run, network, learned, held_out, preprocessing, recipe, seed, choice, on_collapse, display)
            if resume:
                training.restore()
            else:
                training.save()
                run.write_config(config)  # after the first checkpoint, so that a run with a configuration can always be resumed
            run.write_metrics(training.rows)
            training.go()
            classifier = training.classifier(splits.test.class_names, config)
            report = classifier.evaluate(splits.test)
            classifier.metadata |= {"test_accuracy": report.accuracy, "test_accuracy_interval": list(report.accuracy_interval)}
            classifier.save(run.path / "classifier")
            run.write_result(training.result(report.accuracy, report.loss, report.num_pictures))
            return run
        finally:
            display.close()


def resume(
    out: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    device: str = "auto",
    on_collapse: Literal["warn", "stop"] = "warn",
    quiet: bool = False,
) -> Run:
    """Go on with a run as it was begun: network, recipe, seed and data are those of its `config.json`.

    Args:
        out: the run folder.
        data_dir: where to look for the data first; it is checked to be the same data.
        device: `auto`, or where to compute. Bits agree with the uninterrupted run on the same device and thread count.
        on_collapse: as for `train`.
        quiet: show nothing.

    Raises:
        ValueError: the folder holds no run, or the data has changed; otherwise as `train`.
    """
    run = Run(out)
    if run.finished:
        return run
    if not run.resumable:
        raise ValueError(f"{run.path} holds no run to resume; leave out --resume to begin one there")
    config = run.config
    try:
        data, size = config["data"], config["data"]["shape"]
        network = NiN(NiNConfig.from_dict(config["network"]))
        recipe, seed, validation = Recipe.from_dict(config["recipe"]), config["seed"], config["validation"]
        splits = load_dataset(
            data["name"],
            data_dir=data_dir,
            image_size=size[1] if size[1] == size[2] else None,
            channels=size[0],
            seed=seed,
            skip_broken=bool(data["skipped"]),
        )
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(f"{run.path / 'config.json'} is not what a training wrote: {error!r} is missing or of another type") from error
    return train(
        network,
        splits,
        recipe,
        out=out,
        seed=seed,
        device=device,
        dtype=config["device"]["dtype"],
        validation=validation,
        on_collapse=on_collapse,
        resume=True,
        quiet=quiet,
    )


class _Training:
    """One training between its first step and its last, able to stop and go on between any two steps.

    No random state is carried: order, augmentation and dropout of every step are drawn from seeds that the run's seed and
    the step's number decide, so a resumed training draws what the uninterrupted one would have drawn.
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
        on_collapse: str,
        display: Display,
    ) -> None:
        self.run, self.recipe, self.seed, self.choice, self.preprocessing = run, recipe, seed, choice, preprocessing
        self.on_collapse, self.display = on_collapse, display
        torch.manual_seed(derived_seed(seed, "initialisation"))
        initialise(network, recipe)
        self.network = choice.place(network).train()
        self.optimizer = make_optimizer(network, recipe)
        self.mean = WeightMean(network, recipe.ema_decay) if recipe.ema_decay else None
        self.batches = Batches(learned, batch_size=recipe.batch_size, device=choice.device, seed=seed)
        self.held_out = None if held_out is None else Batches(held_out, batch_size=recipe.batch_size * 2, device=choice.device)
        self.num_steps = recipe.num_epochs * self.batches.num_batches
        counts = learned.class_counts
        weights = torch.tensor(len(learned) / (counts.clip(1) * len(counts)), dtype=torch.float32)
        self.class_weights = weights.to(choice.device) if recipe.class_weights else None
        self.monitor = Monitor(network, counts.tolist(), math.ceil(recipe.warmup * self.num_steps), choice.device)
        self.generator = torch.Generator(choice.device)
        self.look_every = 1 if choice.device.type == "cpu" else _LOOK_EVERY
        # Where the training stands. The sums are over the epoch so far: loss, right answers, pictures.
        self.step = 0
        self.sums = torch.zeros(3, dtype=torch.float64, device="cpu" if choice.device.type == "mps" else choice.device)
        self.epoch_seconds = 0.0
        self.total_seconds = 0.0
        self.rows: list[dict[str, Any]] = []
        self.findings: list[Finding] = []
        self._saved_at = time.monotonic()

    def go(self) -> None:
        """Train to the recipe's end."""
        with StopSignal() as stop:
            while self.step < self.num_steps:
                self._epoch(stop)

    def _epoch(self, stop: StopSignal) -> None:
        per_epoch = self.batches.num_batches
        epoch, done = divmod(self.step, per_epoch)
        self.display.begin_epoch(epoch + 1, self.recipe.num_epochs, done, per_epoch)
        since, before, shown = time.monotonic(), self.epoch_seconds, 0.0
        for batch in self.batches.epoch(epoch, start=done):
            self._step(batch)
            done += 1
            self.epoch_seconds = before + time.monotonic() - since
            last = done == per_epoch
            if last or self.step % _LOOK_EVERY == 0:
                self._report(self.monitor.findings(epoch + 1, self.step))
            if not last and (self.look_every == 1 or self.step % self.look_every == 0) and self.epoch_seconds - shown > _SHOW_SECONDS:
                shown = self.epoch_seconds
                loss, right, count = self.sums.tolist()
                self.display.step(done, loss / count, right / count, count / max(self.epoch_seconds, 1e-9))
            if not last and (stop.received or time.monotonic() - self._saved_at > _CHECKPOINT_SECONDS):
                self.save()
                self._stop_if(stop)
        self._end_epoch(epoch + 1)
        self._stop_if(stop)

    def _step(self, batch: Batch) -> None:
        """One step of SGD."""
        recipe = self.recipe
        self.generator.manual_seed(derived_seed(self.seed, "augmentation", self.step))
        torch.manual_seed(derived_seed(self.seed, "dropout", self.step))
        pictures = self.preprocessing(recipe.augmentation(batch.pictures, self.generator))
        with self.choice.autocast(), self.monitor.watching(self.step):
            logits = self.network(pictures.contiguous(memory_format=self.choice.memory_format))
        logits = logits.float()
        loss = F.cross_entropy(logits, batch.labels, self.class_weights, label_smoothing=recipe.label_smoothing)
        look = self.step % self.look_every == 0
        if look:
            self._check_finite(loss, "loss")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if recipe.clip_norm is not None:
            norm = gradient_norm(self.network.parameters())
            if look:
                self._check_finite(norm, "gradient")
            torch.nn.utils.clip_grads_with_norm_(self.network.parameters(), recipe.clip_norm, norm, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.lr_at(self.step, self.num_steps)
        self.optimizer.step()
        if self.mean is not None:
            self.mean.update(self.network, self.step)
        count = len(batch.labels)
        with torch.no_grad():
            right = (logits.argmax(1) == batch.labels).sum()
            self.sums += torch.stack([loss.detach() * count, right, torch.full_like(right, count)]).to(self.sums)
        self.monitor.after_step(logits, loss)
        self.step += 1

    def _end_epoch(self, epoch: int) -> None:
        loss, right, count = self.sums.tolist()
        self._check_finite(self.sums[0], "loss")
        row: dict[str, Any] = {"epoch": epoch, "train_loss": loss / count, "train_accuracy": right / count}
        if self.held_out is not None:
            row["validation_accuracy"] = self._validation_accuracy()
        self._report(self.monitor.after_epoch(epoch, self.step, right / count))
        row |= {
            "lr": self.recipe.lr_at(self.step - 1, self.num_steps),
            "images_per_second": count / max(self.epoch_seconds, 1e-9),
            "dead_class_maps": len(self.monitor.dead_class_maps),
            "dead_channels": dict(self.monitor.dead_channels),
            "findings": [finding.to_dict() for finding in self.findings if finding.epoch == epoch],
            "seconds": self.epoch_seconds,
        }
        self.rows.append(row)
        self.total_seconds += self.epoch_seconds
        self.epoch_seconds = 0.0
        self.sums.zero_()
        self.save()  # before the line is written, so that a crash between the two writes it when resumed
        self.run.write_metrics(self.rows)
        self.display.end_epoch(row, self.recipe.num_epochs)

    @torch.inference_mode()
    def _validation_accuracy(self) -> float:
        """Accuracy on the held-out pictures of the weights that would become the classifier now."""
        assert self.held_out is not None
        own = self._swap_in_mean()
        self.network.eval()
        right = torch.zeros((), dtype=torch.int64, device=self.choice.device)
        for batch in self.held_out.epoch():
            with self.choice.autocast():
                logits = self.network(self.preprocessing(batch.pictures).contiguous(memory_format=self.choice.memory_format))
            right += (logits.argmax(1) == batch.labels).sum()
        self.network.train()
        if own is not None:
            self.network.load_state_dict(own)
        return int(right) / len(self.held_out.dataset)

    def _swap_in_mean(self) -> dict[str, Tensor] | None:
        if self.mean is None:
            return None
        own = {name: value.clone() for name, value in self.network.state_dict().items()}
        self.network.load_state_dict(self.mean.state)
        return own

    def classifier(self, class_names: tuple[str, ...], config: dict[str, Any]) -> Classifier:
        """The trained network, its running mean where the recipe asks for one, as a classifier."""
        self._swap_in_mean()
        kept = ("name", "recipe", "data", "seed", "versions")
        return Classifier(
            self.network, self.preprocessing, class_names, metadata={key: config[key] for key in kept}, device=str(self.choice.device)
        )

    def result(self, accuracy: float, loss: float, num_pictures: int) -> dict[str, Any]:
        """What `result.json` says."""
        rate = sum(row["images_per_second"] * row["seconds"] for row in self.rows) / max(self.total_seconds, 1e-9)
        held_out = {key: self.rows[-1][key] for key in ("validation_accuracy",) if key in self.rows[-1]}
        return {
            "test_accuracy": accuracy,
            "test_loss": loss,
            "test_pictures": num_pictures,
            **held_out,
            "num_parameters": sum(parameter.numel() for parameter in self.network.parameters()),
            "epochs": self.recipe.num_epochs,
            "seconds": self.total_seconds,
            "images_per_second": rate,
            "dead_class_maps": self.rows[-1]["dead_class_maps"],
            "seed": self.seed,
        }

    def _report(self, findings: list[Finding]) -> None:
        self.findings += findings
        for finding in findings:
            self.display.note(f"{finding.kind} (epoch {finding.epoch}, step {finding.step}): {finding.message}")
        if findings and self.on_collapse == "stop":
            self.save()
            raise CollapseError(f"stopped at step {self.step}, as asked: {findings[0].message}")

    def _check_finite(self, value: Tensor, what: str) -> None:
        if not torch.isfinite(value):
            recipe = self.recipe
            lr = recipe.lr_at(min(self.step, self.num_steps - 1), self.num_steps)
            raise DivergenceError(
                f"the {what} is {float(value):g} at step {self.step + 1} (epoch {self.step // self.batches.num_batches + 1}, learning rate "
                f"{lr:g}); stopped, the last good state is in {self.run.path / 'checkpoint'}; "
                f"train anew with a lower --lr (now {recipe.lr:g})"
            )

    def _stop_if(self, stop: StopSignal) -> None:
        if stop.received and self.step < self.num_steps:
            raise Interrupted(
                f"stopped at step {self.step:,} of {self.num_steps:,}; everything is saved, "
                f"go on with: nin train --resume --out {self.run.path}",
                stop.received,
            )

    def save(self) -> None:
        """Write a checkpoint; never one of numbers that are not finite."""
        self._check_finite(self.sums[0], "loss")
        tensors = {f"network.{name}": value for name, value in self.network.state_dict().items()}
        if self.mean is not None:
            tensors |= {f"mean.{name}": value for name, value in self.mean.state.items()}
        for name, parameter in self.network.named_parameters():
            tensors |= {f"optimizer.{name}.{key}": value for key, value in self.optimizer.state[parameter].items() if value is not None}
        watched, plain = self.monitor.state()
        tensors |= {f"monitor.{name}": value for name, value in watched.items()}
        tensors["sums"] = self.sums
        progress = {
            "step": self.step,
            "epoch_seconds": self.epoch_seconds,
            "total_seconds": self.total_seconds,
            "rows": self.rows,
            "findings": [finding.to_dict() for finding in self.findings],
            "monitor": plain,
        }
        write_checkpoint(self.run.path / "checkpoint", Checkpoint(tensors=tensors, progress=progress))
        self._saved_at = time.monotonic()

    def restore(self) -> None:
        """Take up the newest whole checkpoint."""
        checkpoint, broken = read_checkpoint(self.run.path / "checkpoint")
        for sentence in broken:
            self.display.note(sentence)
        tensors, progress = checkpoint.tensors, checkpoint.progress
        self.network.load_state_dict(_below(tensors, "network."))
        if self.mean is not None:
            for name, value in _below(tensors, "mean.").items():
                self.mean.state[name].copy_(value)
        for name, parameter in self.network.named_parameters():
            state = _below(tensors, f"optimizer.{name}.")
            # In the parameter's own layout: the update must run through the values in the same order as before.
            self.optimizer.state[parameter] = {
                key: torch.empty_like(parameter, requires_grad=False).copy_(value) for key, value in state.items()
            }
        self.monitor.restore(_below(tensors, "monitor."), progress["monitor"])
        self.sums.copy_(tensors["sums"])
        self.step, self.rows = progress["step"], progress["rows"]
        self.epoch_seconds, self.total_seconds = progress["epoch_seconds"], progress["total_seconds"]
        self.findings = [Finding(**finding) for finding in progress["findings"]]
        self.display.note(f"resuming {self.run.path} at step {self.step:,} of {self.num_steps:,}")


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _image_size(recipe: Recipe, network: NiN, dataset: ImageDataset) -> int | None:
    """The recipe's size; else the dataset's, or the network's own where the dataset's pictures are too small for its layers."""
    if recipe.image_size is not None or min(dataset.image_size) >= network.min_image_size:
        return recipe.image_size
    return network.config.image_size


def _check_fit(network: NiN, dataset: ImageDataset) -> None:
    config = network.config
    for what, wanted, there in (
        ("in_channels", config.in_channels, dataset.in_channels),
        ("num_classes", config.num_classes, dataset.num_classes),
    ):
        if wanted != there:
            raise ValueError(f"the network has {what}={wanted}, the data {there}; build it with create_model(..., {what}={there})")


def _check_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    """A run is resumed with the configuration it began with."""
    for key in ("network", "recipe", "preprocessing", "seed", "validation"):
        if before.get(key) != now[key]:
            was, wanted = before.get(key), now[key]
            if isinstance(was, dict):
                changed = next(name for name in wanted if was.get(name) != wanted[name])
                key, was, wanted = f"{key}.{changed}", was.get(changed), wanted[changed]
            raise ValueError(
                f"the run was begun with {key} = {was!r}, not {wanted!r}; resume it as it was begun, or train anew with --overwrite"
            )
    if before["data"]["checksums"] != now["data"]["checksums"]:
        raise ValueError(
            f"the run was begun with other data ({before['data']['name']} from {before['data']['source']}); "
            "its pictures or labels have changed since; restore them, or train anew with --overwrite"
        )
