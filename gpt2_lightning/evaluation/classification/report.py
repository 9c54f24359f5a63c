"""What a classifier's answers to one part of a table are worth."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_f1_score,
    binary_precision,
    binary_recall,
    binary_roc,
    multiclass_confusion_matrix,
)

from gpt2_lightning.data.classification.batches import LabelKind, encode_labels
from gpt2_lightning.data.tables import LabeledText
from gpt2_lightning.evaluation.classification.calibration import Calibration, calibration
from gpt2_lightning.evaluation.classification.intervals import Estimate, estimate, macro_f1
from gpt2_lightning.evaluation.classification.predictions import THRESHOLD

MISTAKES = 20
"""Errors that a report shows."""
UNDEFINED = float("nan")


@dataclass(frozen=True)
class ClassFigures:
    """One class against all others. What the rows cannot tell is NaN."""

    label: str
    rows: int
    """Rows that have the label."""
    precision: float
    """Share of the rows with this answer that are right."""
    recall: float
    """Share of the rows with this label that are found."""
    f1: float
    auroc: float
    """How often a row of this class gets a higher probability for it than a row of another."""


@dataclass(frozen=True)
class Curve:
    """The receiver operating characteristic of a class: for every threshold, what it finds and what it costs."""

    label: str
    false_positives: NDArray[np.float32]
    """Share of the rows of other classes, rising."""
    true_positives: NDArray[np.float32]
    """Share of the rows of this class."""


@dataclass(frozen=True)
class Mistake:
    """A text that was answered wrongly."""

    text: str
    label: str
    answer: str
    size: float
    """The probability of the wrong answer; of several classes, of the surest wrong one. For regression the distance."""


@dataclass(frozen=True)
class ClassificationReport:
    """Figures of one class a row, or of several."""

    rows: int
    headline: dict[str, Estimate]
    """`accuracy` and `macro_f1`; for several classes `exact_match` in place of accuracy."""
    baseline: tuple[str, float]
    """The most frequent label, and the first headline figure of always answering it."""
    auroc: float
    """Mean over the classes that have one."""
    classes: list[ClassFigures]
    curves: list[Curve]
    """Of the classes that have one; of two classes that exclude each other, the second alone."""
    calibration: Calibration
    """Of the chosen class; for several classes, of every class of every row."""
    confusion: NDArray[np.int64] | None
    """Rows by label and answer, (L, L); None for several classes."""
    mistakes: list[Mistake]
    """The surest first."""


def report(
    rows: Sequence[LabeledText], outputs: NDArray[np.float32], labels: Sequence[str], kind: LabelKind
) -> ClassificationReport:
    """Measure the answers to some rows.

    Args:
        rows: at least one.
        outputs: probabilities (N, L), see `predictions.predict`.
        labels: the classes in the order of the probabilities.
        kind: `single` or `multi`.

    Raises:
        UserError: if a row has a label that is none of the classes.
    """
    scores = torch.from_numpy(outputs)
    known = encode_labels(rows, labels, kind)
    if kind == "single":
        true, answers = (_one_hot(numbers, len(labels)) for numbers in (known, scores.argmax(dim=1)))
        confidence, hits = scores.max(dim=1).values, (scores.argmax(dim=1) == known)
    else:
        true, answers = known.bool(), scores > THRESHOLD
        confidence, hits = scores.flatten(), true.flatten()
    classes = [
        _class_figures(label, *columns) for label, *columns in zip(labels, scores.T, answers.T, true.T, strict=True)
    ]
    frequent, count = Counter(_named(row, labels) for row in true.tolist()).most_common(1)[0]
    defined = [figures.auroc for figures in classes if not np.isnan(figures.auroc)]
    return ClassificationReport(
        rows=len(rows),
        headline=_headline(answers.numpy(), true.numpy(), "accuracy" if kind == "single" else "exact_match"),
        baseline=(frequent, count / len(rows)),
        auroc=float(np.mean(defined)) if defined else UNDEFINED,
        classes=classes,
        curves=_curves(labels, scores, true, only_last=kind == "single" and len(labels) == 2),
        calibration=calibration(confidence.numpy(), hits.numpy()),
        confusion=_confusion(scores, known) if kind == "single" else None,
        mistakes=_mistakes(rows, scores, answers, true, labels, kind),
    )


def _class_figures(label: str, scores: Tensor, answers: Tensor, true: Tensor) -> ClassFigures:
    rows, given = int(true.sum()), int(answers.sum())
    return ClassFigures(
        label,
        rows,
        float(binary_precision(answers, true)) if given else UNDEFINED,
        float(binary_recall(answers, true)) if rows else UNDEFINED,
        float(binary_f1_score(answers, true)) if rows or given else UNDEFINED,
        float(binary_auroc(scores, true.long())) if 0 < rows < len(true) else UNDEFINED,
    )


def _headline(answers: NDArray[np.bool_], true: NDArray[np.bool_], name: str) -> dict[str, Estimate]:
    n, n_labels = true.shape
    whole = (answers == true).all(axis=1, keepdims=True)
    columns = np.concatenate([whole, answers & true, answers, true], axis=1)
    ends = np.cumsum([1, n_labels, n_labels])
    return estimate(
        columns,
        {
            name: lambda sums: sums[:, 0] / n,
            "macro_f1": lambda sums: macro_f1(*np.split(sums, ends, axis=1)[1:]),
        },
    )


def _curves(labels: Sequence[str], scores: Tensor, true: Tensor, only_last: bool) -> list[Curve]:
    curves = []
    for place in range(len(labels) - 1 if only_last else 0, len(labels)):
        if 0 < int(true[:, place].sum()) < len(true):
            false_positives, true_positives, _ = binary_roc(scores[:, place], true[:, place].long())
            curves.append(Curve(labels[place], false_positives.numpy(), true_positives.numpy()))
    return curves


def _confusion(scores: Tensor, known: Tensor) -> NDArray[np.int64]:
    counts: NDArray[np.int64] = multiclass_confusion_matrix(scores, known, num_classes=scores.size(1)).numpy()
    return counts


def _mistakes(
    rows: Sequence[LabeledText], scores: Tensor, answers: Tensor, true: Tensor, labels: Sequence[str], kind: LabelKind
) -> list[Mistake]:
    wrong = (answers != true) & (answers if kind == "single" else True)  # decisions that were made, (N, L)
    size = torch.where(answers, scores, 1 - scores).where(wrong, -1).amax(dim=1)  # -1 where nothing is wrong
    places = [place for place in size.argsort(descending=True, stable=True).tolist() if size[place] >= 0]
    return [
        Mistake(
            rows[place].text,
            _named(true[place].tolist(), labels),
            _named(answers[place].tolist(), labels),
            float(size[place]),
        )
        for place in places[:MISTAKES]
    ]


def _named(applies: Sequence[bool], labels: Sequence[str]) -> str:
    return ", ".join(itertools.compress(labels, applies)) or "none"


def _one_hot(numbers: Tensor, n: int) -> Tensor:
    return torch.nn.functional.one_hot(numbers, n).bool()
