"""Loss curves of a run, from its metrics.csv."""

from __future__ import annotations

import csv
from pathlib import Path

Points = tuple[list[float], list[float]]
"""x and y of a line."""


def read_points(metrics: Path, key: str) -> Points:
    """Steps and values of one column; rows without a value, or cut off by a crash, are passed over."""
    steps, values = [], []
    with metrics.open(newline="") as file:
        for row in csv.DictReader(file):
            try:
                step, value = float(row["step"]), float(row[key])
            except (KeyError, TypeError, ValueError):
                continue
            steps.append(step)
            values.append(value)
    return steps, values


def draw_loss(metrics: Path, picture: Path, title: str) -> None:
    """Training and validation loss against steps, as PNG; the best validation loss is marked."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.plot(*read_points(metrics, "train/loss"), color="#0072B2", linewidth=1.2, label="training")
    steps, losses = read_points(metrics, "val/loss")
    if losses:
        axes.plot(steps, losses, color="#D55E00", marker="o", markersize=4, linewidth=1.6, label="validation")
        best = min(range(len(losses)), key=losses.__getitem__)
        axes.annotate(
            f"best {losses[best]:.3f} at step {steps[best]:,.0f}",
            (steps[best], losses[best]),
            xytext=(0, 28),
            textcoords="offset points",
            ha="right" if best > len(losses) / 2 else "left",
            arrowprops={"arrowstyle": "-", "color": "#666666"},
        )
    axes.set(xlabel="optimizer steps", ylabel="loss (nats per token)", title=title)
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.lines:
        axes.legend(frameon=False)
    FigureCanvasAgg(figure).print_png(picture)
