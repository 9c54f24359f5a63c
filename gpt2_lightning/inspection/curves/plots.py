"""Plots of curves as PNG, SVG or PDF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2_lightning.inspection.curves.panels import Line, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5C00")
"""Distinguishable with color vision deficiency (Okabe and Ito 2008), except for the last."""
_OTHERS = "#B0B0B0"
_DOTS_UP_TO = 40
_THOUSANDS_FROM = 10_000


def draw(panels: Sequence[Panel], labels: Sequence[str], title: str, picture: Path, format_: str) -> None:
    """Plot panels of curves.

    A single run has one color for training and one for validation. Of several runs, the first have a color each, with
    thin lines for training and thick lines for validation; the rest are gray.

    Args:
        panels: at least one.
        labels: a name for each run.
        title: of the figure.
        picture: the file to write.
        format_: png, svg or pdf.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 1 if len(panels) == 1 else 2
    rows = math.ceil(len(panels) / columns)
    size = (7, 4.2) if len(panels) == 1 else (6 * columns, 3.6 * rows)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, place + 1)
        _draw_panel(axes, panel, len(labels))
    figure.suptitle(escape_mathtext(title), fontsize="large")
    if len(labels) > 1:
        _add_legend(figure, labels, panels)
    dates = {"png": {}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
    with matplotlib.rc_context({"svg.hashsalt": "the same file each time"}):
        figure.savefig(picture, format=format_, metadata=dates[format_])


def _draw_panel(axes: Axes, panel: Panel, runs: int) -> None:
    from matplotlib.ticker import EngFormatter

    for line in sorted(panel.lines, key=lambda line: (-line.run, line.part == "val")):  # the first runs on top
        _draw_line(axes, line, runs)
    _mark_best(axes, panel)
    axes.set(xlabel=panel.x_label, ylabel=panel.label)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        if max(map(abs, axis.get_view_interval())) >= _THOUSANDS_FROM:
            axis.set_major_formatter(EngFormatter(sep=""))
    if runs == 1 and any(line.part for line in panel.lines):
        axes.legend(frameon=False)


def _draw_line(axes: Axes, line: Line, runs: int) -> None:
    number = line.run if runs > 1 else int(line.part == "val")
    values = line.y if line.smoothed is None else line.smoothed
    if number >= len(COLORS):
        axes.plot(line.x, values, color=_OTHERS, linewidth=0.5, alpha=0.4, marker="" if len(line.x) > 1 else ".")
        return
    if line.smoothed is not None:
        axes.plot(line.x, line.y, color=COLORS[number], linewidth=0.7, alpha=0.25)
    validates = line.part == "val"
    axes.plot(
        line.x,
        values,
        color=COLORS[number],
        linewidth=1.7 if validates else 1.2 if runs == 1 else 0.9,
        marker="o" if len(line.x) == 1 or (validates and len(line.x) <= _DOTS_UP_TO) else "",
        markersize=4 if runs == 1 else 3,
        label={"train": "training", "val": "validation", "": ""}[line.part],
    )


def _mark_best(axes: Axes, panel: Panel) -> None:
    """Mark the best point of each colored run, and annotate the best of all."""
    found = [(line, line.best) for line in panel.lines if line.best is not None and line.run < len(COLORS)]
    for line, best in found:
        axes.plot(line.x[best], line.y[best], "o", mfc="none", mec="black", markersize=8, markeredgewidth=1)
    if not found:
        return
    line, best = min(found, key=lambda pair: pair[0].y[pair[1]])
    start, end = axes.get_xlim()
    axes.annotate(
        f"best {line.y[best]:.4g} at {line.x[best]:,.4g} {panel.x_label}".replace("optimizer ", ""),
        (line.x[best], line.y[best]),
        xytext=(0, 28),
        textcoords="offset points",
        ha="right" if line.x[best] > (start + end) / 2 else "left",
        arrowprops={"arrowstyle": "-", "color": "#666666"},
        bbox={"boxstyle": "square,pad=0.15", "color": "white", "alpha": 0.75},
    )


def _add_legend(figure: Figure, labels: Sequence[str], panels: Sequence[Panel]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, label=escape_mathtext(label)) for color, label in zip(COLORS, labels, strict=False)
    ]
    if len(labels) > len(COLORS):
        handles.append(Line2D([], [], color=_OTHERS, label=f"{len(labels) - len(COLORS)} more runs"))
    parts = {line.part for panel in panels for line in panel.lines}
    if parts >= {"train", "val"}:
        handles.append(Line2D([], [], color="#444444", linewidth=0.9, label="thin: training"))
        handles.append(
            Line2D([], [], color="#444444", linewidth=1.7, marker="o", markersize=3, label="thick: validation")
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=1 if len(panels) == 1 else 2, frameon=False)


def escape_mathtext(text: str) -> str:
    """Escape `$` for mathtext."""
    return text.replace("$", r"\$")
