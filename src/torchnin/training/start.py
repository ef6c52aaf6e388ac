"""The verbs `train` and `resume`: a plan, a run folder, the loop and its end."""

import contextlib
import dataclasses
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from torchnin.classifier import Classifier
from torchnin.data import DataError, DatasetSplits
from torchnin.data.progress import Progress
from torchnin.device import DtypeName, choose_device
from torchnin.files import in_command, path_of
from torchnin.models import NiN, NiNConfig
from torchnin.training.errors import DivergenceError
from torchnin.training.finish import finish
from torchnin.training.log import Both, Display, EpochEnd, Silent, make_display
from torchnin.training.loop import Training
from torchnin.training.memory import named_when_short
from torchnin.training.options import OnCollapse, OnOutOfMemory, Options
from torchnin.training.plan import make_plan
from torchnin.training.processes import Processes, joined
from torchnin.training.provenance import are_others, load_recorded
from torchnin.training.recipe import RECIPES, Recipe, named_recipe
from torchnin.training.repeatable import repeatable
from torchnin.training.run import Run, holds_run, is_run_folder, new_run_folder, opened
from torchnin.values import real, switch, whole

# What a run keeps from its beginning to its end.
_FIXED = ("network", "weights", "recipe", "preprocessing", "seed", "validation")
# What of a run's device changes its last bits.
_ELSEWHERE = ("torch", "torchnin", "device", "dtype", "threads", "processes", "deterministic", "native")
# Trainings in several threads take turns: torch's random numbers and switches are those of the whole process.
_ONE_AT_A_TIME = threading.RLock()


