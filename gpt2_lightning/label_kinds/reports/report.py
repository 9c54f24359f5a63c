"""Reports as Markdown with plots."""

from __future__ import annotations

import functools
import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from gpt2_lightning.atomic import write_text
from gpt2_lightning.bootstrap import RESAMPLES, Estimate, Statistic, Sums, estimate

FILE = "report.md"
MISTAKES = 20
"""Number of errors that a report lists."""
_LONGEST_TEXT = 300
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


@dataclass(frozen=True)
class Mistake:
    """A text with a wrong prediction."""

    text: str
    label: str
    answer: str
    size: float
    """Probability of the wrong prediction, for several classes the highest one of a wrong prediction; for numbers the
    absolute error."""


@dataclass(frozen=True)
class Report(ABC):
    """Evaluation of the predictions on one part of a table."""

    rows: int
    columns: Sums
    """Summands of the headline metrics for each of the N rows, (N, M). Of kinds with classes, the first is whether all
    of a row is correct."""
    statistics: Mapping[str, Statistic]
    """Headline metrics by key, as functions of the sums of the columns."""
    names: Mapping[str, str]
    """Display names of the headline metrics, by key."""
    linear: Report | None = field(default=None, kw_only=True)
    """Evaluation of a linear baseline on the same rows; None without one."""

    errors: ClassVar[frozenset[str]] = frozenset()
    """Keys of the metrics of which lower values are better."""
    shares: ClassVar[frozenset[str]] = frozenset()
    """Keys of the metrics from 0 to 1 that tables state in percent."""

    @functools.cached_property
    def headline(self) -> dict[str, Estimate]:
        """Headline metrics with confidence intervals, by key."""
        return estimate(self.columns, self.statistics)

    @property
    def further(self) -> dict[str, float]:
        """Metrics without a confidence interval, by key."""
        return {}

    @abstractmethod
    def sections(self, folder: Path) -> list[str]:
        """Draw the plots into a folder.

        Returns:
            The lines of the report below its title.
        """

    def write(self, title: str, folder: Path) -> Path:
        """Write `report.md` and its plots; existing files are replaced.

        Args:
            title: title of the report, the model and the data.
            folder: existing folder.

        Returns:
            Path of the Markdown file.
        """
        file = folder / FILE
        write_text(file, "\n".join([f"# {literally(title)}", "", *self.sections(folder)]) + "\n")
        return file

    def headline_table(self, more: list[list[str]]) -> list[str]:
        """Return a table of the headline metrics, followed by the given rows of name, value and interval."""
        found = [[self.names[key], *_cells(estimate)] for key, estimate in self.headline.items()]
        source = f"{self.rows:,} rows. Intervals are of {RESAMPLES:,} bootstrap draws of these rows."
        columns = ["", "figure", "95 % interval"]
        if self.linear:
            found = [[*row, *_cells(self.linear.headline[key])] for row, key in zip(found, self.headline, strict=True)]
            more = [[*row, "", ""] for row in more]
            columns += ["linear model of TF-IDF features", "95 % interval"]
        return [source, "", *table(columns, [*found, *more])]


def _cells(estimate: Estimate) -> list[str]:
    return [number(estimate.value), f"{number(estimate.low)} to {number(estimate.high)}"]


def mistakes_table(mistakes: Sequence[Mistake], size: str) -> list[str]:
    """Return a table of mistakes.

    Args:
        mistakes: mistakes in the order of the table.
        size: column name of `Mistake.size`.
    """
    if not mistakes:
        return ["None."]
    return table(
        [size, "label", "answer", "text"],
        ([number(m.size), *map(literally, (m.label, m.answer, m.text))] for m in mistakes),
    )


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def number(value: float) -> str:
    """Format a number with four decimals; NaN as a dash."""
    return "–" if math.isnan(value) else f"{value:.4f}"


def literally(text: str) -> str:
    """Escape Markdown, join the lines of a text, and truncate it to 300 characters."""
    line = " ".join(text.split())
    line = line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 1]}…"
    return _MARKUP.sub(r"\\\1", line)
