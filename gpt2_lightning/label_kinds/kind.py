"""Interface of a label kind."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from gpt2_lightning.label_kinds.reports.report import Report

if TYPE_CHECKING:
    from torchmetrics import Metric

Label = str | tuple[str, ...] | float
"""A class, several classes, or a number."""


@dataclass(frozen=True)
class LabeledText:
    """A row of a table of labeled texts."""

    text: str
    label: Label


class LabelKind(ABC):
    """Base class of label kinds, which define labels from the column of a table to the report of a run.

    Shapes: B texts in a batch, N texts in total, L labels (classes), S = max(L, 1) scores of the head. The first
        dimension
    of targets and outputs is the text; further dimensions depend on the kind.
    """

    name: ClassVar[str]
    """Value of `data.kind`, and of `label_kind` in checkpoints."""
    answers_with: ClassVar[str]
    """Description of a prediction in a model card."""
    metric_names: ClassVar[Mapping[str, str]]
    """Display names of all metrics by key. The first metric is also computed on training batches."""
    fewest_labels: ClassVar[int] = 0
    """Smallest number of classes; 0 for a kind without classes."""
    is_exclusive: ClassVar[bool] = False
    """Whether a text has exactly one class, as `data.balance`, `data.stratify` and label smoothing require."""
    problem_type: ClassVar[str | None] = None
    """`problem_type` of Hugging Face's config.json; None for a kind that transformers does not have."""
    unit: ClassVar[str] = "number"
    """Unit of an output: `number` or `probability`."""
    evidence_name: ClassVar[str] = "the number"
    """Description of `evidence` in a report on attributions."""

    @property
    def headline(self) -> str:
        """Key of the metric that training logs in addition to the loss."""
        return next(iter(self.metric_names))

    @abstractmethod
    def parse(self, value: Any, known: Collection[str], separator: str | None) -> Label:
        """Parse the label in a cell of a table.

        Args:
            value: value in the file, not None.
            known: class names, if the settings state them; otherwise empty.
            separator: separator of several classes in one string; None if the value is a list.

        Raises:
            ValueError: with the fault, as the rest of a sentence that begins with the name of the column.
        """

    @abstractmethod
    def targets(self, rows: Sequence[LabeledText], labels: Sequence[str]) -> Tensor:
        """Encode the labels of rows as targets, with class indices in the order of `labels`.

        Raises:
            UserError: if a row has an unknown class.
        """

    @abstractmethod
    def check_targets(self, targets: Tensor) -> None:
        """Check that the targets are not trivial.

        Args:
            targets: targets of the training part.

        Raises:
            UserError: if there is nothing to learn.
        """

    def describe(self, labels: Sequence[str]) -> str:
        """Describe the predictions of a classifier with these labels, for messages."""
        return self.answers_with

    @abstractmethod
    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        """Compute the loss of each text, (B,).

        Args:
            logits: scores of the head, (B, S), float32.
            targets: see `targets`.
            weights: class weights, (L,); None for equal weights.
            smoothing: label smoothing; 0 unless the kind is exclusive.
        """

    @abstractmethod
    def outputs(self, logits: Tensor) -> Tensor:
        """Convert scores to outputs in float32: probabilities (B, L), or numbers (B,)."""

    @abstractmethod
    def batch_metric(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Compute the headline metric of a batch, a scalar."""

    @abstractmethod
    def metrics(self, n_labels: int) -> dict[str, Metric]:
        """Create the validation metrics by key; they are updated with outputs and targets."""

    @abstractmethod
    def prediction(self, output: Any, labels: Sequence[str]) -> tuple[Label, dict[str, float]]:
        """Convert the output of a text to a prediction.

        Args:
            output: a row of `outputs` as plain numbers.
            labels: class names in the order of the outputs.

        Returns:
            The predicted label, and the probability of each class by name; empty without classes.
        """

    @abstractmethod
    def report(self, rows: Sequence[LabeledText], outputs: NDArray[np.float32], labels: Sequence[str]) -> Report:
        """Evaluate predictions.

        Args:
            rows: the N rows, at least one.
            outputs: outputs of the rows; see `outputs`.
            labels: class names in the order of the outputs.

        Raises:
            UserError: if a row has an unknown class.
        """

    def counts(self, targets: Tensor, n_labels: int) -> Tensor:
        """Return the number of rows of each class, (L,)."""
        return targets.new_zeros(n_labels)

    def balanced_weights(self, counts: Tensor, n_rows: int) -> Tensor:
        """Return the class weights (L,) that give each class the same total weight."""
        raise NotImplementedError(f"{self.name} has no classes")

    def scaled_weights(self, weights: Tensor, counts: Tensor, n_rows: int) -> Tensor:
        """Scale the class weights (L,) of the settings so that they do not change the effective learning rate."""
        raise NotImplementedError(f"{self.name} has no classes")

    def evidence(self, logits: Tensor) -> Tensor:
        """Return the quantity that attributions explain, (B, S), float32: log-odds of each class, or the raw number."""
        return logits

    def answer(self, evidence: Tensor) -> Tensor:
        """Convert evidence to outputs, elementwise."""
        return evidence