def train(
    network: NiN | NiNConfig | Classifier | str,
    data: Any,
    recipe: Recipe | str | None = None,
    *,
    out: str | os.PathLike[str] | None = None,
    name: str | None = None,
    seed: int = 0,
    device: str | None = None,
    dtype: DtypeName | None = None,
    validation: float = 0.0,
    on_collapse: OnCollapse | None = None,
    on_out_of_memory: OnOutOfMemory | None = None,
    accumulate: int | None = None,
    deterministic: bool | None = None,
    compile: bool | None = None,
    resume: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    watcher: Display | None = None,
    on_epoch: Callable[[Run], None] | None = None,
) -> Run:
    """Train a network and write a run folder.

    Started by torchrun, all processes train one network together: each takes its part of every batch, the first one writes
    the run folder and speaks, and all return when it has written the result. In several threads of a process one training waits for
    the other.

    With `resume`, what is left out of `device`, `on_collapse`, `on_out_of_memory`, `accumulate`, `deterministic` and `compile` is as the
    run was begun, or as it was last given to it; `dtype`, left out, is as the run was begun.

    Args:
        network: a network's name or configuration, built for the data's channels and classes; or a classifier, whose weights a copy of
            its network goes on from, where the classes are others with a new last block; or a NiN, trained in place: its own weights are
            where the training begins if the recipe's `initialisation` is `as built`, or None and they are not those that it was built
            with (`network.pretrained`); otherwise they are drawn anew.
        data: `DatasetSplits`, or anything `load_dataset` takes: a dataset's name, a folder of pictures, arrays.
        recipe: how to train, or the name of a recipe; None takes the network's own (`recipe_for`), and of a NiN whose weights were read
            in, trained or set (`network.pretrained`) goes on from these; with `resume` it takes the run's.
        out: the run folder; None makes a new one under `runs/`.
        name: what the records call the network; None takes its own name where it has one.
        seed: decides the order of pictures, augmentation, dropout, held-out pictures and the weights that are drawn.
        device: `auto`, `cpu`, `cuda`, `mps`; None means `auto`.
        dtype: `auto`, `float32`, `bfloat16`: what to compute in; None means `auto`.
        validation: share of the train pictures to hold out, in [0, 1); the accuracy on them stands in every epoch's row.
            Where the data comes with a validation split, that is used and this stays 0.
        on_collapse: `warn`, which None means, says what the monitor finds; `stop` ends the training when learning collapses;
            `recover` goes back to the last good state, with half the learning rate, and draws the last block anew, or all weights where
            they were drawn and nothing had been learned yet; where a loss or gradient was not finite, it draws nothing.
        on_out_of_memory: `accumulate`, which None means, learns from half as many pictures at once from there on and adds up the
            gradients, so that a batch stays what it was; `stop` ends the training.
        accumulate: in how many pieces each process looks at its part of a batch, to save memory; None begins with one.
            More than have pictures are as many as have.
        deterministic: the same seed, machine and number of threads give the same bits; None means so on a CPU.
        compile: let torch compile the network with the first step, which takes it seconds to minutes; None means not. For one process;
            where it cannot be compiled it is trained as it is, with a warning. Meant for GPUs: on a CPU it was slower (docs/lab-log.md).
        resume: go on with the run in `out`, from its last checkpoint; a finished run is returned as it is.
        overwrite: replace the run in `out`.
        quiet: show nothing.
        watcher: what else is told how the training goes, such as a page, or `torchnin.training.TensorBoard()`.
        on_epoch: called with the run after every epoch, when its line of `.metrics` is written; to draw live curves.

    Returns:
        The finished run: `.classifier`, `.result`, `.metrics`, `.path`.

    Raises:
        TypeError: network, data, recipe, name, watcher or on_epoch is of another type.
        ValueError: the arguments contradict each other; the network is not what its configuration describes, neither in float32 nor
            in float64, or frozen throughout; or the run folder is taken.
        DataError: the data is broken.
        DivergenceError: loss or gradient is not finite; the last good state stays in the checkpoint. Or the finished network gives no
            finite logits for the test pictures.
        CollapseError: class maps died, or the loss stood still, or the accuracy was that of guessing, and `on_collapse` is `stop`; or
            `recover` gave up.
        Interrupted: SIGINT or SIGTERM came; the state is saved.
        OutOfMemoryError: there is too little memory, also for smaller pieces.
        LostProcessError: another of the processes that train together ended.
    """
    _check_network(network)
    _check_told(name, watcher, on_epoch)
    recipe = recipe_of(recipe)
    seed = whole("seed", seed, "a whole number")
    resume, overwrite, quiet = switch("resume", resume), switch("overwrite", overwrite), switch("quiet", quiet)
    if resume and out is None:
        raise ValueError("resume goes on with the run in out, and out is None; give its folder")
    validation = real("validation", validation, "the share of train pictures to hold out, at least 0 and below 1")
    with _ONE_AT_A_TIME, named_when_short(), joined(device or "auto") as processes, contextlib.ExitStack() as stack:
        begun = _begun(Run(out), processes) if resume and out is not None else {}
        with processes.together():
            options = Options.of_run(begun).given_anew(
                device=device,
                on_collapse=on_collapse,
                on_out_of_memory=on_out_of_memory,
                accumulate=accumulate,
                deterministic=deterministic,
                compile=compile,
            )
            if options.compile and not processes.alone:
                raise ValueError("compile is for one process, and this training has several; leave it out")
            choice = choose_device(processes.device_name(options.device), dtype or (begun["device"]["dtype"] if begun else "auto"))
            if begun and not dtype:
                choice = dataclasses.replace(choice, reasons={**choice.reasons, "dtype": "as the run was begun"})
            # Weights, dropout and what else torch draws is seeded here; the caller's random numbers go on as if it had not been.
            stack.enter_context(torch.random.fork_rng([choice.device] if choice.device.type == "cuda" else []))
            # Gradients are wanted, and numbers as they were asked for, also where the caller has switched to others.
            for mode in (torch.inference_mode(False), torch.enable_grad(), torch.autocast(choice.device.type, enabled=False)):
                stack.enter_context(mode)
            repeats = stack.enter_context(repeatable(options.deterministic, choice.device))
            if recipe is None and "recipe" in begun:
                recipe = Recipe.from_dict(begun["recipe"])
            elif recipe is not None and recipe.initialisation is None and "recipe" in begun:
                recipe = dataclasses.replace(recipe, initialisation=begun["recipe"]["initialisation"])
            plan = make_plan(network, data, recipe, name=name, seed=seed, validation=validation, choice=choice)
            config = plan.config(begun, options, processes, deterministic=repeats)
        _check_alike(processes, config)
        path = new_run_folder(f"{Path(plan.splits.name).name}-{plan.name}") if out is None else path_of(out, "out")
        run = Run(os.fsdecode(processes.told(os.fsencode(path))))
        with processes.together():
            if processes.first:
                stack.enter_context(opened(path, resume=resume, overwrite=overwrite))
                if resume:
                    begun, broken = run.read_config()
                    _check_same(begun, config)
        if processes.highest(int(processes.first and run.complete)):
            return run
        stack.enter_context(_trained_when_done(plan.network))
        display = make_display(quiet, watcher) if processes.first else Silent()
        if on_epoch is not None and processes.first:
            display = Both(display, EpochEnd(partial(on_epoch, run)))
        stack.callback(display.close)
        for sentence in plan.notes(processes, goes_on=resume):
            display.note(sentence)
        if options.compile:
            display.note("the network is compiled with the first step, which takes seconds to minutes")
        training = Training(
            run=run,
            network=plan.network,
            learned=plan.learned,
            held_out=plan.held_out,
            preprocessing=plan.preprocessing,
            recipe=plan.recipe,
            seed=seed,
            choice=choice,
            options=options,
            display=display,
            processes=processes,
            trained="begun_from" in config,
        )
        if resume:
            training.restore(pieces=accumulate)
        else:
            training.level_class_maps()
        with processes.together():
            if processes.first:
                if resume:
                    _note_elsewhere(begun, config, display)
                    if broken is not None:
                        display.note(broken)
                    if accumulate is not None:
                        training.save()  # in which the pieces stand that a run has come to
                    if broken is not None or options != Options.of_run(begun):
                        run.write_config({**begun, "options": options.to_dict()})
                else:
                    training.save()
                    run.write_config(config)  # after the first checkpoint, so that a run with a configuration can always be resumed
                run.write_metrics(training.rows)
        display.begin(run.path)
        training.go()
        diverged = None
        with processes.together():
            made = training.classifier(plan.splits.test.class_names, config)  # in every process, whose network is the user's
            if processes.first:
                try:
                    finish(training, made, plan.splits, display)
                except DivergenceError as error:
                    diverged = str(error)
        if (told := processes.told_plain(diverged)) is not None:  # every process ends the training alike, and a study goes on in all
            raise DivergenceError(told, training.step)
        return run


