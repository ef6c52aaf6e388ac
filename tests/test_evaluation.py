"""The report agrees with scikit-learn, and says plainly what is undefined."""

import csv
import io
import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics

from torchnin.evaluation import Report, evaluate_logits


def report_of(truth: list[int], predicted: list[int], num_classes: int) -> Report:
    logits = torch.nn.functional.one_hot(torch.tensor(predicted), num_classes).float() * 3
    return evaluate_logits(logits, torch.tensor(truth), [f"class {index}" for index in range(num_classes)])


@st.composite
def answers(draw: st.DrawFn) -> tuple[torch.Tensor, torch.Tensor]:
    n, k = draw(st.integers(1, 60)), draw(st.integers(2, 12))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    scale = draw(st.sampled_from([0.0, 0.1, 3.0, 50.0]))  # equal logits, unsure, sure, saturated
    present = draw(st.integers(1, k))  # the classes after it have no picture
    return torch.randn(n, k, generator=generator) * scale, torch.randint(present, (n,), generator=generator)


@settings(max_examples=80)
@given(answers())
def test_scikit_learn_agrees(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = case
    k = logits.shape[1]
    report = evaluate_logits(logits, labels, [str(index) for index in range(k)])
    truth, predicted = labels.numpy(), logits.numpy().argmax(1)
    classes = np.arange(k)

    np.testing.assert_array_equal(report.confusion, metrics.confusion_matrix(truth, predicted, labels=classes))
    assert report.accuracy == pytest.approx(metrics.accuracy_score(truth, predicted))
    figures = metrics.precision_recall_fscore_support(truth, predicted, labels=classes, zero_division=np.nan)
    for name, expected in zip(("precision", "recall", "f1", "num_pictures"), figures, strict=True):
        ours = [np.nan if (value := getattr(one, name)) is None else value for one in report.per_class]
        np.testing.assert_allclose(ours, expected, err_msg=name)

    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        truth, predicted, labels=np.unique(truth), average="macro", zero_division=0
    )
    assert report.macro_precision == pytest.approx(precision)
    assert report.balanced_accuracy == pytest.approx(recall)
    assert report.macro_f1 == pytest.approx(f1)

    # log_loss clips probabilities, so the oracle of the loss is written out.
    rows = logits.double().numpy()
    top = rows.max(1)
    surprise = np.log(np.exp(rows - top[:, None]).sum(1)) + top - rows[np.arange(len(rows)), truth]
    assert report.loss == pytest.approx(surprise.mean(), abs=1e-12)


def test_loss_is_scikit_learns_where_it_does_not_clip() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(200, 5, generator=generator), torch.randint(5, (200,), generator=generator)
    report = evaluate_logits(logits, labels, "abcde")
    assert report.loss == pytest.approx(metrics.log_loss(labels.numpy(), logits.double().softmax(1).numpy(), labels=range(5)))


@settings(max_examples=60)
@given(answers())
def test_calibration_error_is_the_one_counted_picture_by_picture(case: tuple[torch.Tensor, torch.Tensor]) -> None:
    logits, labels = case
    report = evaluate_logits(logits, labels, [str(index) for index in range(logits.shape[1])])
    right = (report.predictions == report.labels).double()
    error = 0.0
    for one in report.reliability:
        inside = (report.confidences > one.low) & (report.confidences <= one.high)
        if one.num_pictures:
            mine = report.confidences[inside].mean(), right[inside].mean()
            assert one.confidence == pytest.approx(float(mine[0]))
            assert one.accuracy == pytest.approx(float(mine[1]))
            error += float(abs(mine[0] - mine[1])) * int(inside.sum()) / len(labels)
        assert one.num_pictures == int(inside.sum())
    assert report.calibration_error == pytest.approx(error)
    assert sum(one.num_pictures for one in report.reliability) == report.num_pictures


def test_calibration_error_by_hand() -> None:
    # Four pictures at confidence 0.9, three of them right; one at 0.6 (two classes), wrong: 4/5 * |.9 - .75| + 1/5 * |.6 - 0|.
    confidences = torch.tensor([0.9, 0.9, 0.9, 0.9, 0.6], dtype=torch.float64)
    logits = torch.stack([confidences.log(), (1 - confidences).log()], 1)
    report = evaluate_logits(logits, torch.tensor([0, 0, 0, 1, 1]), ["yes", "no"])
    assert report.calibration_error == pytest.approx(0.8 * 0.15 + 0.2 * 0.6)


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [
        (81, 263, 0.25530, 0.36620),  # Newcombe, Statistics in Medicine 17 (1998), table I, method 3
        (15, 148, 0.06240, 0.16052),
        (0, 20, 0.0, 0.16113),
        (29, 29, 0.88303, 1.0),
    ],
)
def test_interval_is_the_published_one(hits: int, n: int, low: float, high: float) -> None:
    interval = report_of([0] * n, [0] * hits + [1] * (n - hits), 2).accuracy_interval
    assert interval == pytest.approx((low, high), abs=6e-5)


