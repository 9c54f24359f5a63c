"""GELU, the activation of the MLPs: the tanh approximation beside the exact function, and their difference."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gpt2_lightning.inspection.diagrams.architecture import Architecture
from gpt2_lightning.inspection.diagrams.canvas import FAINT, INK, WIDTH, Canvas

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_HEIGHT = 262.0
_REACH = 4.0
_POINTS = 801
_FORMULAS = {
    "tanh": "½ x (1 + tanh(√(2/π) (x + 0.044715 x³)))",
    "exact": "½ x (1 + erf(x / √2))",
}
_COLORS = {"tanh": "#0072B2", "exact": "#D55E00"}


def draw_gelu(architecture: Architecture) -> Figure:
    """Draw both functions, the one of this configuration thicker, and how far they are apart."""
    import torch
    from torch.nn import functional as F

    used = architecture.config.gelu
    x = torch.linspace(-_REACH, _REACH, _POINTS, dtype=torch.float64)
    values = {"exact": F.gelu(x), "tanh": F.gelu(x, approximate="tanh")}
    difference = values["tanh"] - values["exact"]
    canvas = Canvas(
        _HEIGHT,
        f"GELU: this network computes the {'tanh approximation' if used == 'tanh' else 'exact function'}",
        f"Applied to each of the {4 * architecture.config.n_embd:,} inner channels of an MLP; no parameters.",
    )
    left = _axes(canvas, 40, "GELU(x)", range(5))
    left.plot(x, F.relu(x), color="#8c959f", linewidth=0.9, linestyle=":", label="ReLU")
    for kind in ("exact", "tanh"):
        style = {"linewidth": 2.2, "alpha": 0.9} if kind == used else {"linewidth": 1.1, "linestyle": "--"}
        left.plot(x, values[kind], color=_COLORS[kind], label=kind, zorder=3 if kind != used else 2, **style)
    left.legend(fontsize=7, frameon=False, loc="upper left")
    right = _axes(canvas, 294, "tanh − exact, in 10⁻⁴", range(-2, 6))
    right.plot(x, 1e4 * difference, color=INK, linewidth=1.1)
    largest = difference.abs().max().item()
    canvas.text(294 + 96, 54, f"at most {largest:.2g} apart", 8)
    canvas.text(40 + 96, 54, "both forms, and ReLU", 8)
    for row, (kind, formula) in enumerate(_FORMULAS.items()):
        text = f"{kind}: {formula}{'   (this network)' if kind == used else ''}"
        canvas.text(12, _HEIGHT - 24 + 13 * row, text, 7.5, _COLORS[kind], bold=kind == used, align="left")
    return canvas.figure


def _axes(canvas: Canvas, left: float, label: str, ticks: range) -> Axes:
    """Axes of a curve with the left edge of their frame at `left` points."""
    width, top, bottom = 192.0, 64.0, _HEIGHT - 62
    axes = canvas.figure.add_axes((left / WIDTH, 1 - bottom / _HEIGHT, width / WIDTH, (bottom - top) / _HEIGHT))
    axes.set_xlabel("x", fontsize=7.5, color=FAINT, labelpad=1)
    axes.set_ylabel(label, fontsize=7.5, color=FAINT)
    axes.set(xticks=range(-int(_REACH), int(_REACH) + 1), yticks=ticks)
    axes.tick_params(labelsize=7, colors=FAINT, length=2)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    return axes