def _check_network(network: Any) -> None:
    if not isinstance(network, NiN | NiNConfig | Classifier | str):
        raise TypeError(
            f"network is of type {type(network).__name__}; accepted: a network's name, a NiNConfig, a Classifier or a NiN, "
            "as create_model makes it"
        )
    weights = tuple(network.parameters()) if isinstance(network, NiN) else ()
    if any(weight.is_meta for weight in weights):
        raise ValueError("the network is on the meta device, where it has no weights; make it elsewhere")
    if others := {weight.dtype for weight in weights} - {torch.float32, torch.float64}:
        raise ValueError(
            f"the network is in {', '.join(sorted(map(str, others)))}, in which small steps are lost; give network.float(); "
            "with dtype='bfloat16' it is computed in bfloat16 all the same"
        )


def _check_told(name: Any, watcher: Any, on_epoch: Any) -> None:
    """What keeps and hears what a training says."""
    if not isinstance(name, str | None):
        raise TypeError(f"name is of type {type(name).__name__}; accepted: text, or None")
    if watcher is not None and (isinstance(watcher, type) or not callable(getattr(watcher, "end_epoch", None))):
        given = f"the class {watcher.__name__}" if isinstance(watcher, type) else f"of type {type(watcher).__name__}"
        raise TypeError(f"watcher is {given}; accepted: what has a Display's methods, such as torchnin.training.TensorBoard()")
    if on_epoch is not None and not callable(on_epoch):
        raise TypeError(f"on_epoch is of type {type(on_epoch).__name__}; accepted: a function, which is given the run")


