"""The description of a classifier in its checkpoint."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from gpt2_lightning.label_kinds import KINDS, LabelKind
from gpt2_lightning.model.classifier import Pooling
from gpt2_lightning.settings import OneOf, PositiveInt, Settings, relation

KIND = "classify"
"""Value of `kind` in the description of a classifier's task."""


@dataclass(frozen=True)
class LabelTask(Settings):
    """Labels and input of a classifier.

    Raises:
        ValueError: with every invalid field, one line each, as "field: what is wrong".
    """

    labels: tuple[str, ...]
    """Class names in the order of the scores; empty for a kind without classes."""
    label_kind: Annotated[str, OneOf(KINDS)]
    """Name of the `LabelKind`."""
    pooling: Pooling
    """Pooling of the hidden states; see `Classifier`."""
    truncation: PositiveInt
    """Maximum length of a text in tokens; longer texts are truncated."""
    add_prefix_space: bool = False
    """Whether to prepend a space to texts that do not begin with one; see `EncodedTexts`."""

    @relation
    def _labels_suit_their_kind(self) -> Iterator[str]:
        fewest = self.kind.fewest_labels
        if self.labels and not fewest:
            yield f"labels: {list(self.labels)} does not fit; {self.label_kind} has none"
        elif len(self.labels) < fewest or len(set(self.labels)) < len(self.labels):
            yield f"labels: {list(self.labels)} does not fit; it must be {fewest} or more different names"

    @property
    def kind(self) -> LabelKind:
        """The label kind."""
        return KINDS[self.label_kind]

    @property
    def n_scores(self) -> int:
        """Number of scores of the head."""
        return len(self.labels) or 1

    def to_plain(self) -> dict[str, Any]:
        """Convert to plain values, for `Description.task`."""
        plain = dataclasses.asdict(self)
        return {"kind": KIND, "reads": plain.pop("pooling"), **plain, "labels": list(self.labels)}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> LabelTask:
        """The inverse of `to_plain`.

        Raises:
            KeyError, TypeError, ValueError: if the values are missing or invalid.
        """
        labels = tuple(map(str, plain["labels"]))
        spaced = bool(plain.get("add_prefix_space", False))
        return cls(labels, plain["label_kind"], plain["reads"], int(plain["truncation"]), spaced)
