"""Interface of benchmarks."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from gpt2_lightning.evaluation.results.comparison import ShownItem
from gpt2_lightning.evaluation.results.item_log import ItemRecord
from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.evaluation.subject import Subject as Subject

Content = TypeVar("Content")


@dataclass(frozen=True)
class Item:
    """One item of a benchmark: a question, a document or a part of it, a labeled text."""

    id: str
    """Stable name, such as the number of the row, by which evaluations are resumed and compared."""
    content: Any
    """What the benchmark needs for its record."""


@dataclass(frozen=True)
class Items:
    """All items of a benchmark, and where they came from."""

    items: Sequence[Item]
    source: str
    """The file or data set, for people."""
    digest: str
    """SHA-256 of the data. An interrupted evaluation continues only with equal data and settings."""
    notes: tuple[str, ...] = ()
    """What differs from the published benchmark, one sentence each: another file, fewer rows, …"""


class Benchmark(ABC):
    """A measurement of a model: items, a record for each of them, and metrics over all records.

    Subclasses are frozen dataclasses of settings with annotated ranges, as all targets of a configuration.
    """

    @abstractmethod
    def items(self, subject: Subject, data_dir: Path | None) -> Items:
        """Read the items.

        Args:
            subject: the model, for its tokenizer and context.
            data_dir: a folder with a folder for each benchmark; None to fetch the data.

        Raises:
            UserError: if the data is absent or invalid, or if the model cannot be measured by this benchmark.
        """

    @abstractmethod
    def records(self, subject: Subject, items: Sequence[Item]) -> Iterator[ItemRecord]:
        """Measure items, in any order; a record is yielded as soon as it is known.

        Raises:
            UserError: if logits are NaN.
        """

    @abstractmethod
    def metrics(self, records: Sequence[ItemRecord]) -> list[Metric]:
        """Compute the metrics over the records of all items, in the order of the items; the first is the main one."""

    def shown(self, record: ItemRecord, metric: str) -> ShownItem | None:
        """Return an item for the page of a comparison.

        Args:
            record: the record of the item.
            metric: the metric by which it is right or wrong.

        Returns:
            The item; by default None, for benchmarks whose records have no text.
        """
        return None

    def write_report(self, records: Sequence[ItemRecord], folder: Path) -> list[Path]:
        """Write further files, such as a page with plots, for benchmarks of which metrics do not say all.

        Args:
            records: the records of all items, in their order.
            folder: existing folder, of this benchmark alone.

        Returns:
            The files, the first of them for people to open; by default, none.
        """
        return []


def evenly_spaced(items: Sequence[Content], limit: int | None) -> list[Content]:
    """Return `limit` of the items, evenly spaced from the first on; all of them if there are no more, or for None."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[number * len(items) // limit] for number in range(limit)]
