"""Tables of texts with labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from gpt2_lightning.data.tables.records import BadRow, text_of
from gpt2_lightning.data.tables.splits import Splits, balanced
from gpt2_lightning.data.tables.table import Table
from gpt2_lightning.errors import UserError, listed, shortened
from gpt2_lightning.label_kinds import KINDS, Label, LabeledText, LabelKind
from gpt2_lightning.settings import OneOf, relation


@dataclass(frozen=True, kw_only=True)
class LabeledTexts(Table):
    """Table with a column of texts and a column of labels.

    Numbers and Booleans may be classes; they are converted to text (`1`, `true`), as in a CSV file.

    Raises:
        ValueError: with every invalid setting, one line each, as "field: what is wrong".
    """

    text_column: str = "text"
    label_column: str = "label"
    kind: Annotated[str, OneOf(KINDS)] = "single"
    """Label kind, one of `label_kinds.KINDS`: one class (`single`), any number of classes (`multi`), or a finite number
    (`regression`)."""
    labels: list[str | int] | None = None
    """Class names in the order of their indices; null for those of the training part, sorted."""
    separator: str | None = None
    """Separator between the classes of a text, if a cell contains them as one string; null if it contains a list."""
    balance: bool = False
    """Whether to undersample the training table to the same number of rows per class, that of the rarest. Parts cut
    from it are balanced too; separate validation and test tables are unchanged."""
    stratify: bool = False
    """Whether to divide each class separately, so that all parts have the same class distribution."""

    @relation
    def _separator_suits_the_kind(self) -> Iterator[str]:
        if self.separator is not None and (
            self._kind.is_exclusive or not self._kind.fewest_labels or not self.separator
        ):
            several = _named(kind for kind in KINDS.values() if kind.fewest_labels and not kind.is_exclusive)
            yield f"separator: {self.separator!r} does not fit; it is a text between labels, for {several} alone"

    @relation
    def _labels_suit_the_kind(self) -> Iterator[str]:
        if self.labels is None:
            return
        fewest = self._kind.fewest_labels
        if not fewest:
            yield f"labels: is of no use with kind={self.kind}; leave it out"
        elif len(self._classes()) != len(self.labels) or len(self.labels) < fewest:
            yield f"labels: {self.labels} does not fit; it must be {fewest} or more different names"

    @relation
    def _sampling_suits_the_kind(self) -> Iterator[str]:
        exclusive = _named(kind for kind in KINDS.values() if kind.is_exclusive)
        for name, wanted in (("balance", self.balance), ("stratify", self.stratify)):
            if wanted and not self._kind.is_exclusive:
                yield f"{name}: is for {exclusive} alone; leave it out with kind={self.kind}"

    @property
    def _kind(self) -> LabelKind:
        return KINDS[self.kind]

    def read(self) -> Splits[LabeledText]:
        """Read and validate all rows.

        Raises:
            UserError: if a table, a column or a part is missing or empty, a row is bad, or the labels cannot be
                learned: there is only one class, there are fewer rows than classes, or the training part lacks a class.
        """
        parts = self._parts()
        if self.balance:
            parts["train"] = balanced(parts["train"], [row.label for row in parts["train"]], self.split_seed)
        splits = self._cut(parts, [row.label for row in parts["train"]] if self.stratify else None)
        if self._kind.fewest_labels:
            self._check_classes(splits)
        return splits

    def rows(self) -> list[LabeledText]:
        """Read and validate all rows of `train`, or of a single table, without a division into parts.

        Raises:
            UserError: if the table or a column is missing or empty, or a row is bad.
        """
        return self._parts()["train"]

    def _parts(self) -> dict[str, list[LabeledText]]:
        return self._load(self._row, {"text_column": self.text_column, "label_column": self.label_column}, {})

    def classes(self, training: Iterable[LabeledText]) -> tuple[str, ...]:
        """Return the class names in the order of their indices; empty for a kind without classes."""
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
        try:
            return LabeledText(text, self._kind.parse(value, self._classes(), self.separator))
        except ValueError as reason:
            raise BadRow(f"{self.label_column} {reason}") from None

    def _check_classes(self, splits: Splits[LabeledText]) -> None:
        classes, n_rows = self.classes(splits.train), len(splits.train)
        if len(classes) < self._kind.fewest_labels:
            raise UserError(
                f"data.label_column: all {n_rows} training rows have the same label, {listed(classes)}; "
                "there is nothing to learn"
            )
        if n_rows < len(classes):
            raise UserError(
                f"data.labels: there are {len(classes)} classes and only {n_rows} rows to train on; use more rows"
            )
        trained = {name for row in splits.train for name in _names(row.label)}
        for part, source, rows in (("validation", self.val, splits.val), ("test", self.test, splits.test)):
            if shown := unknown_labels(rows, trained):
                is_cut = self._kind.is_exclusive and not isinstance(source, str)
                remedy = ", or cut each class by itself with data.stratify=true" if is_cut else ""
                raise UserError(
                    f"data.label_column: the {part} part has labels that the training part lacks: {shown}; mend "
                    f"them{remedy}"
                )


def unknown_labels(rows: Iterable[LabeledText], known: Collection[str]) -> str:
    """Format the ten most frequent classes of rows that are not among the known ones, with their numbers of rows."""
    unseen = Counter(name for row in rows for name in _names(row.label) if name not in known)
    return ", ".join(f"{shortened(name)} ({n} row{'s' * (n > 1)})" for name, n in unseen.most_common(10))


def _named(kinds: Iterable[LabelKind]) -> str:
    return " or ".join(f"kind={kind.name}" for kind in kinds)


def _names(label: Label) -> tuple[str, ...]:
    """Return the classes of a label."""
    if isinstance(label, tuple):
        return label
    return (label,) if isinstance(label, str) else ()


def _sorted(names: set[str]) -> tuple[str, ...]:
    """Sort numerically if all names are integers, otherwise alphabetically."""
    try:
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    except ValueError:
        return tuple(sorted(names))