def recipe_of(recipe: Any) -> Recipe | None:
    """A recipe, or the one of this name.

    Raises:
        TypeError: it is neither, nor None.
    """
    if isinstance(recipe, str):
        return named_recipe(recipe)
    if recipe is None or isinstance(recipe, Recipe):
        return recipe
    raise TypeError(f"recipe is of type {type(recipe).__name__}; accepted: a Recipe, None, or one of the names {', '.join(RECIPES)}")


@contextlib.contextmanager
def _trained_when_done(network: NiN) -> Iterator[None]:
    """Notes that the network's weights are trained; a training that breaks off, and may have read states of its own, changes nothing."""
    before = network.pretrained
    try:
        yield
    except BaseException:
        network.pretrained = before
        raise
    network.pretrained = True


def resume(
    out: str | os.PathLike[str],
    *,
    data_dir: str | os.PathLike[str] | None = None,
    device: str | None = None,
    on_collapse: OnCollapse | None = None,
    on_out_of_memory: OnOutOfMemory | None = None,
    accumulate: int | None = None,
    deterministic: bool | None = None,
    compile: bool | None = None,
    quiet: bool = False,
    watcher: Display | None = None,
    progress: contextlib.AbstractContextManager[Progress | None] | None = None,
) -> Run:
    """Go on with a run as it was begun: network, frozen layers, recipe, seed, data and options are those of its `config.json`.

    What is given here of `train`'s options holds from here on, also when the run is resumed again.

    Args:
        out: the run folder.
        data_dir: where to look for the data first, also for a folder or file that has moved; it is checked to be the same data.
        device: as for `train`. Bits agree with the uninterrupted run on the same device and thread count.
        on_collapse, on_out_of_memory, deterministic, compile: as for `train`.
        accumulate: as for `train`; None goes on with the pieces that the run had come to.
        quiet: show nothing.
        watcher: as for `train`.
        progress: entered while the data is read, gives what is told how that goes, as for `load_dataset`.

    Raises:
        ValueError: the folder holds no run, or the data has changed; otherwise as `train`.
    """
    with _ONE_AT_A_TIME, joined(device or "auto") as processes:
        run = Run(out)
        begun = _begun(run, processes)
        if processes.highest(int(processes.first and run.complete)):
            return run
        # The weights that a network is built with are drawn, and then read in.
        with processes.together(), torch.random.fork_rng([]), torch.inference_mode(False), progress or contextlib.nullcontext() as told:
            network, recipe, splits = _as_begun(begun, run, data_dir, told)
        return train(
            network,
            splits,
            recipe,
            out=out,
            name=begun["name"],
            seed=begun["seed"],
            device=device,
            validation=begun["validation"],
            on_collapse=on_collapse,
            on_out_of_memory=on_out_of_memory,
            accumulate=accumulate,
            deterministic=deterministic,
            compile=compile,
            resume=True,
            quiet=quiet,
            watcher=watcher,
        )


def _begun(run: Run, processes: Processes) -> dict[str, Any]:
    """The configuration that a run was begun with, read by the first process and told to the others."""
    config: dict[str, Any] = {}
    with processes.together():
        if processes.first:
            _check_resumable(run)
            config = run.config
    begun: dict[str, Any] = processes.told_plain(config)
    return begun


def _check_resumable(run: Run) -> None:
    held = holds_run(run.path)
    if run.resumable or (held and run.finished):
        return
    if held:
        raise ValueError(f"{run.path} holds a run that has not ended, and no checkpoint to go on from; train anew with --overwrite")
    if (seed := next(filter(is_run_folder, sorted(run.path.glob("seed-*"))), None)) is not None:
        raise ValueError(
            f"{run.path} holds the runs of several seeds; go on with all of them by the command that began them and --resume, "
            f"or with one alone: --resume --out {in_command(seed)}"
        )
    raise ValueError(f"{run.path} holds no run to resume; leave out --resume to begin one there")


