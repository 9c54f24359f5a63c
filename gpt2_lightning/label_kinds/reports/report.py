"""A report as Markdown, with its plots beside it."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from gpt2_lightning.label_kinds.reports.intervals import RESAMPLES, Estimate

FILE = "report.md"
MISTAKES = 20
"""Errors that a report shows."""
_LONGEST_TEXT = 300
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


@dataclass(frozen=True)
class Mistake:
    """A text with a wrong prediction."""

    text: str
    label: str
    answer: str
    size: float
    """The probability of the wrong prediction; of several classes, of the surest wrong one. For numbers the
    distance."""


@dataclass(frozen=True)
class Report(ABC):
    """Evaluation of the predictions for one part of a table."""

    rows: int
    headline: dict[str, Estimate]
    """The most important metrics by key, each with its interval."""
    names: Mapping[str, str]
    """Their display names."""

    @abstractmethod
    def sections(self, folder: Path) -> list[str]:
        """Draw the plots into a folder.

        Returns:
            The lines of the page below its title.
        """

    def write(self, title: str, folder: Path) -> Path:
        """Write `report.md` and its plots into a folder that exists; files of the same names are replaced.

        Args:
            title: what was evaluated on what.
            folder: where it goes.

        Returns:
            The Markdown file.
        """
        file = folder / FILE
        file.write_text("\n".join([f"# {literally(title)}", "", *self.sections(folder)]) + "\n", encoding="utf-8")
        return file

    def headline_table(self, more: list[list[str]]) -> list[str]:
        """The headline metrics, and more rows of name, value and interval."""
        found = [
            [self.names[key], number(estimate.value), f"{number(estimate.low)} to {number(estimate.high)}"]
            for key, estimate in self.headline.items()
        ]
        source = f"{self.rows:,} rows. Intervals are of {RESAMPLES:,} bootstrap draws of these rows."
        return [source, "", *table(["", "figure", "95 % interval"], [*found, *more])]


def mistakes_table(mistakes: Sequence[Mistake], size: str) -> list[str]:
    """A row for each mistake.

    Args:
        mistakes: in the order in which they are shown.
        size: the name of `Mistake.size`.
    """
    if not mistakes:
        return ["None."]
    return table(
        [size, "label", "answer", "text"],
        ([number(m.size), *map(literally, (m.label, m.answer, m.text))] for m in mistakes),
    )


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """The lines of a Markdown table."""
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def number(value: float) -> str:
    """Four decimals; a dash for NaN."""
    return "–" if math.isnan(value) else f"{value:.4f}"


def literally(text: str) -> str:
    """Escape Markdown, put a text on one line and cut it at 300 characters."""
    line = " ".join(text.split())
    line = line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 1]}…"
    return _MARKUP.sub(r"\\\1", line)
