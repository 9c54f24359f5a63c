"""Tables of results and comparisons on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from gpt2_lightning.app.output.terminal import wide_console
from gpt2_lightning.evaluation.results import comparison
from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult
from gpt2_lightning.evaluation.results.comparison import Comparison, comparison_rows
from gpt2_lightning.evaluation.results.rows import HEAD, notes, rows

_LEFT = 2
"""Number of columns that are aligned on the left."""
_WIDEST = 160


def print_results(results: Sequence[BenchmarkResult]) -> None:
    """Print all metrics with intervals, beside OpenAI's GPT-2, and notes below them."""
    lines = rows(results)
    _print(HEAD, [line.cells for line in lines], [line.is_main for line in lines])
    console = wide_console(_WIDEST)
    for note in notes(results):
        console.print(Text(note, style="dim"), soft_wrap=True)


def print_comparisons(comparisons: Sequence[Comparison], other: str) -> None:
    """Print the differences of all metrics to another model.

    Args:
        comparisons: comparisons with the other model.
        other: display name of the other model.
    """
    print(f"\ncompared with {other}, on the same items:")
    lines = comparison_rows(comparisons)
    _print(comparison.HEAD, lines, [False] * len(lines))
    for one in comparisons:
        if one.not_comparable:
            names = ", ".join(one.not_comparable)
            print(f"{one.benchmark}: {names}: not comparable item by item between these models")


def _print(head: Sequence[str], lines: Sequence[Sequence[str]], are_main: Sequence[bool]) -> None:
    """Print a table, without columns that are empty."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    used = [column for column in range(len(head)) if any(line[column] for line in lines)]
    for column in used:
        table.add_column(head[column], justify="left" if column < _LEFT else "right", no_wrap=True)
    for line, is_main in zip(lines, are_main, strict=True):
        table.add_row(*(Text(line[column]) for column in used), style="bold" if is_main else "")
    wide_console(_WIDEST).print(table)
