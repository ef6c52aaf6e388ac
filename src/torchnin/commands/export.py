"""`nin export`: a classifier as one file that runs without torch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

import torchnin.export
from torchnin.commands.evaluate import load_data, require_named
from torchnin.commands.loading import load_classifier
from torchnin.commands.networks import Given, Json, Switch
from torchnin.commands.output import note, result
from torchnin.commands.predict import each_picture
from torchnin.files import exists, in_command

if TYPE_CHECKING:
    from torchnin import Classifier, DatasetSplits


def export(
    classifier: Annotated[str, tyro.conf.Positional],
    *,
    out: Path,
    int8: Switch = False,
    accept_accuracy_loss: Switch = False,
    data: Given[str] = None,
    data_dir: Given[Path] = None,
    skip_broken: Switch = False,
    pictures: Annotated[tuple[Path, ...], tyro.conf.arg(help_behavior_hint="")] = (),
    as_json: Json = False,
) -> None:
    """Write a classifier as one .onnx file: pictures of any size in, probabilities and class maps out.

    Resizing and normalising are in the graph, class names and accuracy in its metadata. Before it is written, the file is run in
    onnxruntime beside `nin predict`; where a probability differs by more than 0.0001, the export fails and leaves no file.

    Args:
        classifier: A run folder, a saved classifier's folder, the name of weights that ship (see `nin models`), or hf-hub:OWNER/NAME.
        out: The file to write, ending in .onnx; an exported classifier there is replaced.
        int8: Quantise to 8 bits, its ranges from validation or train pictures; reports accuracy, size and speed beside the float file's.
        accept_accuracy_loss: Write the 8-bit file also where its test accuracy is lower by more than half a point.
        data: With --int8: a dataset's name or a folder of pictures; without it the data that the classifier was trained on.
        data_dir: With --int8: where to look for the data first.
        skip_broken: With --data: leave out pictures that do not decode, and count them, instead of stopping.
        pictures: Files, folders or quoted patterns to compare with, of more than 64 pictures so many, spread evenly; by default pictures of
            Fashion-MNIST.
        as_json: Print one JSON document on standard output.
    """
    asked = {"--accept-accuracy-loss": accept_accuracy_loss, "--data": data, "--data-dir": data_dir, "--skip-broken": skip_broken}
    idle = [flag for flag, given in asked.items() if given]
    if idle and not int8:
        raise ValueError(f"{idle[0]} says something about --int8, which was not given; leave it out, or add --int8")
    require_named(data, skip_broken)
    torchnin.export.require_writable(out)  # before anything is downloaded or read
    torchnin.export.require_exporter()
    compared = list(each_picture(pictures)) if pictures else None
    if missing := next((path for path in compared or () if not exists(path)), None):
        raise FileNotFoundError(f"{missing}: there is no such picture")
    if compared is not None and len(compared) > torchnin.export.MOST_PICTURES:
        note(f"compared with {torchnin.export.MOST_PICTURES} of the {len(compared):,} pictures, spread evenly over them")
    loaded = load_classifier(classifier, device="cpu", backend="torch")
    splits = _data(loaded, classifier, data, data_dir, skip_broken) if int8 else None
    note("building the graph and comparing it with predict: some seconds")
    done = loaded.export_onnx(out, pictures=compared, int8=splits, accept_accuracy_loss=accept_accuracy_loss)
    if "class_maps" not in done.tensors:
        note("the network has a fully connected head, so no map's mean is a logit: the file gives probabilities and no class maps")
    result(done.to_dict(), str(done), as_json)
    note(f"use it with: nin predict {in_command(out)} PICTURE")


def _data(loaded: "Classifier", name: str, data: str | None, data_dir: Path | None, skip_broken: bool) -> "DatasetSplits":
    """What --int8 calibrates and measures with; says how to name it where it is not at hand."""
    try:
        splits = load_data(loaded, name, data, data_dir, skip_broken)
    except (ValueError, FileNotFoundError) as error:
        if data is not None:
            raise
        raise ValueError(
            f"--int8 needs pictures to calibrate and to measure with, and those of the training are not at hand ({error}); "
            "name a dataset or a folder of the same classes: --data DATA"
        ) from error
    for sentence in splits.notes:
        note(sentence)
    return splits
