"""The loss curve of a run."""

from __future__ import annotations

from pathlib import Path

from gpt2_lightning.inspection.curves.metrics_csv import STEP, read_metrics
from gpt2_lightning.inspection.curves.panels import Panel, make_panels
from gpt2_lightning.inspection.curves.plots import draw
from gpt2_lightning.inspection.curves.runs import Run

Points = tuple[list[float], list[float]]
"""x and y of a line."""


def read_points(metrics: Path, key: str) -> Points:
    """Read steps and values of one column, without incomplete rows."""
    steps, values = read_metrics(metrics).points(STEP, key)
    return steps.tolist(), values.tolist()


def draw_loss(metrics: Path, picture: Path, title: str) -> None:
    """Plot training and validation loss against steps as PNG; the best validation loss is marked."""
    run = Run(title, read_metrics(metrics), settings={})
    panels = make_panels([run], ["loss"], STEP, weight=0.0)
    empty = Panel("loss", "loss (nats per token)", "optimizer steps", lines=())
    draw(panels or [empty], [title], title, picture, "png")
