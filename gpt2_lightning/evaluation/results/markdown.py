"""The page of an evaluation, `results.md`."""

from __future__ import annotations

from gpt2_lightning.evaluation.results.plot import FILE as PLOT
from gpt2_lightning.evaluation.results.results_file import Results
from gpt2_lightning.evaluation.results.table import HEAD, notes, rows
from gpt2_lightning.label_kinds.reports.report import literally, table

FILE = "results.md"


def results_page(results: Results) -> str:
    """Render the results as Markdown."""
    model, found = results.model, list(results.benchmarks.values())
    step = "" if model.step is None else f", step {model.step:,}"
    return "\n".join(
        [
            f"# Results of {literally(model.location)}",
            "",
            f"{model.parameters:,} parameters, context of {model.block_size:,} tokens{step}. "
            f"SHA-256 of the weights: `{model.weights[:16]}`.",
            "",
            *results_table(results),
            "",
            f"![Results with 95 % intervals]({PLOT})",
            "",
            *(f"- {literally(note)}" for note in notes(found)),
            "",
        ]
    )


def results_table(results: Results) -> list[str]:
    """Return the lines of the table of all metrics, without columns that are empty."""
    lines = [row.cells for row in rows(results.benchmarks.values())]
    used = [column for column, name in enumerate(HEAD) if any(line[column] for line in lines)]
    return table([HEAD[column] for column in used], ([line[column] for column in used] for line in lines))
