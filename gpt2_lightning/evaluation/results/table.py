"""Rows of a table of results, for the console and for Markdown."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult
from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.evaluation.results.published import SIZES, Published, published

HEAD = ("benchmark", "metric", "value", "95 % interval", *(f"GPT-2 {size}" for size in SIZES))


@dataclass(frozen=True)
class Row:
    """A metric of a benchmark, formatted."""

    benchmark: str
    metric: str
    """Name with an arrow towards better values."""
    value: str
    interval: str
    """Empty where it is not defined."""
    openai: tuple[str, ...]
    """Published values of OpenAI's GPT-2 by size, each empty where there is none."""
    is_main: bool
    """Whether this is the first metric of its benchmark."""

    @property
    def cells(self) -> tuple[str, ...]:
        """The cells below `HEAD`."""
        return (self.benchmark, self.metric, self.value, self.interval, *self.openai)


def rows(results: Iterable[BenchmarkResult]) -> list[Row]:
    """Return a row for each metric, beside the published values of metrics with the same definition."""
    return [
        Row(
            result.name,
            f"{metric.name} {'↑' if metric.higher_is_better else '↓'}",
            format_value(metric),
            format_interval(metric),
            tuple(_published(published(result, metric.name), size, metric.is_share) for size in SIZES),
            number == 0,
        )
        for result in results
        for number, metric in enumerate(result.metrics)
    ]


def notes(results: Iterable[BenchmarkResult]) -> list[str]:
    """Return the sentences below a table: items, data, and the sources of published values."""
    found = []
    for result in results:
        cut = f", {result.n_cut:,} of them longer than the context and cut" if result.n_cut else ""
        sentences = [f"{result.n_items:,} items{cut}; {result.source}", *result.notes]
        for metric in result.metrics:
            if (known := published(result, metric.name)) is not None:
                sentences.append(f"{metric.name} of OpenAI's GPT-2: {known.definition}. {known.source}")
        found += [f"{result.name}: {sentence}" for sentence in sentences]
    return found


def format_value(metric: Metric) -> str:
    """Format a value, shares in percent."""
    return f"{100 * metric.value:.2f} %" if metric.is_share else format_number(metric.value)


def format_interval(metric: Metric) -> str:
    """Format the 95 % interval; empty where it is not defined."""
    if metric.low is None or metric.high is None:
        return ""
    if metric.is_share:
        return f"{100 * metric.low:.2f} to {100 * metric.high:.2f} %"
    return f"{format_number(metric.low)} to {format_number(metric.high)}"


def format_number(value: float) -> str:
    """Format a number with four decimals below 10, two below 10,000, and in powers of ten from a million on."""
    size = abs(value)
    if size >= 1e6:
        return f"{value:.3g}"
    return f"{value:,.0f}" if size >= 1e4 else f"{value:,.2f}" if size >= 10 else f"{value:.4f}"


def _published(known: Published | None, size: str, is_share: bool) -> str:
    if known is None or size not in known.values:
        return ""
    return f"{known.values[size]:.2f}{' %' if is_share else ''}"
