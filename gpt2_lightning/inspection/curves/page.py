"""Curves as a self-contained HTML page."""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from gpt2_lightning.html_pages.join import embedded_json, fill
from gpt2_lightning.inspection.curves.panels import Line, Panel
from gpt2_lightning.inspection.curves.runs import Run
from gpt2_lightning.inspection.curves.smoothing import Floats
from gpt2_lightning.inspection.curves.table import group_labels, labels, tabulate

_HERE = Path(__file__).parent


def write_page(panels: Sequence[Panel], runs: Sequence[Run], title: str, page: Path) -> None:
    """Write the page; text from runs is escaped.

    Args:
        panels: the charts of the runs.
        runs: in the order of colors.
        title: of the page.
        page: the file to write.
    """
    table = tabulate(runs)
    data = {
        "groups": group_labels(runs),
        "head": table.head,
        "isNumeric": table.is_numeric,
        "runs": [
            {
                "name": row.name,
                "group": run.group,
                "label": label,
                "cells": row.cells,
                "values": [_finite(value) for value in row.values],
            }
            for run, row, label in zip(runs, table.rows, labels(runs), strict=True)
        ],
        "panels": [
            {"label": panel.label, "xLabel": panel.x_label, "lines": [_plain(line) for line in panel.lines]}
            for panel in panels
        ],
    }
    parts = {"title": html.escape(title), "script": _read("page.js"), "data": embedded_json(data)}
    page.write_text(fill(_read("page.html"), parts), encoding="utf-8", errors="replace")


def _plain(line: Line) -> dict[str, Any]:
    smoothed = None if line.smoothed is None else _numbers(line.smoothed)
    return {
        "run": line.run,
        "role": line.role,
        "part": line.part,
        "x": _numbers(line.x),
        "y": _numbers(line.y),
        "s": smoothed,
        "best": line.best,
    }


def _numbers(values: Floats) -> list[float | None]:
    """Round to seven digits; NaN becomes null, since JSON does not represent it."""
    return [_finite(float(f"{value:.7g}")) for value in values.tolist()]


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not np.isfinite(value) else value


def _read(name: str) -> str:
    return (_HERE / name).read_text(encoding="utf-8")
