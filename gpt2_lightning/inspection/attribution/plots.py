"""Plot of an attribution: the text colored by each method, and the deletion scores."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gpt2_lightning.inspection.attention.plots import layout_tokens, printable_label
from gpt2_lightning.inspection.attribution.deletion import RANDOM_ORDERS
from gpt2_lightning.inspection.attribution.export import AttributedText, format_value
from gpt2_lightning.inspection.attribution.methods import METHODS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_WIDTH = 6.5
"""Inches; the text width of a page."""
_COLUMNS = 88
"""Characters in a line of text, at most."""
_LETTER = _WIDTH * 72 * 0.98 / (_COLUMNS * 0.602)
"""Font size in points at which a full line fits; characters of the font are 0.602 em wide."""
_LINE = 1.9 * _LETTER / 72
_TITLE, _CHART = 0.3, 1.4
"""Inches."""
_FONT = "DejaVu Sans Mono"
_FOR, _AGAINST, _STRONG = "#4ba3dc", "#f2994a", "#a3abb5"
"""Blue and orange are distinguishable with color vision deficiency; a dotted line marks `against` in grayscale."""
_GRAY = "#777777"


def draw_attribution(text: AttributedText, path: Path) -> None:
    """Plot the text once for each method, and below them the deletion scores."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    places = list(layout_tokens([printable_label(token, monospace=True) for token in text.tokens]))
    lines = 1 + places[-1][1] + 1.3  # the name, the text, and room
    rows = len(METHODS) * lines + 1
    heights = _TITLE, rows * _LINE, _CHART
    figure = Figure(figsize=(_WIDTH, sum(heights)), dpi=200)
    share = [height / sum(heights) for height in heights]
    axes = figure.add_axes((0.01, share[2], 0.98, share[1]))
    axes.set(xlim=(0, _COLUMNS), ylim=(rows, 0))
    axes.axis("off")
    for number, (method, known) in enumerate(METHODS.items()):
        top = number * lines
        axes.text(0, top + 0.5, known.name, fontsize=8.5, fontweight="bold", va="center_baseline")
        _draw_tokens(axes, places, text.shades(method), known.is_signed, top + 1)
    _draw_legend(axes, rows - 1)
    _draw_scores(figure.add_axes((0.27, 0.42 / sum(heights), 0.7, share[2] - 0.67 / sum(heights))), text)
    figure.text(0.01, 1 - share[0] / 2, printable_label(text.heading), fontsize=9.5, va="center", parse_math=False)
    FigureCanvasAgg(figure).print_png(path)


def _draw_tokens(
    axes: Axes, places: Sequence[tuple[int, int, str]], shades: Sequence[float], is_signed: bool, top: float
) -> None:
    for (column, line, token), shade in zip(places, shades, strict=True):
        _draw_token(axes, (column, top + line), token, shade, is_signed)


def _draw_token(axes: Axes, place: tuple[float, float], token: str, shade: float, is_signed: bool) -> None:
    """Draw a token on a background of its shade, -1 to 1."""
    from matplotlib.patches import Rectangle

    (column, top), width = place, len(token)
    color = _STRONG if not is_signed else _FOR if shade >= 0 else _AGAINST
    axes.add_patch(Rectangle((column, top + 0.08), width, 0.84, facecolor=color, alpha=abs(shade), linewidth=0))
    if is_signed and shade < 0:
        axes.plot(
            [column, column + width],
            [top + 0.92] * 2,
            color="black",
            alpha=-shade,
            linewidth=0.8,
            linestyle=(0, (1, 1.5)),
        )
    drawn = axes.text(column, top + 0.5, token, parse_math=False, va="center_baseline")
    drawn.set(fontsize=_LETTER, fontfamily=_FONT)


def _draw_legend(axes: Axes, top: float) -> None:
    column = 0
    for words, shade, is_signed in (
        (" evidence for ", 1.0, True),
        (" evidence against ", -1.0, True),
        (" importance ", 1.0, False),
    ):
        _draw_token(axes, (column, top), words, shade, is_signed)
        column += len(words) + 1
    axes.text(column, top + 0.5, "each method on its own scale", fontsize=7, color=_GRAY, va="center_baseline")


def _draw_scores(axes: Axes, text: AttributedText) -> None:
    """Plot the mean drop of the evidence for each method, among those of random orders."""
    others = [deletion.evidence_score for deletion in text.result.random_deletions]
    names = []
    for row, (method, deletion) in enumerate(text.result.deletions.items()):
        label = f"{RANDOM_ORDERS} random orders" if row == 0 else None
        axes.plot(
            others,
            [row] * len(others),
            "o",
            markersize=4,
            fillstyle="none",
            color=_GRAY,
            markeredgewidth=0.7,
            label=label,
        )
        axes.plot([deletion.evidence_score], [row], "D", markersize=5, color="black", clip_on=False)
        names.append(f"{METHODS[method].name}: {format_value(deletion.evidence_score)}")
    axes.axvline(0, color=_GRAY, linewidth=0.6)
    axes.set_yticks(range(len(names)), names, fontsize=7.5)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(labelsize=7.5, length=2)
    axes.set_xlabel("drop of the evidence without the strongest tokens, mean of five shares", fontsize=7.5)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="y", linewidth=0.4)
    axes.legend(fontsize=7, frameon=False, loc="lower right", bbox_to_anchor=(1, 0.96), borderpad=0)
