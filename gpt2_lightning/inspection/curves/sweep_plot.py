"""Plot of a sweep: the best value of its objective against each swept setting."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from gpt2_lightning.atomic import replacing
from gpt2_lightning.inspection.curves.plots import COLORS, escape_mathtext

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_UNFINISHED = "#999999"
_MOST_ROWS = 12
_MOST_PANELS = 8
_MOST_TICKS = 5
_LEAST_GAP = 0.15
"""Smallest distance between labeled values, as a share of the axis."""
_LONG_LABELS = 32
"""Characters of all labels from which they are slanted."""
_LONG = 8
"""Characters from which a fraction is rounded."""
_LOGARITHMIC_FROM, _POWERS_FROM = 9.0, 100.0
"""Ratios of the largest to the smallest value from which an axis is logarithmic, and only powers of ten are ticks."""


@dataclass(frozen=True)
class Point:
    """A run of the sweep."""

    name: str
    settings: dict[str, str]
    value: float | None
    """Best value of the objective; None if the run has none."""
    state: str


def draw_sweep(
    points: Sequence[Point],
    keys: Sequence[str],
    picture: Path,
    logarithmic: Collection[str] = (),
    label: str = "validation loss",
) -> None:
    """Plot the first swept keys in a panel each, with the best run marked, and a table of the best runs, as PNG.

    Args:
        points: runs, the best first.
        keys: the swept settings.
        picture: the file to write.
        logarithmic: keys that were sampled on a logarithmic scale; others have one if their values spread widely.
        label: name of the objective.
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
        axes = figure.add_subplot(grid[number // columns, number % columns])
        _draw_panel(axes, points, key, key in logarithmic)
        axes.set(xlabel=key, ylabel=f"best {escape_mathtext(label)}")
    _draw_table(figure.add_subplot(grid[rows, :]), points[:_MOST_ROWS], shown, f"best {label}")
    with replacing(picture) as temporary:
        figure.savefig(temporary, format="png")


def short(value: str) -> str:
    """Round a long fraction to four significant digits."""
    number = _number(value)
    return value if number is None or number.is_integer() or len(value) < _LONG else f"{number:.4g}"


def _draw_panel(axes: Axes, points: Sequence[Point], key: str, logarithmic: bool) -> None:
    reached = [(p.settings[key], p.value, p.state) for p in points if key in p.settings and p.value is not None]
    values = list(dict.fromkeys(p.settings[key] for p in points if key in p.settings))
    numbers = [_number(value) for value in values]
    known = [number for number in numbers if number is not None]
    if len(known) == len(values):
        places = dict(zip(values, known, strict=True))
        spread = max(known) / min(known) if known and min(known) > 0 else 0.0
        _scale_numbers(axes, places, spread, bool(spread) and (logarithmic or spread >= _LOGARITHMIC_FROM))
    else:
        places = {value: float(number) for number, value in enumerate(sorted(values))}
        axes.margins(x=0.2)
        _label(axes, places)
    x, y = [places[setting] for setting, _, _ in reached], [value for _, value, _ in reached]
    axes.scatter(x, y, s=16, c=[COLORS[0] if state == "done" else _UNFINISHED for _, _, state in reached], zorder=2)
    if reached:  # the first is the best
        axes.plot(x[0], y[0], "o", mfc="none", mec="black", markersize=9)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)


def _scale_numbers(axes: Axes, places: dict[str, float], spread: float, logarithmic: bool) -> None:
    """Scale the axis of numbers; a few values that are far enough apart are its ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

    at = np.sort(np.log([*places.values()]) if logarithmic else [*places.values()])
    if logarithmic:
        axes.set_xscale("log")
    if len(at) <= _MOST_TICKS and (np.diff(at) >= _LEAST_GAP * np.ptp(at)).all():
        _label(axes, places)
    elif logarithmic:
        subs = (1, 2, 5) if spread < _POWERS_FROM else (1,)
        within_a_decade = MaxNLocator(nbins=4) if spread < _LOGARITHMIC_FROM else None
        axes.xaxis.set_major_locator(within_a_decade or LogLocator(subs=subs, numticks=6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.4g}"))
        axes.minorticks_off()
    else:
        axes.locator_params("x", nbins=5)


def _label(axes: Axes, places: dict[str, float]) -> None:
    """Label the values at their places."""
    labels = [short(value) for value in places]
    is_long = sum(map(len, labels)) > _LONG_LABELS
    axes.set_xticks(
        list(places.values()),
        [escape_mathtext(label) for label in labels],
        rotation=20 if is_long else 0,
        ha="right" if is_long else "center",
    )
    axes.minorticks_off()


def _draw_table(axes: Axes, points: Sequence[Point], keys: Sequence[str], label: str) -> None:
    axes.axis("off")
    if not points:
        return
    cells = [
        [
            p.name,
            *(short(p.settings.get(key, "")) for key in keys),
            "" if p.value is None else f"{p.value:.4f}",
            p.state,
        ]
        for p in points
    ]
    head = ["run", *keys, label, "state"]
    literally = [[escape_mathtext(cell) for cell in row] for row in (head, *cells)]
    table = axes.table(cellText=literally[1:], colLabels=literally[0], loc="center", cellLoc="left", edges="horizontal")
    table.auto_set_font_size(False)
    table.set_fontsize(8)
    table.auto_set_column_width(list(range(len(head))))


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
