"""The end of a training: what was learned is measured and written."""

from typing import Any

from torchnin.classifier import Classifier
from torchnin.data import DataError, DatasetSplits, ImageDataset
from torchnin.evaluation import Report
from torchnin.plots import training_curves
from torchnin.training.errors import DivergenceError
from torchnin.training.log import Display
from torchnin.training.loop import Training
from torchnin.training.monitor import guess_of, is_guessing
from torchnin.training.run import Run
from torchnin.values import counted


def finish(training: Training, classifier: Classifier, splits: DatasetSplits, display: Display) -> None:
    """Measure on the test pictures what was learned, and write what is left to write.

    Raises:
        DivergenceError: what the last steps led to gives no finite logits, which no later step could tell.
    """
    run = training.run
    report = _judged(training, classifier, splits.test)
    classifier.metadata |= {"test_accuracy": report.accuracy, "test_accuracy_interval": list(report.accuracy_interval)}
    classifier.save(run.path / "classifier")
    _draw_curves(run, report.accuracy, display)
    if (sentence := _nothing_learned(training, report)) is not None:
        display.note(sentence)
    run.write_result(_result(training, report))


def _judged(training: Training, classifier: Classifier, test: ImageDataset) -> Report:
    try:
        return classifier.evaluate(test)
    except DataError:
        raise
    except ValueError as error:
        what = str(error).partition(",")[0]
        raise DivergenceError(
            f"the training diverged in its last steps: {what}; train anew with {training.recipe.gentler}", training.step
        ) from error


def _nothing_learned(training: Training, report: Report) -> str | None:
    """What to say where neither train nor test pictures are answered better than by guessing, and the monitor, which gives a network
    time to learn, has not said so.
    """
    reached, balanced = training.rows[-1]["train_accuracy"], training.recipe.class_weights
    counts = [one.num_pictures for one in report.per_class]
    guess, tested = guess_of(counts, balanced), report.balanced_accuracy if balanced else report.accuracy
    said = any(finding.kind == "accuracy at chance" for finding in training.findings)
    if said or reached is None or not (training.monitor.at_chance(reached) and is_guessing(tested, guess, sum(counts))):
        return None
    where = " (of these the mean of the classes' recalls)" if balanced else ""
    return (
        f"nothing was learned in {counted(training.num_steps, 'step')}: the accuracy is {reached:.3f} of the train and {tested:.3f} of the "
        f"test pictures{where}, no better than guessing ({guess:.3f}) can be by chance; train for more epochs (--num-epochs), or check "
        "that pictures of different classes differ and the labels belong to them"
    )


def _result(training: Training, report: Report) -> dict[str, Any]:
    """What `result.json` says."""
    rows, seconds = training.rows, training.total_seconds
    return {
        "test_accuracy": report.accuracy,
        "test_balanced_accuracy": report.balanced_accuracy,
        "test_loss": report.loss,
        "test_pictures": report.num_pictures,
        **{key: rows[-1][key] for key in ("validation_accuracy",) if key in rows[-1]},
        "num_parameters": sum(parameter.numel() for parameter in training.network.parameters()),
        "epochs": training.recipe.num_epochs,
        "seconds": seconds,
        "images_per_second": sum(row["images_per_second"] * row["seconds"] for row in rows) / max(seconds, 1e-9),
        "dead_class_maps": rows[-1]["dead_class_maps"],
        "recoveries": training.recoveries,
        "seed": training.seed,
    }


def _draw_curves(run: Run, test_accuracy: float, display: Display) -> None:
    try:
        training_curves(run.metrics, run.path / "curves.png", test_accuracy=test_accuracy)
    except ImportError:
        display.note("no curves.png: matplotlib is not installed (pip install 'torchnin[plot]')")
