"""Attention as pictures for a paper: PNG and SVG from one drawing.

Colours show the square root of a weight, so that the many small ones are seen beside the few large.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.inspection.ramp import ramp

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap, PowerNorm
    from matplotlib.figure import Figure

Weights = NDArray[np.float32]

_WIDTH = 6.5
"""Inches between the margins of a page."""
_POINTS = 72
_LETTER = 5.0
"""Points of the smallest text."""
_COLUMNS = 88
"""Characters in a line of highlighted text, at most."""
_LEAST_COLUMNS = 48
"""As many as the title and the scale have room in."""
_GREY = "#777777"
_MARK = "#D55E00"
_MONOSPACE = "DejaVu Sans Mono"
"""A letter of it is 0.602 em wide."""


def draw_head(weights: Weights, labels: Sequence[str], title: str, path: Path) -> None:
    """One matrix (T, T) as a heat map with its tokens: rows attend to columns. Written as path.png and path.svg."""
    figure = _figure(_WIDTH)
    axes = figure.add_subplot()
    _show(axes, weights)
    room = (_WIDTH - 1.6) * _POINTS / len(labels)
    size = min(8.0, max(_LETTER, 0.9 * room))
    step = math.ceil(1.1 * size / room)
    at = range(0, len(labels), step)
    shown = [_drawable(labels[i]) for i in at]
    axes.set_xticks(at, shown, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(at, shown, fontsize=size, parse_math=False)
    axes.tick_params(length=0 if step == 1 else 2, color=_GREY)
    axes.xaxis.tick_top()
    every = "" if step == 1 else f", every {_ordinal(step)} named"
    axes.set_xlabel(f"attended to{every}", fontsize=8)
    axes.set_ylabel(f"attending token{every}", fontsize=8)
    axes.set_title(title, fontsize=9, parse_math=False)
    _add_scale(figure, [axes])
    _save(figure, path)


def draw_layer(weights: Weights, title: str, path: Path) -> None:
    """All heads of a layer, (H, T, T), side by side."""
    heads = len(weights)
    square = math.ceil(math.sqrt(heads))
    columns = min(range(square, math.ceil(1.4 * square) + 1), key=lambda c: -heads % c)  # few empty places
    rows = math.ceil(heads / columns)
    figure = _figure(_WIDTH, 0.7 + rows * (_WIDTH - 0.7) / columns)
    grid = figure.subplots(rows, columns, squeeze=False)
    for head, axes in enumerate(grid.flat):
        if head >= heads:
            axes.remove()
            continue
        _show(axes, weights[head])
        axes.set_title(f"head {head}", fontsize=7, pad=3)
        axes.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize=9, parse_math=False)
    _add_scale(figure, list(grid.flat)[:heads])
    _save(figure, path)


def draw_model(weights: Weights, title: str, path: Path) -> None:
    """All heads of all layers, (L, H, T, T), as thumbnails: layers downwards, heads to the right."""
    layers, heads = weights.shape[:2]
    gap = 0.08
    side = 1 + gap
    figure = _figure(_WIDTH, 0.9 + (_WIDTH - 1.2) * layers / heads)
    axes = figure.add_subplot()
    for layer in range(layers):
        for head in range(heads):
            left, top = head * side, layer * side
            _show(axes, weights[layer, head], (left, left + 1, top + 1, top))
    axes.set(xlim=(-gap, heads * side), ylim=(layers * side, -gap))
    axes.set_xticks([head * side + 0.5 for head in range(heads)], [*map(str, range(heads))], fontsize=7)
    axes.set_yticks([layer * side + 0.5 for layer in range(layers)], [*map(str, range(layers))], fontsize=7)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.set_xlabel("head", fontsize=8)
    axes.set_ylabel("layer", fontsize=8)
    axes.set_title(title, fontsize=9, parse_math=False)
    _add_scale(figure, [axes])
    _save(figure, path)


def draw_text(row: Weights, token: int, labels: Sequence[str], title: str, path: Path) -> None:
    """The text with each token coloured by its weight in the row (T,) of one token, which has a frame."""
    from matplotlib.patches import Rectangle

    places = list(_laid_out([_drawable(label, monospace=True) for label in labels]))
    lines = places[-1][1] + 1
    used = max(column + len(label) for column, _, label in places)
    columns = max(used, _LEAST_COLUMNS)
    margin = (columns - used) / 2
    letter = _WIDTH * _POINTS * 0.98 / (_COLUMNS * 0.602)
    height = letter * 1.9 / _POINTS
    figure = _figure(_WIDTH * columns / _COLUMNS, lines * height + 0.95)
    axes = figure.add_subplot()
    axes.set(xlim=(-margin, columns - margin), ylim=(lines, 0))
    axes.axis("off")
    for i, (column, line, label) in enumerate(places):
        shade = _norm()(row[i]) if i <= token else 0.0
        place = (column, line + 0.08), len(label), 0.84
        axes.add_patch(Rectangle(*place, facecolor=_colours()(shade), zorder=1))
        if i == token:
            axes.add_patch(Rectangle(*place, fill=False, edgecolor=_MARK, linewidth=1.2, zorder=3))
        colour = "white" if shade > 0.55 else "black" if i <= token else _GREY
        drawn = axes.text(column, line + 0.5, label, parse_math=False, color=colour, va="center_baseline", zorder=2)
        drawn.set(fontsize=letter, fontfamily=_MONOSPACE)
    axes.set_title(title, fontsize=9, parse_math=False)
    _add_scale(figure, [axes], horizontal=True)
    _save(figure, path)


def _laid_out(labels: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Column, line and text of each token; lines end where the text has a line feed, or where there is no more room."""
    column = line = 0
    for label in labels:
        label = label if len(label) <= _COLUMNS else label[: _COLUMNS - 1] + "…"
        if column + len(label) > _COLUMNS:
            column, line = 0, line + 1
        yield column, line, label
        column += len(label)
        if label.endswith("↵"):
            column, line = 0, line + 1


