"""Evaluation of predicted classes."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import (
    binary_auroc,
    binary_f1_score,
    binary_precision,
    binary_recall,
    multiclass_confusion_matrix,
)

from gpt2_lightning.bootstrap import Sums
from gpt2_lightning.label_kinds.kind import LabeledText
from gpt2_lightning.label_kinds.reports.calibration import BINS, Calibration, calibration
from gpt2_lightning.label_kinds.reports.plots import draw_confusion, draw_curves, draw_reliability
from gpt2_lightning.label_kinds.reports.report import (
    MISTAKES,
    Mistake,
    Report,
    literally,
    mistakes_table,
    number,
    table,
)
from gpt2_lightning.label_kinds.reports.roc import Curve, roc_curves

UNDEFINED = float("nan")


@dataclass(frozen=True)
class ClassMetrics:
    """Metrics of one class against all others; undefined metrics are NaN."""

    label: str
    rows: int
    """Number of rows with the label."""
    precision: float
    """Share of correct predictions among the rows with this prediction."""
    recall: float
    """Share of correct predictions among the rows with this label."""
    f1: float
    auroc: float
    """Area under the ROC curve: probability that a row of this class is ranked above a row of another class."""


@dataclass(frozen=True)
class ClassificationReport(Report):
    """Evaluation of predicted classes, one or several per row."""

    baseline: tuple[str, float]
    """Most frequent label, and the first headline metric of always predicting it."""
    auroc: float
    """Mean area under the ROC curve over the classes for which it is defined."""
    classes: list[ClassMetrics]
    curves: list[Curve]
    """ROC curves of the classes for which they are defined; of two exclusive classes, only that of the second."""
    calibration: Calibration
    """Calibration of the predicted class; for several classes per row, of every class of every row."""
    confusion: NDArray[np.int64] | None
    """Confusion matrix, rows by label and prediction, (L, L); None for several classes per row."""
    mistakes: list[Mistake]
    """Errors in descending order of their probability."""
    errors = frozenset({"calibration_error"})
    shares = frozenset({"accuracy", "exact_match", "macro_f1"})

    @property
    def further(self) -> dict[str, float]:
        return {"auroc": self.auroc, "calibration_error": self.calibration.error}

    def sections(self, folder: Path) -> list[str]:
        frequent, share = self.baseline
        more = [
            ["AUROC, mean over the classes", number(self.auroc), ""],
            [f"expected calibration error, {BINS} bins", number(self.calibration.error), ""],
            [f"always answering {literally(frequent)}", number(share), ""],
        ]
        lines = [*self.headline_table(more), "", "## Classes", "", *self._class_table()]
        if self.confusion is not None:
            draw_confusion(self.confusion, [c.label for c in self.classes], folder / "confusion.png")
            lines += ["", "![Confusion matrix](confusion.png)"]
        draw_reliability(self.calibration, folder / "reliability.png")
        lines += ["", "## Calibration", "", "![Reliability diagram](reliability.png)"]
        if self.curves:
            areas = {c.label: c.auroc for c in self.classes}
            draw_curves(self.curves, [areas[curve.label] for curve in self.curves], folder / "roc.png")
            lines += ["", "## Receiver operating characteristic", "", "![ROC curves](roc.png)"]
        return [*lines, "", "## Surest errors", "", *mistakes_table(self.mistakes, "probability")]

    def _class_table(self) -> list[str]:
        return table(
            ["class", "rows", "precision", "recall", "F1", "AUROC"],
            (
                [literally(c.label), f"{c.rows:,}", *map(number, (c.precision, c.recall, c.f1, c.auroc))]
                for c in self.classes
            ),
        )


def exclusive_report(
    rows: Sequence[LabeledText],
    outputs: NDArray[np.float32],
    labels: Sequence[str],
    targets: Tensor,
    names: Mapping[str, str],
) -> ClassificationReport:
    """Evaluate one predicted class per row, that with the highest probability.

    Args:
        rows: the N rows, at least one.
        outputs: probabilities, (N, L).
        labels: class names in the order of the probabilities.
        targets: class indices of the labels, (N,), int64.
        names: display names of accuracy and macro F1, by key.
    """
    probabilities = torch.from_numpy(outputs)
    confidence, predicted = probabilities.max(dim=1)
    true, chosen = (torch.nn.functional.one_hot(numbers, len(labels)).bool() for numbers in (targets, predicted))
    confusion: NDArray[np.int64] = multiclass_confusion_matrix(probabilities, targets, num_classes=len(labels)).numpy()
    size = confidence.where(predicted != targets, -1)
    return _report(
        *(rows, labels, probabilities, true, chosen, names, size),
        calibration=calibration(confidence.numpy(), (predicted == targets).numpy()),
        confusion=confusion,
    )


def several_report(
    rows: Sequence[LabeledText],
    outputs: NDArray[np.float32],
    labels: Sequence[str],
    targets: Tensor,
    predicted: NDArray[np.bool_],
    names: Mapping[str, str],
) -> ClassificationReport:
    """Evaluate any number of predicted classes per row.

    Args:
        rows: the N rows, at least one.
        outputs: probabilities, (N, L).
        labels: class names in the order of the probabilities.
        targets: whether each class applies, bool, (N, L).
        predicted: whether each class is predicted, (N, L).
        names: display names of exact match and macro F1, by key.
    """
    probabilities, chosen = torch.from_numpy(outputs), torch.from_numpy(predicted)
    size = torch.where(chosen, probabilities, 1 - probabilities).where(chosen != targets, -1).amax(dim=1)
    return _report(
        *(rows, labels, probabilities, targets, chosen, names, size),
        calibration=calibration(outputs.flatten(), targets.flatten().numpy()),
        confusion=None,
    )


def _report(
    rows: Sequence[LabeledText],
    labels: Sequence[str],
    probabilities: Tensor,
    true: Tensor,
    chosen: Tensor,
    names: Mapping[str, str],
    size: Tensor,
    calibration: Calibration,
    confusion: NDArray[np.int64] | None,
) -> ClassificationReport:
    """Compute what both reports share.

    Args:
        rows: the N rows, at least one.
        labels: class names.
        probabilities: probabilities, (N, L).
        true: whether each class applies, bool, (N, L).
        chosen: whether each class is predicted, bool, (N, L).
        names: display names of the share of correct rows and of macro F1, by key.
        size: `Mistake.size` of each row, (N,); -1 for correct predictions.
        calibration: see `ClassificationReport`.
        confusion: see `ClassificationReport`.
    """
    classes = [
        _class_metrics(label, *columns)
        for label, *columns in zip(labels, probabilities.T, chosen.T, true.T, strict=True)
    ]
    frequent, count = Counter(_named(row, labels) for row in true.tolist()).most_common(1)[0]
    defined = [metrics.auroc for metrics in classes if not np.isnan(metrics.auroc)]
    return ClassificationReport(
        rows=len(rows),
        columns=_summands(chosen.numpy(), true.numpy()),
        statistics={next(iter(names)): lambda sums: sums[:, 0] / len(rows), "macro_f1": _macro_f1},
        names=names,
        baseline=(frequent, count / len(rows)),
        auroc=float(np.mean(defined)) if defined else UNDEFINED,
        classes=classes,
        curves=roc_curves(labels, probabilities, true, only_last=confusion is not None and len(labels) == 2),
        calibration=calibration,
        confusion=confusion,
        mistakes=_mistakes(rows, size, chosen, true, labels),
    )


def _class_metrics(label: str, probabilities: Tensor, chosen: Tensor, true: Tensor) -> ClassMetrics:
    rows, predicted = int(true.sum()), int(chosen.sum())
    return ClassMetrics(
        label,
        rows,
        float(binary_precision(chosen, true)) if predicted else UNDEFINED,
        float(binary_recall(chosen, true)) if rows else UNDEFINED,
        float(binary_f1_score(chosen, true)) if rows or predicted else UNDEFINED,
        float(binary_auroc(probabilities, true.long())) if 0 < rows < len(true) else UNDEFINED,
    )


def _summands(chosen: NDArray[np.bool_], true: NDArray[np.bool_]) -> Sums:
    """Return whether each row is correct, and its true positives, predictions and labels by class, (N, 1 + 3L)."""
    right = (chosen == true).all(axis=1, keepdims=True)
    return np.concatenate([right, chosen & true, chosen, true], axis=1).astype(np.float64)


def _macro_f1(sums: Sums) -> NDArray[np.float64]:
    """Mean over the classes of 2 right / (predicted + true); classes that are in neither are excluded.

    Args:
        sums: see `_summands`, (draws, 1 + 3L).
    """
    right, predicted, true = np.split(sums[:, 1:], 3, axis=1)
    together = predicted + true
    f1 = np.divide(2 * right, together, out=np.zeros_like(together), where=together > 0)
    present: NDArray[np.float64] = (together > 0).sum(axis=1)
    return f1.sum(axis=1) / np.maximum(present, 1)


def _mistakes(
    rows: Sequence[LabeledText], size: Tensor, chosen: Tensor, true: Tensor, labels: Sequence[str]
) -> list[Mistake]:
    surest = [row for row in size.argsort(descending=True, stable=True).tolist() if size[row] >= 0]
    return [
        Mistake(
            rows[row].text, _named(true[row].tolist(), labels), _named(chosen[row].tolist(), labels), float(size[row])
        )
        for row in surest[:MISTAKES]
    ]


def _named(applies: Sequence[bool], labels: Sequence[str]) -> str:
    return ", ".join(itertools.compress(labels, applies)) or "none"
