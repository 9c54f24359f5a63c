"""Plots of attention weights, written as PNG and SVG.

The color scale is the square root of a weight, which keeps small weights visible beside large ones.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.inspection.colormaps import sequential

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import ListedColormap, PowerNorm
    from matplotlib.figure import Figure

Weights = NDArray[np.float32]

_WIDTH = 6.5
"""Inches; the text width of a page."""
_POINTS = 72
_LETTER = 5.0
"""Smallest font size, in points."""
_COLUMNS = 88
"""Characters in a line of highlighted text, at most."""
_LEAST_COLUMNS = 48
"""Minimum width, in characters, that fits the title and the color bar."""
_SHEET = 1060
"""Pixels across all thumbnails of a row."""
_GAP = 0.08
"""Space between thumbnails, as a share of their width."""
_SUFFIXES = (".png", ".svg")
_GRAY = "#777777"
_MARK = "#D55E00"
_MONOSPACE = "DejaVu Sans Mono"
"""Its characters are 0.602 em wide."""


def draw_head(weights: Weights, labels: Sequence[str], title: str, path: Path) -> None:
    """Plot one matrix (T, T) as a heat map of queries (rows) and keys (columns), as path.png and path.svg."""
    figure = _figure(_WIDTH)
    axes = figure.add_subplot()
    _show(axes, _without_ahead(weights))
    room = (_WIDTH - 1.6) * _POINTS / len(labels)
    size = min(8.0, max(_LETTER, 0.9 * room))
    step = math.ceil(1.1 * size / room)
    at = range(0, len(labels), step)
    shown = [printable_label(labels[i]) for i in at]
    axes.set_xticks(at, shown, rotation=90, fontsize=size, parse_math=False)
    axes.set_yticks(at, shown, fontsize=size, parse_math=False)
    axes.tick_params(length=0 if step == 1 else 2, color=_GRAY)
    axes.xaxis.tick_top()
    every = "" if step == 1 else f", every {_ordinal(step)} named"
    axes.set_xlabel(f"attended to{every}", fontsize=8)
    axes.set_ylabel(f"attending token{every}", fontsize=8)
    axes.set_title(title, fontsize=9, parse_math=False)
    _add_scale(figure, [axes])
    _save(figure, path)


def draw_layer(weights: Weights, title: str, path: Path) -> None:
    """Plot all heads of a layer, (H, T, T), as a grid."""
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
        _show(axes, _without_ahead(weights[head]))
        axes.set_title(f"head {head}", fontsize=7, pad=3)
        axes.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize=9, parse_math=False)
    _add_scale(figure, list(grid.flat)[:heads])
    _save(figure, path)


def draw_model(weights: Weights, title: str, path: Path, suffixes: Sequence[str] = _SUFFIXES) -> None:
    """Plot all heads of all layers, (L, H, T, T), as thumbnails: a row for each layer, a column for each head.

    Args:
        weights: downsampled by their maximum where a text has more tokens than a thumbnail has pixels.
        title: of the figure.
        path: without a suffix.
        suffixes: one file is written for each.
    """
    layers, heads = weights.shape[:2]
    dots = min(weights.shape[-1], max(1, int(_SHEET / heads / (1 + _GAP))))
    gap = math.ceil(_GAP * dots)
    side = dots + gap
    sheet = np.ma.masked_array(np.zeros((layers * side - gap, heads * side - gap), dtype=np.float32), mask=True)
    for layer, head in np.ndindex(layers, heads):
        top, left = layer * side, head * side
        sheet[top : top + dots, left : left + dots] = _without_ahead(_shrunk(weights[layer, head], dots))
    figure = _figure(_WIDTH, 0.9 + (_WIDTH - 1.2) * layers / heads)
    axes = figure.add_subplot()
    _show(axes, sheet)
    middles = [number * side + (dots - 1) / 2 for number in range(max(layers, heads))]
    axes.set_xticks(middles[:heads], [*map(str, range(heads))], fontsize=7)
    axes.set_yticks(middles[:layers], [*map(str, range(layers))], fontsize=7)
    axes.tick_params(length=0)
    axes.xaxis.tick_top()
    axes.set_xlabel("head", fontsize=8)
    axes.set_ylabel("layer", fontsize=8)
    axes.set_title(title, fontsize=9, parse_math=False)
    _add_scale(figure, [axes])
    _save(figure, path, suffixes)


def draw_text(row: Weights, token: int, labels: Sequence[str], title: str, path: Path) -> None:
    """Plot the text with each token colored by its weight in the row (T,) of one query, which is framed."""
    from matplotlib.patches import Rectangle

    places = list(layout_tokens([printable_label(label, monospace=True) for label in labels]))
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
        axes.add_patch(Rectangle(*place, facecolor=_colors()(shade), zorder=1))
        if i == token:
            axes.add_patch(Rectangle(*place, fill=False, edgecolor=_MARK, linewidth=1.2, zorder=3))
        color = "white" if shade > 0.55 else "black" if i <= token else _GRAY
        drawn = axes.text(column, line + 0.5, label, parse_math=False, color=color, va="center_baseline", zorder=2)
        drawn.set(fontsize=letter, fontfamily=_MONOSPACE)
    axes.set_title(title, fontsize=9, parse_math=False)
    _add_scale(figure, [axes], horizontal=True)
    _save(figure, path)


def layout_tokens(labels: Sequence[str]) -> Iterator[tuple[int, int, str]]:
    """Yield column, line and label of each token; lines break at line feeds and at the maximum width."""
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


def _show(axes: Axes, weights: Weights) -> None:
    """Draw a matrix; masked entries are transparent."""
    axes.imshow(weights, cmap=_colors(), norm=_norm(), interpolation="none")
    axes.spines[:].set_visible(False)


def _without_ahead(weights: Weights) -> Weights:
    """Mask the keys after each query in a matrix (T, T)."""
    return np.ma.masked_array(weights, np.triu(np.ones(weights.shape, dtype=np.bool_), 1))


def _shrunk(weights: Weights, size: int) -> Weights:
    """Downsample a matrix (T, T) to (size, size), size <= T, by the maximum."""
    starts = np.arange(size) * len(weights) // size
    return np.maximum.reduceat(np.maximum.reduceat(weights, starts, axis=0), starts, axis=1)


def _add_scale(figure: Figure, axes: list[Axes], horizontal: bool = False) -> None:
    """Add a color bar beside the axes or below."""
    from matplotlib.cm import ScalarMappable

    where = {"orientation": "horizontal", "aspect": 50, "shrink": 0.5} if horizontal else {"aspect": 35, "shrink": 0.7}
    bar = figure.colorbar(ScalarMappable(_norm(), _colors()), ax=axes, pad=0.02, **where)
    bar.set_ticks([0, 0.05, 0.2, 0.5, 1], labels=["0", "0.05", "0.2", "0.5", "1"])
    bar.set_label("attention weight", fontsize=7)
    bar.ax.tick_params(labelsize=6.5, length=2)
    bar.outline.set_visible(False)


def _save(figure: Figure, path: Path, suffixes: Sequence[str] = _SUFFIXES) -> None:
    """Write one file for each suffix."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    if ".png" in suffixes:
        FigureCanvasAgg(figure).print_png(path.with_suffix(".png"))
    if ".svg" in suffixes:
        FigureCanvasSVG(figure).print_svg(path.with_suffix(".svg"))


def _norm() -> PowerNorm:
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, vmin=0.0, vmax=1.0)


@functools.cache
def _colors() -> ListedColormap:
    from matplotlib.colors import ListedColormap

    return ListedColormap(sequential(dark=False) / 255, name="attention")


def printable_label(label: str, monospace: bool = False) -> str:
    """Replace characters that the font lacks by U+ and their code point."""
    known = _characters(monospace)
    return "".join(c if ord(c) in known else f"U+{ord(c):04X}" for c in label)


@functools.cache
def _characters(monospace: bool) -> frozenset[int]:
    from matplotlib.font_manager import findfont
    from matplotlib.ft2font import FT2Font

    return frozenset(FT2Font(findfont(_MONOSPACE if monospace else "DejaVu Sans")).get_charmap())


def _ordinal(number: int) -> str:
    return {2: "second", 3: "third"}.get(number, f"{number}th")
