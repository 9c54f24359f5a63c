"""Plots of curves as PNG, SVG or PDF."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gpt2_lightning.inspection.curves.panels import Line, Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5C00")
"""Distinguishable with color vision deficiency (Okabe and Ito 2008), except for the last."""
DASHES: tuple[tuple[float, Sequence[float]] | Literal["-"], ...]
DASHES = ("-", (0, (5, 2)), (0, (1.5, 1.5)), (0, (7, 2, 1.5, 2)), (0, (12, 3)))
"""Line styles, in points; the first groups of runs have the first, as many as there are colors."""
_STYLES = len(COLORS) * len(DASHES)
GENERATOR = "gpt2-lightning plot"
"""Stated in the metadata of each file, so that it is known as one that may be replaced."""
_OTHERS = "#B0B0B0"
_METADATA_WITHIN = 16_384
"""Bytes at the start and the end of a file."""
_DOTS_UP_TO = 40
_THOUSANDS_FROM = 10_000


def draw(panels: Sequence[Panel], labels: Sequence[str], title: str, picture: Path, format_: str) -> None:
    """Plot panels of curves.

    A single group of runs has one color for training and one for validation. Of several, each has a color and a line
    style, with thin lines for training and thick lines for validation; those beyond `_STYLES` are gray. Runs of a group
    are faint behind their mean.

    Args:
        panels: at least one.
        labels: a name for each group of runs that differ only by seed.
        title: of the figure.
        picture: the file to write.
        format_: png, svg or pdf.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = 1 if len(panels) == 1 else 2
    rows = math.ceil(len(panels) / columns)
    size = (7.0, 4.2) if len(panels) == 1 else (6.0 * columns, 3.6 * rows)
    if len(labels) > len(COLORS):  # room for the legend
        size = (size[0], size[1] + 0.2 * math.ceil((min(len(labels), _STYLES) - len(COLORS)) / columns))
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    for place, panel in enumerate(panels):
        axes = figure.add_subplot(rows, columns, place + 1)
        _draw_panel(axes, panel, len(labels))
    figure.suptitle(escape_mathtext(title), fontsize="large")
    if len(labels) > 1:
        _add_legend(figure, labels, panels)
    metadata = {
        "png": {"Software": GENERATOR},
        "svg": {"Creator": GENERATOR, "Date": None},
        "pdf": {"Creator": GENERATOR, "CreationDate": None},
    }
    with matplotlib.rc_context({"svg.hashsalt": "the same file each time"}):
        figure.savefig(picture, format=format_, metadata=metadata[format_])


def _draw_panel(axes: Axes, panel: Panel, groups: int) -> None:
    from matplotlib.ticker import EngFormatter

    order = sorted(panel.lines, key=lambda line: (-line.group, line.role != "seed", line.part == "val"))
    for line in order:  # the first groups on top
        _draw_line(axes, line, groups)
    _mark_best(axes, panel)
    axes.set(xlabel=panel.x_label, ylabel=panel.label)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        if max(map(abs, axis.get_view_interval())) >= _THOUSANDS_FROM:
            axis.set_major_formatter(EngFormatter(sep=""))
    if groups == 1 and any(line.part for line in panel.lines):
        axes.legend(frameon=False)


def _draw_line(axes: Axes, line: Line, groups: int) -> None:
    values = line.y if line.smoothed is None else line.smoothed
    if groups > 1 and line.group >= _STYLES:
        axes.plot(line.x, values, color=_OTHERS, linewidth=0.5, alpha=0.4, marker="" if len(line.x) > 1 else ".")
        return
    color = COLORS[line.group % len(COLORS) if groups > 1 else {"val": 1, "eval": 2}.get(line.part, 0)]
    if line.role == "seed":
        axes.plot(line.x, values, color=color, linewidth=0.7, alpha=0.3, marker="" if len(line.x) > 1 else ".")
        return
    if line.smoothed is not None:
        axes.plot(line.x, line.y, color=color, linewidth=0.7, alpha=0.25)
    validates = line.part == "val"
    axes.plot(
        line.x,
        values,
        color=color,
        linestyle=DASHES[line.group // len(COLORS)],
        linewidth=1.7 if validates else 1.2 if groups == 1 else 0.9,
        marker="o" if len(line.x) == 1 or (validates and len(line.x) <= _DOTS_UP_TO) else "",
        markersize=4 if groups == 1 else 3,
        label={"train": "training", "eval": "training, evaluated", "val": "validation", "": ""}[line.part],
    )


def _mark_best(axes: Axes, panel: Panel) -> None:
    """Mark the best point of each run or mean with a color, and annotate the best of all."""
    found = [(line, line.best) for line in panel.lines if line.best is not None and line.group < _STYLES]
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

    styles = [(color, dashes) for dashes in DASHES for color in COLORS]
    handles = [
        Line2D([], [], color=color, linestyle=dashes, label=escape_mathtext(label))
        for (color, dashes), label in zip(styles, labels, strict=False)
    ]
    if len(labels) > _STYLES:
        handles.append(Line2D([], [], color=_OTHERS, label=f"{len(labels) - _STYLES} more"))
    parts = {line.part for panel in panels for line in panel.lines}
    if parts >= {"train", "val"}:
        handles.append(Line2D([], [], color="#444444", linewidth=0.9, label="thin: training"))
        handles.append(
            Line2D([], [], color="#444444", linewidth=1.7, marker="o", markersize=3, label="thick: validation")
        )
    figure.legend(handles=handles, loc="outside lower center", ncols=1 if len(panels) == 1 else 2, frameon=False)


def is_drawn(file: Path) -> bool:
    """Whether a file is a picture or a page of this package, by its metadata, which a PDF has at its end."""
    if not file.is_file():
        return False
    with file.open("rb") as opened:
        start = opened.read(_METADATA_WITHIN)
        opened.seek(max(0, file.stat().st_size - _METADATA_WITHIN))
        return GENERATOR.encode() in start + opened.read(_METADATA_WITHIN)


def escape_mathtext(text: str) -> str:
    """Escape `$` for mathtext."""
    return text.replace("$", r"\$")
