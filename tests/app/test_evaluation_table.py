"""Tables of `evaluate` on narrow terminals."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from gpt2_lightning.app.evaluation import table
from gpt2_lightning.evaluation.results.benchmark_result import BenchmarkResult
from gpt2_lightning.evaluation.results.metric import Metric


@pytest.mark.parametrize("columns", [50, 80, 160])
def test_no_number_is_cropped_or_lost_on_a_narrow_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    output = io.StringIO()
    console = Console(file=output, width=columns, force_terminal=True, color_system=None)
    monkeypatch.setattr(table, "wide_console", lambda _: console)
    metrics = (
        Metric("acc", 0.1234, 0.01, 0.1111, 0.2222, is_share=True),
        Metric("perplexity", 2.18e6, 1.0, 44_701.0, 1.23e8, higher_is_better=False),
    )
    result = BenchmarkResult("lambada_paper", metrics, 6, "test.jsonl", "0" * 64, {"path": None}, (), 0)

    table.print_results([result])

    printed = output.getvalue().split("lambada_paper: ")[0]
    assert max(map(len, printed.splitlines())) <= columns
    assert "…" not in printed
    for cell in ("12.34 %", "11.11 to 22.22 %", "2.18e+06", "44,701 to 1.23e+08", "GPT-2 1.5B", "63.24 %", "8.63"):
        assert printed.count(cell) == 1, cell