def _as_begun(
    config: dict[str, Any], run: Run, data_dir: str | os.PathLike[str] | None, progress: Progress | None
) -> tuple[NiN, Recipe, DatasetSplits]:
    """Network, recipe and data that a run's `config.json` records."""
    try:
        if config["data"]["source"] == "arrays":
            raise ValueError(f"{run.path} was trained on arrays; go on with torchnin.train(..., resume=True), which takes them again")
        network, recipe = _network_as_begun(config, run), Recipe.from_dict(config["recipe"])
        _ = config["device"]["dtype"], Options.of_run(config)
        if type(config["name"]) is not str or type(config["seed"]) is not int or type(config["validation"]) not in (int, float):
            raise TypeError("name, seed or validation")
        return network, recipe, load_recorded(config["data"], data_dir=data_dir, progress=progress)
    except (KeyError, TypeError, IndexError) as error:
        raise DataError(f"{run.path / 'config.json'} is not what a training wrote: {error!r} is missing or of another type") from error


def _network_as_begun(config: dict[str, Any], run: Run) -> NiN:
    try:
        weights = config.get("weights", {})  # earlier versions recorded none
        with torch.device("cpu"):
            network = NiN(NiNConfig.from_dict(config["network"]))
        for name in weights.get("frozen", ()):
            network.get_parameter(name).requires_grad_(False)
        return network.double() if weights.get("dtype") == "float64" else network
    except (RuntimeError, OverflowError, TypeError, AttributeError) as error:
        said = str(error).partition("\n")[0][:200]
        raise DataError(f"{run.path / 'config.json'} is not what a training wrote: no network is made of it ({said})") from error


def _check_alike(processes: Processes, config: dict[str, Any]) -> None:
    """Several processes train one network on the same data: what each made of its arguments and its files is the same."""
    if processes.alone:
        return
    ours = {key: config[key] for key in (*_FIXED, "options", "data", "versions")}
    ours["data"] = ours["data"]["checksums"]
    ours["versions"] = {key: ours["versions"][key] for key in ("torchnin", "torch")}
    ours = json.loads(json.dumps(ours))
    firsts = processes.told_plain(ours)
    with processes.together():
        for key, value in ours.items():
            if value != firsts[key]:
                what = "the pictures or labels" if key == "data" else key
                raise ValueError(
                    f"process {processes.rank + 1} of {processes.count} on {socket.gethostname()}: {what} are not those of the first "
                    f"({value!r}, not {firsts[key]!r}); give every host the same data, command and versions"
                )


def _note_elsewhere(before: dict[str, Any], now: dict[str, Any], display: Display) -> None:
    """Say so where a resumed run computes in another way than before, which changes its last bits."""
    before, now = ({**config["versions"], **config["device"]} for config in (before, now))
    changed = [f"{key} {before[key]}, now {now[key]}" for key in _ELSEWHERE if before.get(key, now[key]) != now[key]]
    if changed:
        display.note(f"begun with {'; '.join(changed)}: the same training up to rounding, not to the bit")


def _check_same(before: dict[str, Any], now: dict[str, Any]) -> None:
    """A run is resumed with the configuration it began with."""
    now = json.loads(json.dumps(now))  # as the other was read: tuples are lists there
    if are_others(before["data"]["checksums"], now["data"]["checksums"]):
        raise ValueError(
            f"the run was begun with other data ({before['data']['name']} from {before['data']['source']}); "
            "its pictures or labels have changed since; restore them, or train anew with --overwrite"
        )
    # A field that a recipe did not have yet was as it is by default; earlier versions did not record the weights' state.
    recipe = json.loads(json.dumps(Recipe.from_dict(before.get("recipe", {})).to_dict()))
    before = {"weights": now["weights"], **before, "recipe": recipe}
    for key in _FIXED:
        if before.get(key) != now[key]:
            was, wanted = before.get(key), now[key]
            if isinstance(was, dict):
                changed = next(name for name in was | wanted if was.get(name, ...) != wanted.get(name, ...))
                key, was, wanted = f"{key}.{changed}", was.get(changed), wanted.get(changed)
            raise ValueError(
                f"the run was begun with {key} = {was!r}, not {wanted!r}; resume it as it was begun, or train anew with --overwrite"
            )
