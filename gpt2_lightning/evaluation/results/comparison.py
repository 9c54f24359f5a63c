"""Comparison of two models on a benchmark, with the items that only one of them has right."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.evaluation.results.paired import Contingency, Difference
from gpt2_lightning.evaluation.results.table import format_number, format_value

HEAD = ("benchmark", "metric", "this", "other", "difference", "95 % interval", "only this right", "only other", "p")


@dataclass(frozen=True)
class Option:
    """A choice, or an answer, as a page shows it."""

    text: str
    value: float | None = None
    """Its log-likelihood or probability; None if it is not known."""
    is_right: bool = False
    is_chosen: bool = False
    """Whether it is the model's prediction."""


@dataclass(frozen=True)
class ShownItem:
    """An item as a page shows it."""

    context: str
    options: tuple[Option, ...]


@dataclass(frozen=True)
class ChangedItem:
    """An item that only one of two models has right."""

    id: str
    this: ShownItem
    other: ShownItem
    is_this_right: bool


@dataclass(frozen=True)
class Comparison:
    """Comparison of two models on a benchmark."""

    benchmark: str
    n_items: int
    differences: tuple[Difference, ...]
    """At least one."""
    not_comparable: tuple[str, ...]
    """Names of metrics that are not comparable; see `paired.differences`."""
    changed_by: str | None
    """The metric that determines which items are right; None if there is none."""
    changed: tuple[ChangedItem, ...]
    """The items that only one model has right, in the order of the benchmark; empty if their text is not known."""


def comparison_rows(comparisons: Iterable[Comparison]) -> list[tuple[str, ...]]:
    """Return the cells below `HEAD` of all comparisons."""
    return [
        (
            comparison.benchmark,
            f"{pair.name} {'↑' if pair.this.higher_is_better else '↓'}",
            format_value(pair.this),
            format_value(pair.other),
            format_difference(pair.difference),
            format_bounds(pair.difference),
            *format_contingency(pair.contingency),
        )
        for comparison in comparisons
        for pair in comparison.differences
    ]


def format_difference(difference: Metric) -> str:
    """Format a difference with its sign, of shares in percentage points."""
    return _signed(difference.value, difference.is_share) + (" pp" if difference.is_share else "")


def format_bounds(difference: Metric) -> str:
    """Format the interval of a difference; empty where it is not defined."""
    if difference.low is None or difference.high is None:
        return ""
    low, high = (_signed(bound, difference.is_share) for bound in (difference.low, difference.high))
    return f"{low} to {high}"


def format_contingency(contingency: Contingency | None) -> tuple[str, str, str]:
    """Format the numbers of items that only one model has right, and the p-value; empty for None."""
    if contingency is None:
        return "", "", ""
    p_value = "< 0.0001" if contingency.p_value < 0.0001 else f"{contingency.p_value:.4f}"
    return f"{contingency.only_this:,}", f"{contingency.only_other:,}", p_value


def _signed(value: float, is_share: bool) -> str:
    if is_share:
        return f"{100 * value:+.2f}"
    return f"{'+' if value >= 0 else ''}{format_number(value)}"
