"""The same training with many seeds, to tell the recipe from luck."""

import contextlib
import os
import statistics
from pathlib import Path
from typing import Any

from torchnin.data import DatasetSplits, load_dataset
from torchnin.device import choose_device
from torchnin.files import exists, is_file, is_folder, path_of, read_json, write_json
from torchnin.models import NiNConfig
from torchnin.training.errors import CollapseError, DivergenceError, Interrupted
from torchnin.training.monitor import guess_of, is_guessing
from torchnin.training.options import Options
from torchnin.training.plan import reading_size
from torchnin.training.processes import Processes, joined
from torchnin.training.recipe import Recipe
from torchnin.training.run import Run, holds_run, is_run_folder, locked, remove_run
from torchnin.training.start import recipe_of, train
from torchnin.values import switch, whole


def train_seeds(
    network: NiNConfig | str,
    data: Any,
    recipe: Recipe | str | None = None,
    *,
    seeds: int,
    out: str | os.PathLike[str],
    seed: int = 0,
    resume: bool = False,
    overwrite: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Train a network with `seeds` seeds, one after the other, each into `out/seed-N`, and summarise them in `out/summary.json`.

    The summary is written anew after every seed, so that an interrupted study shows what it has.

    Args:
        network: a network's name or configuration; each seed draws its own first weights.
        data: `DatasetSplits`, or anything `load_dataset` takes; the same for every seed.
        recipe: how to train, or the name of a recipe; None takes the network's own, with `resume` the study's.
        seeds: how many.
        out: the folder of the study.
        seed: the first seed; the others count on from it.
        resume: go on with the study in `out`: finished seeds are kept, an interrupted one goes on from its checkpoint, and what is
            left out of `options` is as it was.
        overwrite: replace the study in `out`.
        **options: further arguments of `train`.

    Returns:
        The summary: `mean`, `standard_deviation`, `median`, `minimum`, `maximum` of the test accuracy over the seeds that came to an
        end (fractions of one, None where there is none), `failures` (how many seeds diverged, were stopped, or ended with dead
        class maps or at the accuracy of guessing), and `seeds`, a row for each.

    Raises:
        ValueError: `out` holds a run, or a study or a summary.json already and nothing was said of it, or is a file; otherwise as `train`,
            but a seed that diverges or is stopped is a row, not an error.
        Interrupted: SIGINT or SIGTERM came; all is saved, and the same call with `resume` goes on.
    """
    folder, recipe = path_of(out, "out"), recipe_of(recipe)
    seed, seeds = whole("seed", seed, "a whole number"), whole("seeds", seeds, "a whole number of seeds, at least 1")
    resume, overwrite = switch("resume", resume), switch("overwrite", overwrite)
    if seeds < 1:
        raise ValueError(f"seeds is {seeds}; it must be at least 1")
    if not isinstance(network, NiNConfig | str):
        kind = type(network).__name__
        raise ValueError(f"network is a {kind}, whose weights one seed would hand to the next; give its name or configuration (.config)")
    given = {name: value for name, value in options.items() if value is not None}
    with joined(given.get("device", "auto")) as processes, contextlib.ExitStack() as stack:
        kept = _kept([folder / f"seed-{number}" for number in range(seed, seed + seeds)], given.get("device"), processes) if resume else {}
        if (recorded := kept.pop("recipe", None)) is not None and recipe is None:
            recipe = Recipe.from_dict(recorded)
        given = {key: kept[key] for key in ("validation", "name") if key in kept} | given
        with processes.together():
            splits = data if isinstance(data, DatasetSplits) else load_dataset(data, folder_size=reading_size(network, recipe))
            if processes.first:
                if exists(folder) and not is_folder(folder):
                    raise ValueError(f"{folder} is a file; a study needs a folder, choose another --out")
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(locked(folder))
                there = any(folder.glob("seed-*"))
                if not there and holds_run(folder):
                    raise ValueError(f"{folder} holds a run, and a study takes a folder of its own; choose another --out")
                if not (resume or overwrite) and (there or exists(folder / "summary.json")):
                    raise ValueError(
                        f"{folder} already holds a study, or a summary.json; --resume (resume=True) goes on with it, --overwrite "
                        "(overwrite=True) replaces it, or choose another --out"
                    )
                if overwrite and not resume:
                    _remove_study(folder)
        # A seed that collapse or divergence has ended is not gone on with, unless something else is to be done about it now.
        before = _rows_before(folder, processes) if resume else {}
        ended = {} if "on_collapse" in given else {number: row["failure"] for number, row in before.items() if _has_ended(row)}
        rows: list[dict[str, Any]] = []
        summary: dict[str, Any] = {}
        for number in range(seed, seed + seeds):
            path = folder / f"seed-{number}"
            begun = bool(processes.highest(int(processes.first and resume and is_file(path / "config.json"))))
            try:
                if begun and number in ended:
                    raise CollapseError(ended[number])
                # A seed that was begun keeps its own options; those still to begin take the study's.
                how = given if begun else {**kept, **given}
                run = train(network, splits, recipe, out=path, seed=number, resume=begun, overwrite=overwrite, **how)
                row = {**run.result, "failure": _failure(run, splits.test.class_counts.tolist())} if processes.first else {}
            except (DivergenceError, CollapseError) as error:
                row = {"seed": number, "failure": str(error)}
            except Interrupted as error:
                raise Interrupted(
                    f"stopped in seed {number}, with {len(rows)} of {seeds} seeds done; everything is saved, go on with the same command "
                    "and --resume",
                    error.signal_number,
                ) from error
            rows.append(row)
            before.pop(number, None)
            with processes.together():
                if processes.first:
                    # What earlier calls have told of seeds that are still to be looked at again stays told until then.
                    summary = summarise(rows + [before[later] for later in range(number + 1, seed + seeds) if later in before], seeds)
                    write_json(folder / "summary.json", summary)
        told: dict[str, Any] = processes.told_plain(summary)
        return told


def _remove_study(folder: Path) -> None:
    """Take all seeds of a study away before the first of the new one, so that what an interruption leaves is of one study.

    Raises:
        ValueError: another process trains into one of them.
    """
    (folder / "summary.json").unlink(missing_ok=True)
    for path in folder.glob("seed-*"):
        if is_run_folder(path):
            remove_run(path)


def _rows_before(folder: Path, processes: Processes) -> dict[int, dict[str, Any]]:
    """The rows that the study's summary has so far, by seed."""
    found: list[dict[str, Any]] = []
    if processes.first:
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError, AttributeError):  # none, or none of ours: written anew
            rows = [dict(row) for row in read_json(folder / "summary.json")["seeds"]]
            found = [row for row in rows if isinstance(row["seed"], int) and isinstance(row["failure"], str | None)]
    return {row["seed"]: row for row in processes.told_plain(found)}


