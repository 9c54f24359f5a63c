"""Panels of curves, as input of plots and pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gpt2_lightning.inspection.curves.metrics_csv import STEP
from gpt2_lightning.inspection.curves.runs import Run
from gpt2_lightning.inspection.curves.smoothing import Floats, default_weight, smooth, thin

SHORT_NAMES = {"learning_rate": "lr", "gradient_norm": "grad_norm", "throughput": "tokens_per_second"}
"""Aliases of columns."""
_LABELS = {
    "loss": "loss (nats per token)",
    "perplexity": "perplexity per token",
    "bits_per_byte": "bits per byte",
    "lr": "learning rate",
    "grad_norm": "gradient norm",
    "tokens_per_second": "tokens per second",
    "mfu": "MFU",
    "seconds_left": "seconds left",
    "peak_memory_gb": "peak memory, GB",
}
_LOWER_IS_BETTER = ("loss", "perplexity", "bits_per_byte")
_MOST_POINTS, _MOST_POINTS_IN_ALL, _LEAST_POINTS = 2000, 200_000, 100
_UNITS = ((2 * 3600.0, "hours", 3600.0), (120.0, "minutes", 60.0), (0.0, "seconds", 1.0))


@dataclass(frozen=True)
class Line:
    """A column of one run."""

    run: int
    """Index of the run."""
    part: str
    """`train`, `val`, or empty for a column of neither."""
    x: Floats
    y: Floats
    """Logged values."""
    smoothed: Floats | None
    """None if the line is not smoothed."""
    best: int | None
    """Index of the minimum, for validation metrics of which lower is better."""


@dataclass(frozen=True)
class Panel:
    """Lines with common axes."""

    key: str
    label: str
    """Label of the y axis, with the unit."""
    x_label: str
    lines: tuple[Line, ...]


def make_panels(runs: Sequence[Run], keys: Sequence[str], x: str, weight: float | None) -> list[Panel]:
    """Make a panel for each key that any run has logged.

    Args:
        runs: in the order of colors.
        keys: `loss` for both train/loss and val/loss, and so on; a name in `SHORT_NAMES`; or a column.
        x: `step`, `tokens`, `epoch`, or `time` in training.
        weight: for `smooth`; None for `default_weight` of each line. Validation metrics, learning rate and attention
            scores are not smoothed.
    """
    unit, divisor = _unit(runs) if x == "time" else ("", 1.0)
    label = {STEP: "optimizer steps", "tokens": "tokens", "epoch": "epochs", "time": f"{unit} of training"}[x]
    wanted = [(key, run, column) for key in keys for run in runs for column in _columns(key, run)]
    most = int(np.clip(_MOST_POINTS_IN_ALL / max(1, len(wanted)), _LEAST_POINTS, _MOST_POINTS))
    panels = []
    for key in dict.fromkeys(keys):
        lines = [
            _line(number, run, column, x, divisor, weight, most)
            for number, run in enumerate(runs)
            for column in _columns(key, run)
        ]
        drawn = tuple(line for line in lines if len(line.x))
        if drawn:
            panels.append(Panel(key, _LABELS.get(SHORT_NAMES.get(key, key), key), label, drawn))
    return panels


def known_columns(runs: Sequence[Run]) -> list[str]:
    """Names of all logged columns."""
    return sorted({name for run in runs for name in run.metrics.columns} - {STEP})


def _columns(key: str, run: Run) -> list[str]:
    name = SHORT_NAMES.get(key, key)
    return [column for column in (f"train/{name}", f"val/{name}", name) if column in run.metrics.columns]


def _line(number: int, run: Run, column: str, x: str, divisor: float, weight: float | None, most: int) -> Line:
    across, values = run.metrics.points(x, column)
    weight = default_weight(len(values)) if weight is None else weight
    part, _, name = column.rpartition("/")
    kept = thin(values, most)
    is_exact = part == "val" or name == "lr" or part.startswith("attention")
    finite = np.where(np.isfinite(values), values, np.inf)[kept]
    has_best = part == "val" and name in _LOWER_IS_BETTER and np.isfinite(finite).any()
    return Line(
        run=number,
        part=part if part in ("train", "val") else "",
        x=across[kept] / divisor,
        y=values[kept],
        smoothed=smooth(values, weight)[kept] if weight > 0 and not is_exact else None,
        best=int(finite.argmin()) if has_best else None,
    )


def _unit(runs: Sequence[Run]) -> tuple[str, float]:
    longest = max((run.reached("time") or 0.0 for run in runs), default=0.0)
    return next((name, size) for least, name, size in _UNITS if longest >= least)
