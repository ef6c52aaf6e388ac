"""From logits and labels to a Report: accuracy with its interval, figures per class, confusion, calibration, mistakes."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnin.prediction import without_probabilities
from torchnin.values import columns_of, comma_separated, on_one_line, padded

_NUM_BINS = 15  # of equal width, as in Guo et al. (arXiv 1706.04599), so that errors compare with published ones
_Z_95 = 1.959963984540054  # the normal distribution's quantile at 0.975
_WIDEST_MATRIX = 15  # classes; a larger confusion matrix is no longer read as text
_NUM_CONFUSIONS = 10  # listed in its place


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """How one class fared. Figures are fractions of one; None where nothing defines them."""

    name: str
    """The class's name."""
    precision: float | None
    """Of the pictures given this class, the share that is of it; None if none was given it."""
    recall: float | None
    """Of the pictures of this class, the share that was given it; None if there are none."""
    f1: float | None
    """Harmonic mean of the two, `2 * hits / (pictures of it + pictures given it)`; None if both are zero."""
    num_pictures: int
    """Pictures of this class."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReliabilityBin:
    """Pictures that were answered with about the same confidence, and how often that answer is right."""

    low: float
    """The bin holds confidences above this ..."""
    high: float
    """... up to and including this."""
    num_pictures: int
    """Pictures in the bin."""
    confidence: float | None
    """Their mean confidence; None if there are none."""
    accuracy: float | None
    """The share of them that is right; None if there are none."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mistake:
    """A picture that was given the wrong class."""

    index: int
    """Its place among the pictures evaluated, from 0."""
    label: str
    """The name of its class."""
    predicted: str
    """The name of the class it was given."""
    confidence: float
    """Probability of the class it was given, 0 to 1."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Report:
    """What an evaluation found. All figures are fractions of one; `str()` prints it, `to_dict()` is plain for JSON."""

    num_pictures: int
    """Pictures evaluated."""
    accuracy: float
    """Share of the pictures given their own class."""
    accuracy_interval: tuple[float, float]
    """Wilson's 95 % interval of the accuracy: where it would lie over other pictures of the same kind."""
    balanced_accuracy: float
    """Mean recall over the classes that have pictures: every class counts the same, however many pictures it has."""
    macro_precision: float
    """Mean precision over the classes that have pictures; one that no picture was given counts as 0."""
    macro_f1: float
    """Mean F1 over the classes that have pictures."""
    loss: float
    """Mean cross-entropy, in nats."""
    calibration_error: float
    """Expected calibration error over 15 bins of equal width: mean of |confidence - accuracy| over the bins, weighted by their pictures."""
    class_names: tuple[str, ...]
    """The names of the k classes, in the order of the labels."""
    per_class: tuple[ClassFigures, ...]
    """Precision, recall and F1 of each class, in the order of the labels."""
    confusion: Int[Tensor, "k k"]
    """Counts of pictures; rows are true classes, columns predicted ones."""
    reliability: tuple[ReliabilityBin, ...]
    """The 15 bins behind `calibration_error`, from low to high confidence."""
    labels: Int[Tensor, "n"]
    """The true class of each picture."""
    predictions: Int[Tensor, "n"]
    """The class given to each picture."""
    confidences: Float[Tensor, "n"]
    """Probability of that class, 0 to 1."""

    def most_confident_mistakes(self, count: int) -> tuple[Mistake, ...]:
        """The wrongly answered pictures, the surest first; fewer than `count` where there are fewer mistakes."""
        wrong = torch.nonzero(self.predictions != self.labels).flatten()
        surest = wrong[self.confidences[wrong].argsort(descending=True, stable=True)[: max(count, 0)]]
        return tuple(
            Mistake(
                index=index,
                label=self.class_names[int(self.labels[index])],
                predicted=self.class_names[int(self.predictions[index])],
                confidence=float(self.confidences[index]),
            )
            for index in surest.tolist()
        )

    def confusions(self, count: int) -> tuple[tuple[str, str, int], ...]:
        """The most frequent mistakes as (true class, predicted class, pictures), most pictures first; only those that occur."""
        wrong = self.confusion.clone().fill_diagonal_(0).flatten()
        order = wrong.argsort(descending=True, stable=True)[: max(count, 0)].tolist()
        names, k = self.class_names, len(self.class_names)
        return tuple((names[place // k], names[place % k], int(wrong[place])) for place in order if wrong[place] > 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the single pictures: undefined figures are None, `per_class` is keyed by class name."""
        return {
            "num_pictures": self.num_pictures,
            "accuracy": self.accuracy,
            "accuracy_interval": list(self.accuracy_interval),
            "loss": self.loss,
            "balanced_accuracy": self.balanced_accuracy,
            "macro_precision": self.macro_precision,
            "macro_f1": self.macro_f1,
            "calibration_error": self.calibration_error,
            "class_names": list(self.class_names),
            "per_class": {
                figures.name: {key: value for key, value in dataclasses.asdict(figures).items() if key != "name"}
                for figures in self.per_class
            },
            "confusion": self.confusion.tolist(),
            "reliability": [dataclasses.asdict(one) for one in self.reliability],
        }

    def to_csv(self) -> str:
        """One line per class under a header line: `class,precision,recall,f1,num_pictures`; an undefined figure is an empty cell."""
        rows = ((one.name, one.precision, one.recall, one.f1, one.num_pictures) for one in self.per_class)
        return "".join(f"{comma_separated(row)}\n" for row in (("class", "precision", "recall", "f1", "num_pictures"), *rows))

    def __str__(self) -> str:
        low, high = self.accuracy_interval
        parts = [
            f"{self.num_pictures:,} pictures, {len(self.class_names)} classes",
            f"accuracy           {self.accuracy:.4f}   95 % interval {low:.4f} to {high:.4f}",
            f"balanced accuracy  {self.balanced_accuracy:.4f}   mean of the classes' recall",
            f"loss               {self.loss:.4f}   cross-entropy",
            f"calibration error  {self.calibration_error:.4f}   expected, {len(self.reliability)} bins",
            "",
            *self._per_class_lines(),
            "",
            *(self._confusion_lines() if len(self.class_names) <= _WIDEST_MATRIX else self._confusions_lines()),
        ]
        return "\n".join(parts).rstrip()

    def _per_class_lines(self) -> list[str]:
        rows: list[tuple[str, ...]] = [("class", "precision", "recall", "f1", "pictures")]
        rows += [
            (on_one_line(one.name), *map(_fraction, (one.precision, one.recall, one.f1)), f"{one.num_pictures:,}") for one in self.per_class
        ]
        means = (self.macro_precision, self.balanced_accuracy, self.macro_f1)
        rows.append(("mean", *map(_fraction, means), f"{self.num_pictures:,}"))
        header, *body, last = _aligned(rows)
        rule = "-" * columns_of(header)
        return [header, rule, *body, rule, last]

    def _confusion_lines(self) -> list[str]:
        numbers = [str(index) for index in range(len(self.class_names))]
        rows = [("true class", "", *numbers)]
        rows += [
            (on_one_line(name), number, *(f"{count:,}" if count else "." for count in counts))
            for name, number, counts in zip(self.class_names, numbers, self.confusion.tolist(), strict=True)
        ]
        return ["confusion: rows are true classes, columns predicted ones, in the same order", *_aligned(rows)]

    def _confusions_lines(self) -> list[str]:
        rows = [
            (on_one_line(name), f"taken for {on_one_line(predicted)}", f"{count:,}")
            for name, predicted, count in self.confusions(_NUM_CONFUSIONS)
        ]
        if not rows:
            return []
        left, right = (max(columns_of(row[side]) for row in rows) for side in (0, 1))
        return ["the most frequent confusions", *(f"{padded(a, left)}  {padded(b, right)}  {c:>7}" for a, b, c in rows)]


def evaluate_logits(logits: Float[Tensor, "n k"], labels: Int[Tensor, "n"], class_names: Sequence[str]) -> Report:
    """Judge a classifier's answers.

    Args:
        logits: `(n, k)`, one row per picture; any float dtype, any device.
        labels: `(n,)`, the true class of each picture, 0 to k - 1.
        class_names: the k classes' names, each different.

    Returns:
        The report. The picture is given the class of its largest logit, the first one where several are equal; its
        confidence is that class's softmax probability. Everything is computed in float64.

    Raises:
        ValueError: there are no pictures, the three do not fit together, a label is out of range, or a logit is not finite.

    Sources: Wilson, JASA 22 (1927) for the interval; Guo et al., "On Calibration of Modern Neural Networks"
    (arXiv 1706.04599) for the calibration error.
    """
    logits, labels, names = logits.detach().cpu().double(), labels.detach().cpu().long(), tuple(class_names)
    _check(logits, labels, names)
    n, k = logits.shape
    log_probabilities = logits.log_softmax(1)
    predictions = logits.argmax(1)
    confidences = log_probabilities.gather(1, predictions[:, None])[:, 0].exp()
    confusion = torch.bincount(labels * k + predictions, minlength=k * k).view(k, k)
    right = predictions == labels
    hits = int(right.sum())
    per_class = _per_class(confusion, names)
    seen = [one for one in per_class if one.num_pictures > 0]
    reliability = _reliability(confidences, right)
    return Report(
        num_pictures=n,
        accuracy=hits / n,
        accuracy_interval=_wilson(hits, n),
        balanced_accuracy=_mean([one.recall for one in seen]),
        macro_precision=_mean([one.precision for one in seen]),
        macro_f1=_mean([one.f1 for one in seen]),
        loss=-float(log_probabilities.gather(1, labels[:, None]).mean()),
        calibration_error=sum(one.num_pictures / n * abs((one.confidence or 0) - (one.accuracy or 0)) for one in reliability),
        class_names=names,
        per_class=per_class,
        confusion=confusion,
        reliability=reliability,
        labels=labels,
        predictions=predictions,
        confidences=confidences,
    )


def _check(logits: Tensor, labels: Tensor, names: tuple[str, ...]) -> None:
    if logits.dim() != 2 or labels.dim() != 1 or len(logits) != len(labels):
        raise ValueError(
            f"logits of shape {tuple(logits.shape)} and labels of shape {tuple(labels.shape)} do not fit together; "
            "expected (n, k) and (n,): one row of logits and one label per picture"
        )
    if len(labels) == 0:
        raise ValueError("there are no pictures to evaluate: logits and labels are empty; give at least one picture with its label")
    if logits.shape[1] != len(names) or len(set(names)) != len(names):
        raise ValueError(
            f"{len(names)} class names, {len(set(names))} of them different, for {logits.shape[1]} logits per picture; "
            "give one name of its own to each logit"
        )
    wrong = torch.nonzero((labels < 0) | (labels >= len(names))).flatten()
    if len(wrong):
        index = int(wrong[0])
        raise ValueError(
            f"label {int(labels[index])} at index {index} is out of range: with {len(names)} classes, labels are 0 to {len(names) - 1}"
        )
    strange = int((~logits.isfinite()).any(1).sum())
    if strange:
        raise ValueError(without_probabilities(strange, len(logits)))


def _per_class(confusion: Tensor, names: tuple[str, ...]) -> tuple[ClassFigures, ...]:
    counts = zip(names, confusion.diagonal().tolist(), confusion.sum(1).tolist(), confusion.sum(0).tolist(), strict=True)
    return tuple(
        ClassFigures(
            name=name,
            precision=_ratio(hits, given),
            recall=_ratio(hits, there),
            f1=_ratio(2 * hits, there + given),
            num_pictures=there,
        )
        for name, hits, there, given in counts
    )


def _reliability(confidences: Tensor, right: Tensor) -> tuple[ReliabilityBin, ...]:
    edges = [place / _NUM_BINS for place in range(_NUM_BINS + 1)]
    bounds = torch.tensor(edges[1:-1], dtype=confidences.dtype, device="cpu")
    places = torch.bucketize(confidences, bounds)  # bins are open below, closed above
    counts = torch.bincount(places, minlength=_NUM_BINS).tolist()
    hits = torch.bincount(places, weights=right.double(), minlength=_NUM_BINS).tolist()
    sums = torch.bincount(places, weights=confidences, minlength=_NUM_BINS).tolist()
    return tuple(
        ReliabilityBin(
            low=edges[place],
            high=edges[place + 1],
            num_pictures=counts[place],
            confidence=_ratio(sums[place], counts[place]),
            accuracy=_ratio(hits[place], counts[place]),
        )
        for place in range(_NUM_BINS)
    )


def _wilson(hits: int, n: int) -> tuple[float, float]:
    share, z2 = hits / n, _Z_95**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = _Z_95 / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    # Rounding must not push the bounds past the accuracy at 0 and 1, where they meet it.
    return max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def _mean(figures: Sequence[float | None]) -> float:
    return math.fsum(figure or 0.0 for figure in figures) / len(figures)


def _fraction(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The rows as lines: first column to the left, the others to the right."""
    widths = [max(columns_of(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join((padded(row[0], widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)))).rstrip()
        for row in rows
    ]
