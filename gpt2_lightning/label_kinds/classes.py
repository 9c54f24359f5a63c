"""Base of the label kinds with classes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from typing import Any

from torch import Tensor

from gpt2_lightning.errors import UserError, did_you_mean, listed, shortened
from gpt2_lightning.label_kinds.kind import LabeledText, LabelKind


class Classes(LabelKind):
    """Label kind whose labels are classes and whose outputs are their probabilities."""

    unit = "probability"
    evidence_name = "the evidence (log-odds) for a label"

    def targets(self, rows: Sequence[LabeledText], labels: Sequence[str]) -> Tensor:
        try:
            return self.encode(rows, {name: number for number, name in enumerate(labels)})
        except KeyError as unknown:
            raise UserError(
                f"data.labels: a row has the label {unknown}, which is none of {', '.join(labels)}; mend the row or "
                "the list"
            ) from None

    @abstractmethod
    def encode(self, rows: Sequence[LabeledText], numbers: dict[str, int]) -> Tensor:
        """Encode the labels of rows as targets.

        Args:
            rows: rows of a table.
            numbers: class indices by name.

        Raises:
            KeyError: with the name of an unknown class.
        """

    def check_targets(self, targets: Tensor) -> None:
        """Accept all targets, since classes are checked by name when the table is read."""

    def answer(self, evidence: Tensor) -> Tensor:
        return evidence.sigmoid()


def class_name(value: Any, known: Collection[str]) -> str:
    """Return the class name in a cell; numbers and Booleans are converted to text (`1`, `true`), as in a CSV file.

    Raises:
        ValueError: see `LabelKind.parse`.
    """
    if isinstance(value, bool):
        value = str(value).lower()
    if not isinstance(value, str | int):
        raise ValueError(f"is {shortened(value)} ({type(value).__name__}), and must be text or a count")
    name = str(value)
    if not name.strip():
        raise ValueError("is empty")
    if known and name not in known:
        raise ValueError(f"is {shortened(name)}, and must be one of {listed(known)}{did_you_mean(name, known)}")
    return name