def _figure(width: float, height: float | None = None) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height or width * 0.93), dpi=200, layout="constrained")


def _show(axes: Axes, weights: Weights, extent: tuple[float, float, float, float] | None = None) -> None:
    ahead = np.triu(np.ones(weights.shape, dtype=np.bool_), 1)
    axes.imshow(np.ma.masked_array(weights, ahead), cmap=_colours(), norm=_norm(), interpolation="none", extent=extent)
    axes.spines[:].set_visible(False)


def _add_scale(figure: Figure, axes: list[Axes], horizontal: bool = False) -> None:
    """What the colours mean, beside the axes or below."""
    from matplotlib.cm import ScalarMappable

    where = {"orientation": "horizontal", "aspect": 50, "shrink": 0.5} if horizontal else {"aspect": 35, "shrink": 0.7}
    bar = figure.colorbar(ScalarMappable(_norm(), _colours()), ax=axes, pad=0.02, **where)
    bar.set_ticks([0, 0.05, 0.2, 0.5, 1], labels=["0", "0.05", "0.2", "0.5", "1"])
    bar.set_label("attention weight", fontsize=7)
    bar.ax.tick_params(labelsize=6.5, length=2)
    bar.outline.set_visible(False)


def _save(figure: Figure, path: Path) -> None:
    """As path.png and path.svg."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    FigureCanvasAgg(figure).print_png(path.with_suffix(".png"))
    FigureCanvasSVG(figure).print_svg(path.with_suffix(".svg"))


def _norm() -> PowerNorm:
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, vmin=0.0, vmax=1.0)


@functools.cache
def _colours() -> ListedColormap:
    from matplotlib.colors import ListedColormap

    return ListedColormap(ramp(dark=False) / 255, name="attention")


def _drawable(label: str, monospace: bool = False) -> str:
    """The label in characters that the font has; others as U+ and their number."""
    known = _characters(monospace)
    return "".join(c if ord(c) in known else f"U+{ord(c):04X}" for c in label)


@functools.cache
def _characters(monospace: bool) -> frozenset[int]:
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont(_MONOSPACE if monospace else "DejaVu Sans")).get_charmap())


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