def test_a_class_without_pictures_has_no_recall_and_json_has_null() -> None:
    report = report_of([0, 0, 1], [0, 1, 1], 4)
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["per_class"]["class 2"] == {"precision": None, "recall": None, "f1": None, "num_pictures": 0}
    assert plain["per_class"]["class 0"] == pytest.approx({"precision": 1, "recall": 1 / 2, "f1": 2 / 3, "num_pictures": 2})
    assert plain["balanced_accuracy"] == pytest.approx(0.75)
    assert plain["confusion"][0] == [1, 1, 0, 0]
    assert plain["reliability"][0]["accuracy"] is None
    for key in ("accuracy", "accuracy_interval", "loss", "num_pictures", "per_class", "confusion", "calibration_error"):
        assert key in plain
    assert report.to_csv().splitlines()[3] == "class 2,,,,0"


@pytest.mark.parametrize("names", [['shoe, "left"', "鞋"], ["a\nb", "c\rd"]])
def test_csv_reads_back_with_names_that_hold_commas_or_line_breaks(names: list[str]) -> None:
    report = evaluate_logits(torch.eye(2), torch.tensor([0, 1]), names)
    rows = list(csv.DictReader(io.StringIO(report.to_csv(), newline="")))
    assert [row["class"] for row in rows] == names
    assert [float(row["precision"]) for row in rows] == [1, 1]


def test_most_confident_mistakes_come_first_and_name_both_classes() -> None:
    logits = torch.tensor([[5.0, 0, 0], [0, 2.0, 0], [0, 0, 9.0], [0, 9.0, 0]])
    report = evaluate_logits(logits, torch.tensor([0, 0, 1, 1]), ["coat", "dress", "bag"])
    mistakes = report.most_confident_mistakes(5)
    assert [(one.index, one.label, one.predicted) for one in mistakes] == [(2, "dress", "bag"), (1, "coat", "dress")]
    assert mistakes[0].confidence == pytest.approx(float(logits[2].softmax(0)[2]))
    assert len(report.most_confident_mistakes(1)) == 1
    assert report.confusions(9) == (("coat", "dress", 1), ("dress", "bag", 1))


def test_text_gives_the_figures_and_lines_up_in_any_script() -> None:
    report = evaluate_logits(torch.eye(3)[[0, 0, 1, 2]], torch.tensor([0, 1, 1, 2]), ["T-shirt/top", "裤子", "ที่นี่"])
    text = str(report)
    assert "4 pictures, 3 classes" in text
    assert "0.7500   95 % interval 0.3006 to 0.9544" in text
    columns = [len(line.replace("裤子", "....").replace("ที่นี่", "..")) for line in text.splitlines() if "0.6667" in line or "1.0000" in line]
    assert len(set(columns)) == 1  # every row of the table ends in the same column
    matrix = text.split("predicted ones, in the same order\n")[1].splitlines()
    assert matrix[2].split() == ["裤子", "1", "1", "1", "."]


def test_text_of_many_classes_lists_the_frequent_confusions_instead_of_a_matrix() -> None:
    text = str(report_of([3] * 7 + [4], [5] * 7 + [4], 40))
    assert "rows are true classes" not in text
    assert "class 3  taken for class 5" in text.split("frequent confusions")[1]
    assert "frequent confusions" not in str(report_of([3, 4], [3, 4], 40))


def test_half_precision_and_gradients_are_taken() -> None:
    logits = torch.randn(8, 4, dtype=torch.bfloat16, requires_grad=True)
    report = evaluate_logits(logits, torch.arange(8) % 4, "abcd")
    assert report.num_pictures == 8
    assert not report.confidences.requires_grad


@pytest.mark.parametrize(
    ("logits", "labels", "names", "sentence"),
    [
        (torch.zeros(0, 2), torch.zeros(0, dtype=torch.long), "ab", "no pictures to evaluate"),
        (torch.zeros(3, 2), torch.zeros(2, dtype=torch.long), "ab", "one row of logits and one label per picture"),
        (torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), "abc", "3 class names"),
        (torch.zeros(3, 2), torch.zeros(3, dtype=torch.long), "aa", "1 of them different"),
        (torch.zeros(3, 2), torch.tensor([0, 7, 1]), "ab", "label 7 at index 1 is out of range"),
        (torch.tensor([[0.0, float("nan")], [0, 1]]), torch.tensor([0, 1]), "ab", "1 of 2 pictures are not finite"),
    ],
)
def test_a_wrong_call_is_answered_with_a_sentence(logits: torch.Tensor, labels: torch.Tensor, names: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        evaluate_logits(logits, labels, names)


@pytest.mark.parametrize("num_classes", [3, 16])
def test_a_line_break_in_a_name_breaks_no_line(num_classes: int) -> None:
    names = [f"class {place}" for place in range(num_classes)]
    logits, labels = torch.eye(num_classes), torch.arange(num_classes).roll(1)
    expected = str(evaluate_logits(logits, labels, names))
    found = str(evaluate_logits(logits, labels, [name.replace(" ", "\n") for name in names]))
    assert len(found.splitlines()) == len(expected.splitlines())
    assert r"class\n1" in found
