"""Table of results on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from gpt2_lightning.app.output.terminal import wide_console
from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult
from gpt2_lightning.evaluation.results.rows import HEAD, notes, rows

_LEFT = 2
"""Number of columns that are aligned on the left."""
_WIDEST = 160


def print_results(results: Sequence[BenchmarkResult]) -> None:
    """Print all metrics with intervals, beside OpenAI's GPT-2, and notes below them."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    lines = rows(results)
    used = [column for column in range(len(HEAD)) if any(line.cells[column] for line in lines)]
    for column in used:
        table.add_column(HEAD[column], justify="left" if column < _LEFT else "right", no_wrap=True)
    for line in lines:
        table.add_row(*(Text(line.cells[column]) for column in used), style="bold" if line.is_main else "")
    console = wide_console(_WIDEST)
    console.print(table)
    for note in notes(results):
        console.print(Text(note, style="dim"), soft_wrap=True)
