"""Tables of results and comparisons on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from rich.cells import cell_len
from rich.table import Table
from rich.text import Text

from gpt2_lightning.app.output.terminal import wide_console
from gpt2_lightning.evaluation.results import comparison
from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult
from gpt2_lightning.evaluation.results.comparison import Comparison, comparison_rows
from gpt2_lightning.evaluation.results.table import HEAD, notes, rows

_LEFT = 2
"""Number of columns that are aligned on the left."""
_GAP = 2
"""Number of spaces between columns."""
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
    """Print a table, without columns that are empty.

    Columns that the terminal has no room for follow in further tables, since cropped numbers cannot be read.
    """
    console = wide_console(_WIDEST)
    widths = [max(map(cell_len, column)) for column in zip(head, *lines, strict=True)]
    groups: list[list[int]] = [[]]
    for column in range(_LEFT, len(head)):
        if not any(line[column] for line in lines):
            continue
        shown = [*range(_LEFT), *groups[-1], column]
        if groups[-1] and sum(widths[i] + _GAP for i in shown) - _GAP > console.width:
            groups.append([])
        groups[-1].append(column)
    for group in groups:
        table = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim")
        for column in (*range(_LEFT), *group):
            justify: Literal["left", "right"] = "left" if column < _LEFT else "right"
            table.add_column(head[column], justify=justify, overflow="fold")
        for line, is_main in zip(lines, are_main, strict=True):
            if any(line[column] for column in group):
                cells = (Text(line[column]) for column in (*range(_LEFT), *group))
                table.add_row(*cells, style="bold" if is_main else "")
        if group is not groups[0]:
            console.print()
        console.print(table)
