"""The runs of a sweep as a picture: what they reached, against each setting that was swept."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gpt2_lightning.inspection.curves.plots import COLORS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_UNFINISHED = "#999999"
_MOST_ROWS = 12
_MOST_PANELS = 8
_MOST_TICKS = 5
_LONG = 8
"""Characters of a number."""
_LOGARITHMIC_FROM = 9.0
"""Largest value over smallest."""


@dataclass(frozen=True)
class Point:
    """A run."""

    name: str
    settings: dict[str, str]
    loss: float | None
    """The lowest validation loss, in nats per token; None where it was never validated."""
    state: str


def draw_sweep(points: Sequence[Point], keys: Sequence[str], picture: Path) -> None:
    """Write a PNG: a panel for each of the first swept keys, with the best run ringed, and the best runs as a table.

    Args:
        points: the runs, the best first.
        keys: the swept ones.
        picture: the file.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = list(keys[:_MOST_PANELS])
    columns = max(1, min(2, len(shown)))
    rows = math.ceil(len(shown) / columns)
    height = 0.6 + 0.25 * min(len(points), _MOST_ROWS)
    size = (max(6.5, 5.0 * columns), 3.2 * rows + height)
    figure = Figure(figsize=size, dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows + 1, columns, height_ratios=[*[3.2] * rows, height])
    for number, key in enumerate(shown):
        _draw_panel(figure.add_subplot(grid[number // columns, number % columns]), points, key)
    _draw_table(figure.add_subplot(grid[rows, :]), points[:_MOST_ROWS], shown)
    figure.savefig(picture, format="png")


def short(value: str) -> str:
    """A value with at most four digits where it is a fraction that has more."""
    number = _number(value)
    return value if number is None or number.is_integer() or len(value) < _LONG else f"{number:.4g}"


def _draw_panel(axes: Axes, points: Sequence[Point], key: str) -> None:
    reached = [(p.settings[key], p.loss, p.state) for p in points if key in p.settings and p.loss is not None]
    values = list(dict.fromkeys(p.settings[key] for p in points if key in p.settings))
    numbers = [_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    if len(known) == len(values):
        places = dict(zip(values, known, strict=True))
        if known and min(known) > 0 and max(known) / min(known) >= _LOGARITHMIC_FROM:
            axes.set_xscale("log")
        else:
            axes.locator_params("x", nbins=5)
    else:
        places = {value: float(number) for number, value in enumerate(sorted(values))}
        axes.margins(x=0.2)
    if len(known) < len(values) or len(values) <= _MOST_TICKS:
        axes.set_xticks(list(places.values()), [_literally(value) for value in places])
        axes.minorticks_off()
    x, y = [places[value] for value, _, _ in reached], [loss for _, loss, _ in reached]
    axes.scatter(x, y, s=16, c=[COLORS[0] if state == "done" else _UNFINISHED for _, _, state in reached], zorder=2)
    if reached:
        best = int(np.argmin(y))
        axes.plot(x[best], y[best], "o", mfc="none", mec="black", markersize=9)
    axes.set(xlabel=key, ylabel="best validation loss")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_table(axes: Axes, points: Sequence[Point], keys: Sequence[str]) -> None:
    axes.axis("off")
    if not points:
        return
    cells = [
        [p.name, *(short(p.settings.get(key, "")) for key in keys), "" if p.loss is None else f"{p.loss:.4f}", p.state]
        for p in points
    ]
    head = ["run", *keys, "best validation loss", "state"]
    literally = [[_literally(cell) for cell in row] for row in (head, *cells)]
    table = axes.table(cellText=literally[1:], colLabels=literally[0], loc="center", cellLoc="left", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.auto_set_column_width(list(range(len(head))))


def _literally(text: str) -> str:
    """A text in which dollars are no formula."""
    return text.replace("$", r"\$")


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
