"""Single-label classification: softmax and cross-entropy."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from gpt2_lightning.label_kinds.classes import Classes, class_name
from gpt2_lightning.label_kinds.kind import Label, LabeledText

if TYPE_CHECKING:
    from torchmetrics import Metric

    from gpt2_lightning.label_kinds.reports.classes import ClassificationReport


class Single(Classes):
    """One class per text. Targets are class indices, (B,), int64; outputs (B, L) sum to 1."""

    name = "single"
    answers_with = "one class"
    metric_names: ClassVar[Mapping[str, str]] = {"accuracy": "accuracy", "macro_f1": "macro F1"}
    fewest_labels = 2
    is_exclusive = True
    problem_type = "single_label_classification"

    def parse(self, value: Any, known: Collection[str], separator: str | None) -> str:
        return class_name(value, known)

    def encode(self, rows: Sequence[LabeledText], numbers: dict[str, int]) -> Tensor:
        return torch.tensor([numbers[str(row.label)] for row in rows], dtype=torch.int64)

    def describe(self, labels: Sequence[str]) -> str:
        return f"one of {len(labels)} labels ({', '.join(labels)})"

    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        return F.cross_entropy(logits, targets, weight=weights, reduction="none", label_smoothing=smoothing)

    def outputs(self, logits: Tensor) -> Tensor:
        return logits.float().softmax(dim=1)

    def batch_metric(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(dim=1) == targets).float().mean()

    def metrics(self, n_labels: int) -> dict[str, Metric]:
        from torchmetrics.classification import MulticlassAccuracy, MulticlassF1Score

        return {"accuracy": MulticlassAccuracy(n_labels, average="micro"), "macro_f1": MulticlassF1Score(n_labels)}

    def prediction(self, output: Any, labels: Sequence[str]) -> tuple[Label, dict[str, float]]:
        probabilities = dict(zip(labels, output, strict=True))
        return max(probabilities, key=probabilities.__getitem__), probabilities

    def report(
        self, rows: Sequence[LabeledText], outputs: NDArray[np.float32], labels: Sequence[str]
    ) -> ClassificationReport:
        from gpt2_lightning.label_kinds.reports.classes import exclusive_report

        return exclusive_report(rows, outputs, labels, self.targets(rows, labels), self.metric_names)

    def counts(self, targets: Tensor, n_labels: int) -> Tensor:
        return torch.bincount(targets, minlength=n_labels)

    def balanced_weights(self, counts: Tensor, n_rows: int) -> Tensor:
        """Return weights (L,) inversely proportional to the class counts; the mean weight of a row is 1."""
        return n_rows / (len(counts) * counts)

    def scaled_weights(self, weights: Tensor, counts: Tensor, n_rows: int) -> Tensor:
        """Scale the weights (L,) so that the mean weight of a row is 1."""
        return weights * n_rows / (weights * counts).sum()

    def evidence(self, logits: Tensor) -> Tensor:
        """Return the log-odds z - log sum exp z', with the scores z' of the other classes."""
        labels = logits.size(1)
        itself = torch.eye(labels, dtype=torch.bool, device=logits.device)
        others = logits.unsqueeze(1).expand(-1, labels, -1).masked_fill(itself, float("-inf"))  # (B, L, L)
        return logits - others.logsumexp(dim=-1)
