"""`nin train`: from a dataset and a recipe to a run folder with its classifier."""

import contextlib
import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

import torchnin
from torchnin.commands.loading import load_classifier
from torchnin.commands.networks import Given, Json, NetworkChoices, Switch, chosen_fields, named_config
from torchnin.commands.output import note, result, table
from torchnin.commands.process import keep_freed_memory
from torchnin.commands.progress import data_bar
from torchnin.files import in_command
from torchnin.values import counted

if TYPE_CHECKING:
    from torchnin import Classifier, DatasetSplits, NiNConfig, Run
    from torchnin.training.log import Display


@dataclasses.dataclass(frozen=True, kw_only=True)
class RecipeChoices:
    """What to change in the recipe; left out, it is as named."""

    num_epochs: Given[int] = None
    """Passes over the training pictures."""
    batch_size: Given[int] = None
    """Pictures in a step."""
    optimizer: Given[Literal["sgd", "muon"]] = None
    """SGD for everything, or Muon for the convolutions between the first and the last and SGD for the rest."""
    lr: Given[float] = None
    """Learning rate at its highest; where the recipe is Muon's, that of the first and last convolution, biases and norms."""
    muon_lr: Given[float] = None
    """Muon's learning rate at its highest: that of the other convolutions, where the recipe is Muon's."""
    muon_momentum: Given[float] = None
    """Muon's momentum."""
    schedule: Given[Literal["constant", "linear", "cosine"]] = None
    """What the learning rates do after the warm-up: stay, or fall to zero."""
    warmup: Given[float] = None
    """Share of all steps over which the learning rates rise from zero."""
    keep_norms: Given[bool] = None
    """Bring the weights that Muon trains back to their first norms after every step, as `steady` and `long` do."""
    level_class_maps: Given[bool] = None
    """Start each class map at the same mean over 256 train pictures, so that none begins near zero, as `steady` does."""
    weight_decay: Given[float] = None
    """L2 penalty on the weights that SGD trains: where the recipe is Muon's, those of the first and last convolution."""
    label_smoothing: Given[float] = None
    """Share of the target spread evenly over all classes."""
    ema_decay: Given[float] = None
    """Decay per step of the running mean of the weights."""
    clip_norm: Given[float] = None
    """Largest norm of the gradient."""
    thinning: Given[float] = None
    """Probability with which an easy picture is left out of a pass."""
    class_weights: Given[bool] = None
    """Weigh rare classes as much as common ones."""
    flip: Given[bool] = None
    """Mirror training pictures at random."""
    shift: Given[int] = None
    """Move training pictures by up to so many pixels."""
    erase: Given[float] = None
    """Probability of a rectangle of noise in a training picture."""
    image_size: Given[int] = None
    """Side in pixels to which pictures are resized."""

    def given(self) -> dict[str, Any]:
        """The fields that were set."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


_AS_NAMED = RecipeChoices()
_AS_PUBLISHED = NetworkChoices()


def train(
    data: Annotated[Given[str], tyro.conf.Positional] = None,
    *,
    model: Given[str] = None,
    weights: Given[str] = None,
    recipe: Given[str] = None,
    recipe_choices: RecipeChoices = _AS_NAMED,
    network_choices: NetworkChoices = _AS_PUBLISHED,
    validation: Given[float] = None,
    seed: Given[int] = None,
    seeds: Given[int] = None,
    out: Given[Path] = None,
    data_dir: Given[Path] = None,
    skip_broken: Switch = False,
    resume: Switch = False,
    overwrite: Switch = False,
    on_collapse: Given[Literal["warn", "stop", "recover"]] = None,
    on_out_of_memory: Given[Literal["accumulate", "stop"]] = None,
    accumulate: Given[int] = None,
    deterministic: Given[bool] = None,
    compile: Given[bool] = None,
    device: Given[str] = None,
    dtype: Given[Literal["auto", "float32", "bfloat16"]] = None,
    watch: Switch = False,
    tensorboard: Switch = False,
    as_json: Json = False,
) -> None:
    """Train a network: a run folder with metrics, result and classifier.

    Args:
        data: A dataset's name (see `nin datasets`) or a folder of pictures; fashion-mnist by default.
        model: A named network (see `nin models`) or a variant such as nin_small:mlp_layers=2; nin_small by default.
        weights: Go on from trained weights and their network (fine-tuning): the name of weights that ship (see `nin models`), a run, a
            saved classifier or hf-hub:OWNER/NAME. Where the classes are others, the last block begins anew.
        recipe: fast, long, steady or d2l; by default the one that suits the network. d2l brings nin_d2l with it.
        recipe_choices: What to change in the recipe.
        network_choices: What to change in the network.
        validation: Share of the train pictures to hold out and report on after every epoch.
        seed: Decides everything that is random; 0 by default.
        seeds: Train with so many seeds, one after the other, each into its own folder inside --out, and report on all.
        out: The run folder; by default a new one under runs/.
        data_dir: Where to look for the data first.
        skip_broken: Leave out pictures that do not decode, and count them, instead of stopping.
        resume: Go on with the run in --out as it was begun; the six options from --on-collapse to --device can be given anew.
        overwrite: Replace the run in --out.
        on_collapse: What to do when learning collapses: warn (so by default), stop, or recover (go back, halve the learning rate).
        on_out_of_memory: What to do then: accumulate (so by default; half as many pictures at once, gradients added up), or stop.
        accumulate: Look at each batch in so many pieces from the start, as far as the pictures go, to save memory.
        deterministic: The same seed, machine and number of threads give the same bits; so by default on a CPU.
        compile: Let torch compile the network with the first step, which takes it seconds to minutes; not so by default. Meant for GPUs.
        device: auto (so by default), cpu, cuda or mps.
        dtype: What to compute in; by default what is fastest on the device.
        watch: Show in the browser how the training goes, on a page of this machine alone that ends with the training; needs the extra
            web.
        tensorboard: Write the figures of each epoch for TensorBoard too, into the run folder; needs the extra tensorboard.
        as_json: Print one JSON document on standard output.
    """
    manner: dict[str, Any] = {
        "on_collapse": on_collapse,
        "on_out_of_memory": on_out_of_memory,
        "accumulate": accumulate,
        "deterministic": deterministic,
        "compile": compile,
        "device": device,
    }
    # Under torchrun every process comes through here; what goes wrong is said by one of them, and the first one shows the result.
    with torchnin.training.joined(device or "auto") as processes:
        with processes.together():
            asked = {
                "data": data,
                "model": model,
                "weights": weights,
                "recipe": recipe,
                "validation": validation,
                "seed": seed,
                "dtype": dtype,
            }
            changes = {**recipe_choices.given(), **network_choices.given()}
            given = [name for name, value in {**asked, **changes}.items() if value is not None]
            given += ["skip_broken"] * skip_broken
            if resume and overwrite:
                raise ValueError("--resume goes on with what is in --out and --overwrite replaces it; leave out one of them")
            if seeds is None and resume:
                _check_resumable(out, given)
            if seeds is not None and out is None:
                raise ValueError("--seeds needs --out: the folder that gets a run for each seed")
            _check_extras(watch and processes.first, tensorboard and processes.first)
            if seeds is not None or not resume:
                if weights is None:
                    name = model or ("nin_d2l" if recipe == "d2l" else "nin_small")
                    classifier, config = None, named_config(name, network_choices)
                    manner["name"] = name.partition(":")[0]
                else:
                    classifier = _trained(weights, model, network_choices, seeds)
                    config = classifier.config
                chosen = _changed(torchnin.named_recipe(recipe) if recipe else torchnin.recipe_for(config), recipe_choices)
                _check_levelling(recipe_choices, config, weights)
                size = torchnin.training.reading_size(classifier or config, chosen)
                named = {"in_channels": config.in_channels} if classifier else chosen_fields(name, network_choices)
                channels = named.get("in_channels")
                splits = _load(data or "fashion-mnist", data_dir, seed or 0, skip_broken, channels, size, processes.first)
                if "num_classes" in named and named["num_classes"] != splits.train.num_classes:
                    raise ValueError(
                        f"num_classes is {named['num_classes']}; {splits.name} has {splits.train.num_classes} classes, and the network "
                        "is built for those: leave it out"
                    )
                manner |= {"seed": seed or 0, "dtype": dtype, "validation": validation or 0.0}
        keep_freed_memory()
        with _watched(watch and processes.first, tensorboard and processes.first) as manner["watcher"]:
            if seeds is not None and out is not None:
                summary = torchnin.train_seeds(config, splits, chosen, seeds=seeds, out=out, resume=resume, overwrite=overwrite, **manner)
            elif resume and out is not None:
                run = torchnin.resume(out, data_dir=data_dir, progress=data_bar() if processes.first else None, **manner)
            else:
                run = torchnin.train(classifier or config, splits, chosen, out=out, overwrite=overwrite, **manner)
        if not processes.first:
            return
        if seeds is not None and out is not None:
            _show_seeds(summary, out, as_json)
        else:
            _show(run, as_json)


def _check_extras(watch: bool, tensorboard: bool) -> None:
    """Before anything is downloaded or read.

    Raises:
        ModuleNotFoundError: an extra that is asked for is not installed.
    """
    if tensorboard:
        torchnin.training.TensorBoard()
    if watch:
        _ = torchnin.web


@contextlib.contextmanager
def _watched(watch: bool, tensorboard: bool) -> Iterator["Display | None"]:
    """What the training is to report to beside the terminal: the page's training view and TensorBoard's files, where they are wanted."""
    files = torchnin.training.TensorBoard() if tensorboard else None
    if not watch:
        yield files
        return
    with torchnin.web.watched() as (page, address):
        note(f"watch it at {address}")
        yield page if files is None else torchnin.training.Both(page, files)


def _trained(weights: str, model: str | None, choices: NetworkChoices, seeds: int | None) -> "Classifier":
    """The classifier to go on from, which brings its own network."""
    given = ["--model"] * (model is not None) + ["--" + name.replace("_", "-") for name in choices.given()]
    if given:
        raise ValueError(f"--weights {weights} brings its own network; leave out {', '.join(given)}")
    if seeds is not None:
        raise ValueError("--seeds draws the weights of each training anew; leave out --weights, or --seeds")
    return load_classifier(weights, device="cpu", backend="torch")


def _check_resumable(out: Path | None, given: list[str]) -> None:
    if out is None:
        raise ValueError("--resume needs --out: the folder of the run to go on with")
    if given:
        flags = ", ".join("DATA" if name == "data" else "--" + name.replace("_", "-") for name in given)
        raise ValueError(f"with --resume the run goes on as it was begun; leave out {flags}")


def _load(
    data: str, data_dir: Path | None, seed: int, skip_broken: bool, channels: int | None, size: int | tuple[int, int] | None, shown: bool
) -> "DatasetSplits":
    with data_bar() if shown else contextlib.nullcontext() as progress:
        return torchnin.load_dataset(
            data, data_dir=data_dir, seed=seed, skip_broken=skip_broken, channels=channels, folder_size=size, progress=progress
        )


def _changed(recipe: "torchnin.Recipe", choices: RecipeChoices) -> "torchnin.Recipe":
    given = choices.given()
    for name in ("muon_lr", "muon_momentum", "keep_norms"):
        if name in given and given.get("optimizer", recipe.optimizer) != "muon":
            flag = ("--no-" if given[name] is False else "--") + name.replace("_", "-")
            raise ValueError(f"{flag} is for a recipe with Muon, as fast and steady are; this one learns by SGD alone, at --lr")
    if "level_class_maps" in given and recipe.initialisation != "alive":
        flag = "--level-class-maps" if given["level_class_maps"] else "--no-level-class-maps"
        raise ValueError(f"{flag} is for a recipe whose class maps start alive, as steady is; this one starts {recipe.initialisation!r}")
    return recipe.changed(**given)


def _check_levelling(choices: RecipeChoices, config: "NiNConfig", weights: str | None) -> None:
    if not choices.level_class_maps:
        return
    if weights is not None:
        raise ValueError(f"--level-class-maps is for class maps that are drawn, and --weights {weights} brings its own; leave out one")
    if not config.class_map_relu:
        raise ValueError("--level-class-maps is for class maps that end in a ReLU, and this network's do not; leave it out")


def _show(run: "Run", as_json: bool) -> None:
    found = run.result
    low, high = run.classifier.metadata["test_accuracy_interval"]
    text = (
        f"test accuracy {found['test_accuracy']:.4f} (95 % interval {low:.4f} to {high:.4f}, {found['test_pictures']:,} pictures), "
        f"loss {found['test_loss']:.4f}; {found['num_parameters']:,} parameters, {counted(found['epochs'], 'epoch')} "
        f"in {found['seconds']:.0f} s"
    )
    result({**found, "path": str(run.path)}, text, as_json)
    note(f"run: {run.path}; use it with: nin predict {in_command(run.path)} PICTURE")


def _recovered(row: dict[str, Any]) -> str:
    """What stands where a failure would of a seed that came to its end by going back."""
    count = row.get("recoveries", 0)
    return f"none, after {count} {'recovery' if count == 1 else 'recoveries'}" if count else ""


def _show_seeds(summary: dict[str, Any], out: Path, as_json: bool) -> None:
    rows = [
        (str(row["seed"]), f"{row['test_accuracy']:.4f}" if "test_accuracy" in row else "-", row["failure"] or _recovered(row))
        for row in summary["seeds"]
    ]
    text = table(("seed", "test accuracy", "failure"), rows, right=frozenset({0, 1}))
    if summary["mean"] is not None:
        spread = "" if summary["standard_deviation"] is None else f", standard deviation {summary['standard_deviation']:.4f}"
        text += f"\nmean {summary['mean']:.4f}{spread}, minimum {summary['minimum']:.4f}"
    text += f"\n{summary['failures']} of {summary['num_done']} seeds failed"
    result(summary, text, as_json)
    note(f"runs: {out}")