def _has_ended(row: dict[str, Any]) -> bool:
    """Whether the seed ended before its last epoch."""
    return bool(row["failure"]) and "test_accuracy" not in row


def _kept(paths: list[Path], device: Any, processes: Processes) -> dict[str, Any]:
    """Recipe, share held out, name and options of a study that goes on, on this device: those of the last of its runs that was begun."""
    kept: dict[str, Any] = {}
    with processes.together():
        if processes.first:
            begun = [path for path in paths if is_file(path / "config.json")]
            if begun:
                config = Run(begun[-1]).config
                fixed: dict[str, Any] = {key: config[key] for key in ("recipe", "validation", "name") if key in config}
                options, dtype = Options.of_run(config), config["device"]["dtype"]
                # Where nobody asked for it, it is what is chosen here too, unless this is another machine.
                asked = config["device"].get("reasons", {}).get("dtype", "asked for").startswith("asked for")
                here = choose_device(processes.device_name(str(device or options.device))).to_dict()["dtype"]
                kept = {**options.to_dict(), "dtype": dtype if asked or dtype != here else None, **fixed}
    told: dict[str, Any] = processes.told_plain(kept)
    return told


def summarise(rows: list[dict[str, Any]], seeds: int) -> dict[str, Any]:
    """The figures over the rows of a study, see `train_seeds`."""
    accuracies = [row["test_accuracy"] for row in rows if "test_accuracy" in row]
    return {
        "num_seeds": seeds,
        "num_done": len(rows),
        "mean": statistics.fmean(accuracies) if accuracies else None,
        "standard_deviation": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "median": statistics.median(accuracies) if accuracies else None,
        "minimum": min(accuracies, default=None),
        "maximum": max(accuracies, default=None),
        "failures": sum(row["failure"] is not None for row in rows),
        "seeds": rows,
    }


def _failure(run: Run, class_counts: list[int]) -> str | None:
    """Why a training that came to its end failed all the same, or None; `class_counts` are those of the test pictures."""
    result, balanced = run.result, run.config["recipe"].get("class_weights", False)
    if dead := result["dead_class_maps"]:
        return f"{dead} class maps were dead at the end"
    # Results of earlier versions lack the other.
    reached = result.get("test_balanced_accuracy", result["test_accuracy"]) if balanced else result["test_accuracy"]
    return "the accuracy is that of guessing" if is_guessing(reached, guess_of(class_counts, balanced), sum(class_counts)) else None
