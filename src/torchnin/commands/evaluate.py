"""`nin evaluate`: how good a classifier is."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

import torchnin
from torchnin.commands.loading import load_classifier
from torchnin.commands.networks import Csv, Given, Json, Switch
from torchnin.commands.output import note, result, write
from torchnin.commands.progress import data_bar

if TYPE_CHECKING:
    from torchnin import Classifier, DatasetSplits, ImageDataset, Report

_NUM_MISTAKES = 24


def evaluate(
    classifier: Annotated[str, tyro.conf.Positional],
    data: Annotated[Given[str], tyro.conf.Positional] = None,
    *,
    data_dir: Given[Path] = None,
    skip_broken: Switch = False,
    split: Given[str] = None,
    plot: Given[Path] = None,
    reliability: Given[Path] = None,
    mistakes: Given[Path] = None,
    language: Literal["en", "zh"] = "en",
    tta: Given[Literal["flip"]] = None,
    device: str = "auto",
    as_json: Json = False,
    as_csv: Csv = False,
) -> None:
    """Measure a classifier on a dataset: accuracy with its interval, per class, confusion, calibration.

    Args:
        classifier: A run folder, a saved classifier's folder, the name of weights that ship (see `nin models`), or hf-hub:OWNER/NAME.
        data: A dataset's name or a folder of pictures; without it the data that the classifier was trained on.
        data_dir: Where to look for the data first.
        skip_broken: Leave out pictures of DATA that do not decode, and count them, instead of stopping.
        split: Which pictures: test, train, validation, or all. By default test; all of DATA that has no test pictures of its own and is not
            what the classifier was trained on. One class, or one picture of each, is enough there.
        plot: Draw the confusion matrix into this file: .png, .pdf or .svg.
        reliability: Draw into this file how often the answers of each confidence are right.
        mistakes: Draw the most confident mistakes into this file.
        language: Language of those pictures: en or zh.
        tta: Test-time augmentation, reported apart: flip takes the mean of the logits of each picture and its mirror image.
        device: auto, cpu, cuda or mps.
        as_json: Print one JSON document on standard output.
        as_csv: Print the figures of each class as comma-separated values.
    """
    if as_csv and (as_json or tta):
        raise ValueError(f"--csv is a table of the classes; leave out {'--json' if as_json else '--tta, whose figures --json has'}")
    require_named(data, skip_broken)
    for file in filter(None, (plot, reliability, mistakes)):
        torchnin.plots.require_drawable(file)
    loaded = load_classifier(classifier, device=device, backend="torch")
    splits = load_data(loaded, classifier, data, data_dir, skip_broken, to_judge=split in (None, "all"))
    unknown = False
    if split is None and splits.test_fraction == 1:
        known = _as_trained(splits, loaded)
        splits, unknown = known or splits, known is None
    judged = "all" if unknown else split or "test"
    for sentence in splits.notes:
        note(sentence)
    chosen = pictures_of(splits, judged)
    report = loaded.evaluate(chosen)
    if unknown:
        counts = chosen.class_counts
        apart = (counts > 0).sum() > 1 and (counts > 1).any()  # else --split test is refused
        seen = f"The training is not known to have had {splits.name}: all {len(chosen):,} pictures were judged"
        note(f"{seen}{' (--split test: the held-out ones alone)' if apart else ''}.")
    _draw(report, chosen, plot, reliability, mistakes, language)
    if as_csv:
        write(report.to_csv(), end="")
        return
    document, text = report.to_dict(), str(report)
    if tta:
        if not splits.mirror:
            note(f"--tta {tta}: nothing says that a mirrored picture of {splits.name} still belongs to its class")
        figures, line = _augmented(loaded.evaluate(chosen, tta=tta), tta)
        document, text = {**document, "tta": figures}, f"{text}\n\n{line}"
    result(document, text, as_json)


def require_named(data: str | None, skip_broken: bool) -> None:
    """Raise where pictures are to be left out of no data in particular."""
    if skip_broken and data is None:
        raise ValueError(
            "--skip-broken leaves out pictures of data that are named; those of the training are taken as they were, or not at all: "
            "name the data, or leave it out"
        )


def load_data(
    loaded: "Classifier", name: str, data: str | None, data_dir: Path | None, skip_broken: bool, *, to_judge: bool = False
) -> "DatasetSplits":
    """The named data, or those that the classifier was trained on; `to_judge`, named data without test pictures are nothing but that."""
    trained_on = torchnin.saved.record_of_data(loaded.metadata)
    if data is None:
        if not trained_on:
            raise ValueError(f"{name} does not say what it was trained on; name a dataset or a folder of pictures")
        share, seed = (torchnin.saved.number_in(loaded.metadata, key) or 0 for key in ("validation", "seed"))
        with data_bar() as progress:
            return torchnin.training.load_recorded(trained_on, data_dir=data_dir, validation=share, seed=int(seed), progress=progress)
    seed, share = _split_of(trained_on)
    # Data of one size stay as they are and are resized as the training resized; a folder needs one size for all its pictures.
    size = (loaded.preprocessing.height, loaded.preprocessing.width)
    with data_bar() as progress:
        return torchnin.load_dataset(
            data,
            data_dir=data_dir,
            channels=loaded.preprocessing.channels,
            folder_size=size,
            seed=seed,
            skip_broken=skip_broken,
            test_fraction=1 if to_judge else share,
            progress=progress,
        )


def _as_trained(splits: "DatasetSplits", loaded: "Classifier") -> "DatasetSplits | None":
    """Data without test pictures of their own, split as the training split them; None where they are no data of the training."""
    trained_on = torchnin.saved.record_of_data(loaded.metadata)
    figures = ("train_pictures", "validation_pictures", "test_pictures")
    learned, validation, tested = (torchnin.saved.number_in(trained_on, key) or 0 for key in figures)
    same_place = str(Path(splits.source).absolute()) == trained_on.get("source")
    if not same_place and len(splits.test) != learned + validation + tested:
        return None
    if not (splits.test.class_counts > 1).any():
        return None
    seed, share = _split_of(trained_on)
    train, test = splits.test.split(share, seed=seed)
    # What the training saw may have moved since, or be read in another size here.
    if not same_place and len(test) != tested:
        return None
    sentence = torchnin.data.held_out_sentence(len(test), splits.test.labels, share, seed=seed)
    checksums = trained_on.get("checksums")
    if not same_place and not (isinstance(checksums, Mapping) and checksums.get("test") == test.checksum):
        sentence += (
            f" {splits.name} has as many pictures as what the classifier was trained on, and is taken for it: where it is something else, "
            "--split all judges every picture."
        )
    return dataclasses.replace(splits, train=train, test=test, test_fraction=share, split_seed=seed, notes=(*splits.notes, sentence))


def _split_of(trained_on: Mapping[str, Any]) -> tuple[int, float]:
    """Seed and share with which the training split its data."""
    seed, share = (torchnin.saved.number_in(trained_on, key) for key in ("split_seed", "test_fraction"))
    return int(seed or 0), share or 0.2


def pictures_of(splits: "DatasetSplits", split: str) -> "ImageDataset":
    """The pictures of one split, or of all, in the order train, validation, test.

    Raises:
        ValueError: there is no such split.
    """
    there = {"train": splits.train, "validation": splits.validation, "test": splits.test}
    parts = [part for name, part in there.items() if part is not None and (split == name or (split == "all" and len(part)))]
    if not parts:
        known = ", ".join(name for name, part in there.items() if part is not None)
        raise ValueError(f"{splits.name} has no {split!r} pictures; --split takes {known}, all")
    if len(parts) == 1:
        return parts[0]
    import numpy as np

    images, labels = (np.concatenate([getattr(part, what) for part in parts]) for what in ("images", "labels"))
    return torchnin.ImageDataset(images, labels, splits.class_names)


def _draw(
    report: "Report",
    pictures: "ImageDataset",
    plot: Path | None,
    reliability: Path | None,
    mistakes: Path | None,
    language: Literal["en", "zh"],
) -> None:
    if plot is not None:
        torchnin.plots.confusion_matrix(report.confusion.numpy(), report.class_names, plot, language=language)
        note(f"confusion matrix: {plot}")
    if reliability is not None:
        torchnin.plots.reliability_diagram(
            [one.confidence for one in report.reliability],
            [one.accuracy for one in report.reliability],
            [one.num_pictures for one in report.reliability],
            reliability,
            calibration_error=report.calibration_error,
            language=language,
        )
        note(f"reliability: {reliability}")
    if mistakes is not None:
        surest = report.most_confident_mistakes(_NUM_MISTAKES)
        if not surest:
            note(f"no mistake was made, so {mistakes} was not drawn")
            return
        torchnin.plots.mistakes(
            [pictures.images[one.index] for one in surest],
            [one.label for one in surest],
            [one.predicted for one in surest],
            [one.confidence for one in surest],
            mistakes,
            language=language,
        )
        note(f"most confident mistakes: {mistakes}")


def _augmented(report: "Report", tta: str) -> tuple[dict[str, Any], str]:
    """The figures with test-time augmentation, for programs and as a line."""
    kept = ("accuracy", "accuracy_interval", "loss", "calibration_error")
    figures = {name: value for name, value in report.to_dict().items() if name in kept}
    low, high = report.accuracy_interval
    line = (
        f"with test-time augmentation ({tta}): accuracy {report.accuracy:.4f}, 95 % interval {low:.4f} to {high:.4f}, "
        f"loss {report.loss:.4f}, calibration error {report.calibration_error:.4f}"
    )
    return {"kind": tta, **figures}, line
