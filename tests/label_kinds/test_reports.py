"""Figures of a classifier, against torchmetrics and values worked by hand."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_auroc,
    multiclass_calibration_error,
    multiclass_f1_score,
    multilabel_auroc,
    multilabel_exact_match,
    multilabel_f1_score,
    multilabel_precision,
)

from gpt2_lightning.bootstrap import estimate
from gpt2_lightning.data.tables import LabeledText
from gpt2_lightning.errors import UserError
from gpt2_lightning.label_kinds.multi import Multi
from gpt2_lightning.label_kinds.reports.calibration import BINS, calibration
from gpt2_lightning.label_kinds.reports.report import MISTAKES
from gpt2_lightning.label_kinds.single import Single
from tests.label_kinds.labeled_rows import LABELS, MULTI, REGRESSION, SINGLE, answers, by_hand, several


def test_a_small_case_worked_by_hand() -> None:
    found = by_hand()
    ham, spam = found.classes
    assert found.confusion is not None
    assert found.confusion.tolist() == [[2, 1], [0, 1]]
    assert (ham.rows, ham.precision, ham.recall) == (3, 1, pytest.approx(2 / 3))
    assert (spam.rows, spam.precision, spam.recall) == (1, 0.5, 1)
    assert (ham.f1, spam.f1) == (pytest.approx(0.8), pytest.approx(2 / 3))
    assert [ham.auroc, spam.auroc] == pytest.approx([2 / 3, 2 / 3])  # the spam's 0.6 is above 0.2 and 0.3, below 0.9
    assert found.headline["accuracy"].value == 0.75
    assert found.headline["macro_f1"].value == pytest.approx((0.8 + 2 / 3) / 2)
    assert found.baseline == ("ham", 0.75)
    assert found.calibration.error == pytest.approx((0.2 + 0.9 + 0.4 + 0.3) / 4)
    (mistake,) = found.mistakes
    assert (mistake.text, mistake.label, mistake.answer) == ("b", "ham", "spam")
    assert mistake.size == pytest.approx(0.9)
    (curve,) = found.curves
    assert curve.label == "spam"
    assert curve.false_positives.tolist() == pytest.approx([0, 1 / 3, 1 / 3, 2 / 3, 1])
    assert curve.true_positives.tolist() == [0, 0, 1, 1, 1]


def test_figures_are_those_of_torchmetrics() -> None:
    rows, outputs, true = answers(400)
    found, scores = SINGLE.report(rows, outputs, LABELS), torch.from_numpy(outputs)
    assert found.headline["accuracy"].value == pytest.approx(
        float(multiclass_accuracy(scores, true, 3, average="micro"))
    )
    assert found.headline["macro_f1"].value == pytest.approx(float(multiclass_f1_score(scores, true, 3)))
    assert [c.f1 for c in found.classes] == pytest.approx(multiclass_f1_score(scores, true, 3, average="none").tolist())
    assert found.auroc == pytest.approx(float(multiclass_auroc(scores, true, 3)))
    assert found.calibration.error == pytest.approx(
        float(multiclass_calibration_error(scores, true, 3, n_bins=BINS)), abs=1e-6
    )
    assert [curve.label for curve in found.curves] == list(LABELS)


def test_figures_of_several_classes_are_those_of_torchmetrics() -> None:
    rows, outputs, true = several(300)
    found, scores = MULTI.report(rows, outputs, LABELS), torch.from_numpy(outputs)
    assert list(found.headline) == ["exact_match", "macro_f1"]
    assert found.headline["exact_match"].value == pytest.approx(float(multilabel_exact_match(scores, true, 3)))
    assert found.headline["macro_f1"].value == pytest.approx(float(multilabel_f1_score(scores, true, 3)))
    expected = multilabel_precision(scores, true, 3, average="none").tolist()
    assert [c.precision for c in found.classes] == pytest.approx(expected)
    assert [c.auroc for c in found.classes] == pytest.approx(multilabel_auroc(scores, true, 3, average="none").tolist())
    assert found.confusion is None


def test_errors_of_several_classes_are_told_by_the_surest_wrong_one() -> None:
    rows = [LabeledText("a", ("ham", "eggs")), LabeledText("b", ()), LabeledText("c", ("spam",))]
    outputs = np.array([[0.9, 0.8, 0.3], [0.2, 0.1, 0.4], [0.6, 0.7, 0.05]], dtype=np.float32)
    found = MULTI.report(rows, outputs, LABELS).mistakes
    assert [(m.text, m.label, m.answer) for m in found] == [("a", "ham, eggs", "ham, spam"), ("c", "spam", "ham, spam")]
    assert [m.size for m in found] == pytest.approx([0.8, 0.6])  # 0.8 for spam is surer than 0.7 against eggs


def test_the_order_in_which_classes_are_named_makes_no_difference() -> None:
    rows = [LabeledText("a", ("ham", "eggs")), LabeledText("b", ("eggs", "ham")), LabeledText("c", ("spam",))]
    found = MULTI.report(rows, np.full((3, 3), 0.1, dtype=np.float32), LABELS)
    assert found.baseline == ("ham, eggs", 2 / 3)


def test_the_surest_errors_come_first() -> None:
    rows, outputs, true = answers(400)
    found = SINGLE.report(rows, outputs, LABELS).mistakes
    wrong = np.flatnonzero(outputs.argmax(axis=1) != true.numpy())
    surest = wrong[np.argsort(-outputs[wrong].max(axis=1))][:MISTAKES]
    assert [mistake.text for mistake in found] == [rows[i].text for i in surest]
    assert [mistake.size for mistake in found] == pytest.approx(outputs[surest].max(axis=1).tolist())


@pytest.mark.parametrize("kind", [SINGLE, MULTI])
def test_what_the_rows_cannot_tell_is_not_a_number(kind: Single | Multi) -> None:
    """No row of eggs, and none of spam is answered so."""
    rows = [LabeledText("a", "ham"), LabeledText("b", "spam"), LabeledText("c", "ham")]
    if kind is MULTI:
        rows = [LabeledText(row.text, (str(row.label),)) for row in rows]
    outputs = np.array([[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = kind.report(rows, outputs, LABELS)
    _, spam, eggs = found.classes
    assert math.isnan(spam.precision)
    assert (spam.recall, spam.f1) == (0, 0)
    assert math.isnan(eggs.recall)
    assert math.isnan(eggs.auroc)
    assert (eggs.precision, eggs.f1) == (0, 0)
    assert [curve.label for curve in found.curves] == ["ham", "spam"]
    assert not math.isnan(found.auroc)


def test_rows_of_one_class_have_no_auroc() -> None:
    found = SINGLE.report([LabeledText("a", "ham")] * 3, np.full((3, 2), 0.5, dtype=np.float32), ["ham", "spam"])
    assert math.isnan(found.auroc)
    assert found.curves == []
    assert found.headline["accuracy"].value == 1
    assert found.headline["macro_f1"].value == 1


def test_a_label_that_the_classifier_lacks_is_told() -> None:
    with pytest.raises(UserError, match="the label 'bacon', which is none of ham, spam"):
        SINGLE.report([LabeledText("a", "bacon")], np.array([[0.5, 0.5]], dtype=np.float32), ["ham", "spam"])


def test_certainty_is_in_the_last_bin_and_none_in_the_first() -> None:
    confidence = np.array([1.0, 1.0, 14.5 / 15, 0.03, 0.0], dtype=np.float32)
    found = calibration(confidence, np.array([True, False, True, False, True]))
    assert found.count.tolist() == [2, 3]
    assert found.accuracy.tolist() == pytest.approx([0.5, 2 / 3])
    assert found.error == pytest.approx((abs(1 - 0.03) + abs(2 - 2 - 14.5 / 15)) / 5)


def test_an_interval_of_a_mean_is_that_of_theory() -> None:
    """Of 400 rows of which 0.3 are right, the standard error is sqrt(0.3 * 0.7 / 400)."""
    columns = np.arange(400)[:, None] < 120
    found = estimate(columns, {"mean": lambda sums: sums[:, 0] / 400})["mean"]
    error = 1.96 * math.sqrt(0.3 * 0.7 / 400)
    assert found.value == 0.3
    assert (found.low, found.high) == pytest.approx((0.3 - error, 0.3 + error), abs=0.006)


def test_intervals_are_those_of_rows_drawn_one_by_one() -> None:
    rows, outputs, true = answers(60)
    found = SINGLE.report(rows, outputs, LABELS).headline["macro_f1"]
    dice, guesses, drawn = np.random.default_rng(7), torch.from_numpy(outputs).argmax(dim=1), []
    for _ in range(1000):
        chosen = torch.from_numpy(dice.integers(0, 60, 60))
        drawn.append(float(multiclass_f1_score(guesses[chosen], true[chosen], 3)))
    assert (found.low, found.high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]).tolist(), abs=0.03)
    assert found.low < found.value < found.high


def test_intervals_are_the_same_each_time_and_cover_about_nineteen_in_twenty() -> None:
    rows, outputs, _ = answers(60)
    assert SINGLE.report(rows, outputs, LABELS).headline == SINGLE.report(rows, outputs, LABELS).headline
    dice = np.random.default_rng(0)
    inside = 0
    for seed in range(200):
        columns = dice.random((80, 1)) < 0.4
        found = estimate(columns, {"mean": lambda sums: sums[:, 0] / 80}, seed)["mean"]
        inside += found.low <= 0.4 <= found.high
    assert 180 <= inside <= 198


def test_regression_is_measured() -> None:
    true, outputs = np.array([1.0, 2.0, 4.0, 101.0]), np.array([1.5, 2.0, 2.0, 100.0], dtype=np.float32)
    found = REGRESSION.report([LabeledText(f"row {value:g}", float(value)) for value in true], outputs, ())
    assert found.headline["mae"].value == pytest.approx(3.5 / 4)
    assert found.headline["rmse"].value == pytest.approx(math.sqrt((0.25 + 4 + 1) / 4))
    assert found.headline["pearson"].value == pytest.approx(np.corrcoef(true, outputs)[0, 1])
    assert found.baseline == (3.0, (2 + 1 + 1 + 98) / 4)
    assert [(m.text, m.label, m.answer, m.size) for m in found.mistakes[:2]] == [
        ("row 4", "4", "2", 2.0),
        ("row 101", "101", "100", 1.0),
    ]


def test_numbers_that_do_not_vary_have_no_correlation() -> None:
    rows = [LabeledText("a", 1.0), LabeledText("b", 2.0)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = REGRESSION.report(rows, np.array([3.0, 3.0], dtype=np.float32), ()).headline["pearson"]
    assert math.isnan(found.value)
