"""A report as Markdown, with its pictures beside it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from gpt2_lightning.evaluation.classification.calibration import BINS
from gpt2_lightning.evaluation.classification.intervals import RESAMPLES, Estimate
from gpt2_lightning.evaluation.classification.plots import (
    draw_confusion,
    draw_curves,
    draw_reliability,
    draw_scatter,
)
from gpt2_lightning.evaluation.classification.regression import RegressionReport
from gpt2_lightning.evaluation.classification.report import ClassificationReport, Mistake

FILE = "report.md"
NAMES = {
    "accuracy": "accuracy",
    "exact_match": "exact match of all classes",
    "macro_f1": "macro F1",
    "mae": "mean absolute error",
    "rmse": "root mean square error",
    "pearson": "Pearson correlation",
}
"""What headline figures are called."""
_LONGEST_TEXT = 300
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~$&!])")


def write_report(report: ClassificationReport | RegressionReport, title: str, folder: Path) -> Path:
    """Write `report.md` and its pictures into a folder that exists; files of the same names are replaced.

    Args:
        report: the figures.
        title: what was measured on what.
        folder: where it goes.

    Returns:
        The Markdown file.
    """
    parts = [f"# {_literally(title)}", ""]
    if isinstance(report, RegressionReport):
        parts += _regression(report, folder)
    else:
        parts += _classification(report, folder)
    file = folder / FILE
    file.write_text("\n".join(parts) + "\n", encoding="utf-8")
    return file


def _classification(report: ClassificationReport, folder: Path) -> list[str]:
    answer, share = report.baseline
    more = [
        ["AUROC, mean over the classes", _figure(report.auroc), ""],
        [f"expected calibration error, {BINS} bins", _figure(report.calibration.error), ""],
        [f"always answering {_literally(answer)}", _figure(share), ""],
    ]
    lines = [*_headline(report.rows, report.headline, more), "", "## Classes", ""]
    lines += _table(
        ["class", "rows", "precision", "recall", "F1", "AUROC"],
        (
            [_literally(c.label), f"{c.rows:,}", *map(_figure, (c.precision, c.recall, c.f1, c.auroc))]
            for c in report.classes
        ),
    )
    if report.confusion is not None:
        draw_confusion(report.confusion, [c.label for c in report.classes], folder / "confusion.png")
        lines += ["", "![Confusion matrix](confusion.png)"]
    draw_reliability(report.calibration, folder / "reliability.png")
    lines += ["", "## Calibration", "", "![Reliability diagram](reliability.png)"]
    if report.curves:
        areas = {c.label: c.auroc for c in report.classes}
        draw_curves(report.curves, [areas[curve.label] for curve in report.curves], folder / "roc.png")
        lines += ["", "## Receiver operating characteristic", "", "![ROC curves](roc.png)"]
    return [*lines, "", "## Surest errors", "", *_mistakes(report.mistakes, "probability")]


def _regression(report: RegressionReport, folder: Path) -> list[str]:
    median, distance = report.baseline
    more = [[f"mean absolute error of always answering the median, {median:g}", _figure(distance), ""]]
    draw_scatter(report.true, report.answers, folder / "scatter.png")
    return [
        *_headline(report.rows, report.headline, more),
        *["", "![Answers against labels](scatter.png)", "", "## Largest errors", ""],
        *_mistakes(report.mistakes, "distance"),
    ]


def _headline(rows: int, figures: dict[str, Estimate], more: list[list[str]]) -> list[str]:
    found = [
        [NAMES[name], _figure(estimate.value), f"{_figure(estimate.low)} to {_figure(estimate.high)}"]
        for name, estimate in figures.items()
    ]
    source = f"{rows:,} rows. Intervals are of {RESAMPLES:,} bootstrap draws of these rows."
    return [source, "", *_table(["", "figure", "95 % interval"], [*found, *more])]


def _mistakes(mistakes: Sequence[Mistake], size: str) -> list[str]:
    if not mistakes:
        return ["None."]
    return _table(
        [size, "label", "answer", "text"],
        ([_figure(m.size), *map(_literally, (m.label, m.answer, m.text))] for m in mistakes),
    )


def _table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


def _figure(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:.4f}"


def _literally(text: str) -> str:
    """A text in which no character is Markdown, on one line."""
    line = " ".join(text.split())
    line = line if len(line) <= _LONGEST_TEXT else f"{line[: _LONGEST_TEXT - 1]}…"
    return _MARKUP.sub(r"\\\1", line)
