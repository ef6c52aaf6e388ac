"""`nin evaluate`: how good a classifier is."""

from pathlib import Path
from typing import Annotated

import tyro

import torchnin
from torchnin.commands.networks import Given, Json
from torchnin.commands.output import note, result


def evaluate(
    classifier: Annotated[str, tyro.conf.Positional],
    data: Annotated[Given[str], tyro.conf.Positional] = None,
    *,
    data_dir: Given[Path] = None,
    split: str = "test",
    plot: Given[Path] = None,
    device: str = "auto",
    as_json: Json = False,
) -> None:
    """Measure a classifier on a dataset: accuracy with its interval, per class, confusion, calibration.

    Args:
        classifier: A run folder or a saved classifier's folder.
        data: A dataset's name or a folder of pictures; without it the data that the classifier was trained on.
        data_dir: Where to look for the data first.
        split: Which pictures: test, train or validation.
        plot: Draw the confusion matrix into this file.
        device: auto, cpu, cuda or mps.
        as_json: Print one JSON document on standard output.
    """
    loaded = torchnin.load(classifier, device=device)
    seed = loaded.metadata.get("seed", 0)
    trained_on = loaded.metadata.get("data")
    if data is None:
        if trained_on is None:
            raise ValueError(f"{classifier} does not say what it was trained on; name a dataset or a folder of pictures")
        splits = torchnin.training.load_recorded(trained_on, seed=seed, data_dir=data_dir)
    else:
        # A named dataset stays as it is and is resized as the training resized; a folder needs one size for all its pictures.
        size = (loaded.preprocessing.height, loaded.preprocessing.width)
        splits = torchnin.load_dataset(
            data,
            data_dir=data_dir,
            channels=loaded.preprocessing.channels,
            image_size=None if data in torchnin.data.CATALOG else size,
            seed=seed,
        )
    for sentence in splits.notes:
        note(sentence)
    chosen = {"test": splits.test, "train": splits.train, "validation": splits.validation}.get(split)
    if chosen is None:
        raise ValueError(
            f"{splits.name} has no {split!r} pictures; --split takes test, train" + (", validation" if splits.validation else "")
        )
    report = loaded.evaluate(chosen)
    if plot is not None:
        torchnin.plots.confusion_matrix(report.confusion.numpy(), report.class_names, plot)
        note(f"confusion matrix: {plot}")
    result(report.to_dict(), str(report), as_json)
