"""Texts with a label, several labels or a number: what a classifier learns from."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from gpt2_lightning.data.tables.records import BadRow, did_you_mean, listed, shortened, text_of
from gpt2_lightning.data.tables.splits import Splits, balanced
from gpt2_lightning.data.tables.table import Table
from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import relation

Label = str | tuple[str, ...] | float
"""A class, the classes that apply, or a number, by the kind of the table."""


@dataclass(frozen=True)
class LabeledText:
    """One row."""

    text: str
    label: Label


@dataclass(frozen=True, kw_only=True)
class LabeledTexts(Table):
    """A table with a column of texts and one of labels.

    Numbers and truth values may be classes; they become text (`1`, `true`), as they stand in a CSV file.

    Raises:
        ValueError: with every setting that does not fit, a line each, as "field: what is wrong".
    """

    text_column: str = "text"
    label_column: str = "label"
    kind: Literal["single", "multi", "regression"] = "single"
    """Each text has one class, any number of classes, or a finite number."""
    labels: list[str | int] | None = None
    """The classes in the order of their numbers; where it is null, those of the training part, sorted."""
    separator: str | None = None
    """Between the classes of a text, where they are written as one text; null where they are a list."""
    balance: bool = False
    """Whether the table that trains keeps, of every class, only as many rows as the rarest has. What is cut from it is
    balanced too; validation and test tables of their own are left as they are."""
    stratify: bool = False
    """Whether each class is cut by itself, so that all parts have the same mix."""

    @relation
    def _separator_suits_the_kind(self) -> Iterator[str]:
        if self.separator is not None and (self.kind != "multi" or not self.separator):
            yield f"separator: {self.separator!r} does not fit; it is a text between labels, for kind=multi alone"

    @relation
    def _labels_suit_the_kind(self) -> Iterator[str]:
        if self.labels is None:
            return
        fewest = 2 if self.kind == "single" else 1
        if self.kind == "regression":
            yield "labels: is of no use with kind=regression; leave it out"
        elif len(self._classes()) != len(self.labels) or len(self.labels) < fewest:
            yield f"labels: {self.labels} does not fit; it must be {fewest} or more different names"

    @relation
    def _sampling_suits_the_kind(self) -> Iterator[str]:
        for name, wanted in (("balance", self.balance), ("stratify", self.stratify)):
            if wanted and self.kind != "single":
                yield f"{name}: is for kind=single alone; leave it out with kind={self.kind}"

    def read(self) -> Splits[LabeledText]:
        """All rows, checked.

        Raises:
            UserError: if a table, a column or a part is missing or empty, a row is bad, or the labels cannot be
                learned: one class alone, fewer rows than classes, or a class that training lacks.
        """
        parts = self._load(self._row, {"text_column": self.text_column, "label_column": self.label_column}, {})
        if self.balance:
            parts["train"] = balanced(parts["train"], [row.label for row in parts["train"]], self.split_seed)
        splits = self._cut(parts, [row.label for row in parts["train"]] if self.stratify else None)
        if self.kind != "regression":
            self._check_classes(splits)
        return splits

    def classes(self, training: Iterable[LabeledText]) -> tuple[str, ...]:
        """The classes in the order of their numbers; empty for regression."""
        if self.labels is not None:
            return self._classes()
        return _sorted({name for row in training for name in _names(row.label)})

    def _classes(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(map(str, self.labels or ())))

    def _row(self, values: dict[str, Any]) -> LabeledText:
        text = text_of(values, self.text_column)
        value = values.get(self.label_column)
        if value is None:
            raise BadRow(f"{self.label_column} is missing")
        if self.kind == "regression":
            return LabeledText(text, self._number(value))
        if self.kind == "single":
            return LabeledText(text, self._class(value))
        return LabeledText(text, self._several(value))

    def _class(self, value: Any) -> str:
        if isinstance(value, bool):
            value = str(value).lower()
        if not isinstance(value, str | int):
            raise BadRow(
                f"{self.label_column} is {shortened(value)} ({type(value).__name__}), and must be text or a count"
            )
        name = str(value)
        if not name.strip():
            raise BadRow(f"{self.label_column} is empty")
        known = self._classes()
        if known and name not in known:
            near = did_you_mean(name, known)
            raise BadRow(f"{self.label_column} is {shortened(name)}, and must be one of {listed(known)}{near}")
        return name

    def _several(self, value: Any) -> tuple[str, ...]:
        if isinstance(value, str) and self.separator is not None:
            value = [name.strip() for name in value.split(self.separator)] if value.strip() else []
        if not isinstance(value, list):
            hint = "; set data.separator for labels in one text" if isinstance(value, str) else ""
            raise BadRow(f"{self.label_column} is {shortened(value)}, and must be a list{hint}")
        names = tuple(map(self._class, value))
        if len(set(names)) < len(names):
            raise BadRow(f"{self.label_column} is {shortened(value)}, which names a class twice")
        return names

    def _number(self, value: Any) -> float:
        try:
            number = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            number = math.nan
        if not math.isfinite(number):
            raise BadRow(f"{self.label_column} is {shortened(value)}, and must be a finite number")
        return number

    def _check_classes(self, splits: Splits[LabeledText]) -> None:
        classes, n_rows = self.classes(splits.train), len(splits.train)
        if len(classes) < (2 if self.kind == "single" else 1):
            raise UserError(
                f"data.label_column: all {n_rows} training rows have the same label, {listed(classes)}; "
                "there is nothing to tell apart"
            )
        if n_rows < len(classes):
            raise UserError(
                f"data.labels: there are {len(classes)} classes and only {n_rows} rows to train on; use more rows"
            )
        trained = {name for row in splits.train for name in _names(row.label)}
        for part, source, rows in (("validation", self.val, splits.val), ("test", self.test, splits.test)):
            unseen = Counter(name for row in rows for name in _names(row.label) if name not in trained)
            if unseen:
                shown = ", ".join(f"{shortened(name)} ({n} row{'s' * (n > 1)})" for name, n in unseen.most_common(10))
                is_cut = self.kind == "single" and not isinstance(source, str)
                remedy = ", or cut each class by itself with data.stratify=true" if is_cut else ""
                raise UserError(
                    f"data.label_column: the {part} part has labels that the training part lacks: {shown}; mend "
                    f"them{remedy}"
                )


def _names(label: Label) -> tuple[str, ...]:
    """The classes in a label."""
    if isinstance(label, tuple):
        return label
    return (label,) if isinstance(label, str) else ()


def _sorted(names: set[str]) -> tuple[str, ...]:
    """By value where all are whole numbers, otherwise by alphabet."""
    try:
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    except ValueError:
        return tuple(sorted(names))
