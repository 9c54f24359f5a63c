"""Plots of a hyperparameter study: its history and the importances of hyperparameters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from gpt2_lightning.atomic import replacing
from gpt2_lightning.inspection.curves.plots import COLORS, escape_mathtext

_MARKS = {"done": ("o", COLORS[0], "done"), "pruned": ("x", "#999999", "pruned: last value")}


def draw_history(
    numbers: Sequence[int],
    values: Sequence[float],
    states: Sequence[str],
    picture: Path,
    label: str = "validation loss",
    mode: Literal["min", "max"] = "min",
) -> None:
    """Plot the best value of each trial, and the best so far, as PNG.

    Args:
        numbers: of the validated trials, ascending.
        values: best value of the objective in each trial.
        states: `done` or `pruned` for each trial.
        picture: the file to write.
        label: name of the objective.
        mode: whether lower or higher values are better.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    at, reached = np.array(numbers), np.array(values)
    for state, (mark, color, of_state) in _MARKS.items():
        chosen = np.array([one == state for one in states], dtype=bool)
        axes.plot(at[chosen], reached[chosen], mark, color=color, markersize=5, label=of_state)
    sign = 1 if mode == "min" else -1
    done = np.where(np.array([one == "done" for one in states], dtype=bool), sign * reached, np.inf)
    best = sign * np.minimum.accumulate(done)
    axes.step(at[np.isfinite(best)], best[np.isfinite(best)], where="post", color=COLORS[1], label="best so far")
    axes.set(xlabel="trial", ylabel=f"best {escape_mathtext(label)}")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with replacing(picture) as temporary:
        figure.savefig(temporary, format="png")


def draw_importances(importances: dict[str, float], picture: Path) -> None:
    """Plot the importance of each hyperparameter as PNG.

    Args:
        importances: shares that sum to 1.
        picture: the file to write.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 1.2 + 0.4 * len(importances)), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    ordered = sorted(importances.items(), key=lambda pair: pair[1])
    bars = axes.barh([escape_mathtext(key) for key, _ in ordered], [share for _, share in ordered], color=COLORS[0])
    axes.bar_label(bars, fmt="{:.2f}", padding=3)
    axes.set(xlabel="importance (PED-ANOVA)", xlim=(0, 1.1))
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(picture) as temporary:
        figure.savefig(temporary, format="png")
