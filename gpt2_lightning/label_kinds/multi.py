"""Multi-label classification: a sigmoid and binary cross-entropy for each class."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gpt2_lightning.errors import shortened
from gpt2_lightning.label_kinds.classes import Classes, class_name
from gpt2_lightning.label_kinds.kind import Label, LabeledText

if TYPE_CHECKING:
    from torchmetrics import Metric

    from gpt2_lightning.label_kinds.reports.classes import ClassificationReport

THRESHOLD = 0.5
"""Probability above which a class is predicted."""


class Multi(Classes):
    """Any number of classes per text. Targets are (B, L), int64, 1 for classes that apply; outputs are (B, L)."""

    name = "multi"
    answers_with = "any number of classes"
    metric_names: ClassVar[Mapping[str, str]] = {"exact_match": "exact match of all classes", "macro_f1": "macro F1"}
    fewest_labels = 1
    problem_type = "multi_label_classification"

    def parse(self, value: Any, known: Collection[str], separator: str | None) -> tuple[str, ...]:
        if isinstance(value, str) and separator is not None:
            value = [name.strip() for name in value.split(separator)] if value.strip() else []
        if not isinstance(value, list):
            hint = "; set data.separator for labels in one text" if isinstance(value, str) else ""
            raise ValueError(f"is {shortened(value)}, and must be a list{hint}")
        names = tuple(class_name(name, known) for name in value)
        if len(set(names)) < len(names):
            raise ValueError(f"is {shortened(value)}, which names a class twice")
        return names

    def encode(self, rows: Sequence[LabeledText], numbers: dict[str, int]) -> Tensor:
        targets = torch.zeros(len(rows), len(numbers), dtype=torch.int64)
        for row, text in enumerate(rows):
            assert isinstance(text.label, tuple), "`parse` returns tuples"
            targets[row, [numbers[name] for name in text.label]] = 1
        return targets

    def describe(self, labels: Sequence[str]) -> str:
        return f"any of {len(labels)} labels ({', '.join(labels)})"

    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        losses = F.binary_cross_entropy_with_logits(logits, targets.float(), pos_weight=weights, reduction="none")
        return losses.mean(dim=1)

    def outputs(self, logits: Tensor) -> Tensor:
        return logits.float().sigmoid()

    def batch_metric(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs > THRESHOLD) == targets.bool()).all(dim=1).float().mean()

    def metrics(self, n_labels: int) -> dict[str, Metric]:
        from torchmetrics.classification import (
            BinaryAccuracy,
            BinaryF1Score,
            MultilabelExactMatch,
            MultilabelF1Score,
        )

        if n_labels == 1:  # the multilabel metrics require at least 2 labels
            return {"exact_match": BinaryAccuracy(THRESHOLD), "macro_f1": BinaryF1Score(THRESHOLD)}
        return {
            "exact_match": MultilabelExactMatch(n_labels, THRESHOLD),
            "macro_f1": MultilabelF1Score(n_labels, THRESHOLD),
        }

    def prediction(self, output: Any, labels: Sequence[str]) -> tuple[Label, dict[str, float]]:
        probabilities = dict(zip(labels, output, strict=True))
        return tuple(name for name, probability in probabilities.items() if probability > THRESHOLD), probabilities

    def report(
        self, rows: Sequence[LabeledText], outputs: NDArray[np.float32], labels: Sequence[str]
    ) -> ClassificationReport:
        from gpt2_lightning.label_kinds.reports.classes import several_report

        targets = self.targets(rows, labels).bool()
        return several_report(rows, outputs, labels, targets, outputs > THRESHOLD, self.metric_names)

    def counts(self, targets: Tensor, n_labels: int) -> Tensor:
        return targets.sum(dim=0)

    def balanced_weights(self, counts: Tensor, n_rows: int) -> Tensor:
        """Return weights (L,) such that the texts of a class have the same total weight as the other texts."""
        return (n_rows - counts).clamp(min=1) / counts

    def scaled_weights(self, weights: Tensor, counts: Tensor, n_rows: int) -> Tensor:
        """Return the weights unchanged: each is the weight of the texts of a class relative to the other texts."""
        return weights
