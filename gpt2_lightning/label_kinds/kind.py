"""The interface of a label kind."""

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
"""A class, the classes that apply, or a number."""


@dataclass(frozen=True)
class LabeledText:
    """A row of a table."""

    text: str
    label: Label


class LabelKind(ABC):
    """What a label is, from the column of a table to the report of a run.

    Shapes: B texts in a batch, N texts in all, L labels (classes), S scores of the head, which are max(L, 1). Targets
    and outputs have the text as their first dimension; the others depend on the kind.
    """

    name: ClassVar[str]
    """Value of `data.kind`, and of `label_kind` in checkpoints."""
    answers_with: ClassVar[str]
    """What a prediction is, in a model card."""
    metric_names: ClassVar[Mapping[str, str]]
    """By key, the display name of every metric. The first is also computed of training batches."""
    fewest_labels: ClassVar[int] = 0
    """Smallest number of classes; 0 for a kind without classes."""
    is_exclusive: ClassVar[bool] = False
    """Whether a text has exactly one class, as `data.balance`, `data.stratify` and label smoothing require."""
    problem_type: ClassVar[str | None] = None
    """`problem_type` of Hugging Face's config.json; None for a kind that transformers does not have."""
    unit: ClassVar[str] = "number"
    """What an output is: `number` or `probability`."""
    evidence_name: ClassVar[str] = "the number"
    """What `evidence` is, in a report on attributions."""

    @property
    def headline(self) -> str:
        """Key of the metric that training logs beside the loss."""
        return next(iter(self.metric_names))

    @abstractmethod
    def parse(self, value: Any, known: Collection[str], separator: str | None) -> Label:
        """The label in a cell of a table.

        Args:
            value: as the file has it, not None.
            known: the classes, if they are stated in the settings; otherwise empty.
            separator: between several classes in one text; None where they are a list.

        Raises:
            ValueError: what is wrong, as the rest of a sentence that begins with the column's name.
        """

    @abstractmethod
    def targets(self, rows: Sequence[LabeledText], labels: Sequence[str]) -> Tensor:
        """Encode the labels of rows, with the classes in the order of `labels`.

        Raises:
            UserError: if a row has an unknown class.
        """

    @abstractmethod
    def check_targets(self, targets: Tensor) -> None:
        """Check that there is something to learn.

        Args:
            targets: of the training part.

        Raises:
            UserError: if there is not.
        """

    def describe(self, labels: Sequence[str]) -> str:
        """What a classifier with these labels predicts, in a message."""
        return self.answers_with

    @abstractmethod
    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        """The loss of each text, (B,).

        Args:
            logits: (B, S), float32.
            targets: see `targets`.
            weights: of the classes, (L,); None for equal ones.
            smoothing: label smoothing; 0 unless the kind is exclusive.
        """

    @abstractmethod
    def outputs(self, logits: Tensor) -> Tensor:
        """What the head says, in float32: probabilities (B, L), or numbers (B,)."""

    @abstractmethod
    def batch_metric(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The headline metric of a batch, a scalar."""

    @abstractmethod
    def metrics(self, n_labels: int) -> dict[str, Metric]:
        """Metrics of the validation part by key; they are updated with outputs and targets."""

    @abstractmethod
    def prediction(self, output: Any, labels: Sequence[str]) -> tuple[Label, dict[str, float]]:
        """Decide.

        Args:
            output: a row of `outputs` as plain numbers.
            labels: the classes in the order of the outputs.

        Returns:
            The predicted label, and the probability of each class, empty without classes.
        """

    @abstractmethod
    def report(self, rows: Sequence[LabeledText], outputs: NDArray[np.float32], labels: Sequence[str]) -> Report:
        """Evaluate predictions.

        Args:
            rows: at least one.
            outputs: see `outputs`.
            labels: the classes in the order of the outputs.

        Raises:
            UserError: if a row has an unknown class.
        """

    def counts(self, targets: Tensor, n_labels: int) -> Tensor:
        """Rows of each class, (L,)."""
        return targets.new_zeros(n_labels)

    def balanced_weights(self, counts: Tensor, n_rows: int) -> Tensor:
        """Weights of the classes (L,) with which each has the same sum."""
        raise NotImplementedError(f"{self.name} has no classes")

    def scaled_weights(self, weights: Tensor, counts: Tensor, n_rows: int) -> Tensor:
        """Weights (L,) as stated by the user, at a scale that leaves the learning rate its meaning."""
        raise NotImplementedError(f"{self.name} has no classes")

    def evidence(self, logits: Tensor) -> Tensor:
        """What attributions explain, (B, S), float32: the log-odds of each class, or the number before `answer`."""
        return logits

    def answer(self, evidence: Tensor) -> Tensor:
        """The output that belongs to an amount of evidence, elementwise."""
        return evidence
