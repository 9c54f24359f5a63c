"""Panels of curves, as input of plots and pages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Literal

import numpy as np

from gpt2_lightning.inspection.curves.metrics_csv import STEP
from gpt2_lightning.inspection.curves.runs import Run, members
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
_OF_A_KIND = ("loss", "perplexity")
"""Metrics that are comparable only within a kind of loss."""
_LOWER_IS_BETTER = ("loss", "perplexity", "bits_per_byte")
_EVAL = "train/eval_"
_MOST_POINTS, _MOST_POINTS_IN_ALL, _LEAST_POINTS = 2000, 200_000, 100
_UNITS = ((2 * 3600.0, "hours", 3600.0), (120.0, "minutes", 60.0), (0.0, "seconds", 1.0))


@dataclass(frozen=True)
class Line:
    """A column of one run, or its mean over the runs of a group."""

    run: int
    """Index of the run; for a mean, of the first run of its group."""
    group: int
    """Number of the group of the run; see `Run.group`."""
    role: Literal["run", "seed", "mean"]
    """`seed` for a run of a group of several, `mean` for the mean of such a group."""
    part: str
    """`train`, `eval` for training samples in evaluation mode, `val`, or empty for another column."""
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
    """Make a panel for each key that any run has logged; losses of each kind have a panel of their own.

    Args:
        runs: in the order of colors.
        keys: `loss` for both train/loss and val/loss, and so on; a name in `SHORT_NAMES`; or a column.
        x: `step`, `tokens`, `epoch`, or `time` in training, for which there are no means over seeds.
        weight: for `smooth`; None for `default_weight` of each line. Only metrics of training rows are smoothed.
    """
    unit, divisor = _unit(runs) if x == "time" else ("", 1.0)
    label = {STEP: "optimizer steps", "tokens": "tokens", "epoch": "epochs", "time": f"{unit} of training"}[x]
    wanted = [(key, run, column) for key in keys for run in runs for column in _columns(key, run)]
    most = int(np.clip(_MOST_POINTS_IN_ALL / max(1, len(wanted)), _LEAST_POINTS, _MOST_POINTS))
    kinds = sorted({run.kind for run in runs})
    panels = []
    for key in dict.fromkeys(keys):
        name = SHORT_NAMES.get(key, key)
        is_of_a_kind = name.rpartition("/")[2] in _OF_A_KIND
        for kind in kinds if is_of_a_kind else [""]:
            group_lines = [
                line
                for group in members(runs)
                if kind in ("", runs[group[0]].kind)
                for line in _lines(runs, group, key, x, divisor, weight, most)
            ]
            if group_lines:
                text = "loss" if name == "loss" and kind.startswith("classify") else _LABELS.get(name, key)
                of_kind = f", {kind}" if kind and len(kinds) > 1 else ""
                panels.append(Panel(key, text + of_kind, label, tuple(group_lines)))
    return panels


def known_columns(runs: Sequence[Run]) -> list[str]:
    """Names of all logged columns."""
    return sorted({name for run in runs for name in run.metrics.columns} - {STEP})


def _columns(key: str, run: Run) -> list[str]:
    name = SHORT_NAMES.get(key, key)
    return [
        column for column in (f"train/{name}", f"{_EVAL}{name}", f"val/{name}", name) if column in run.metrics.columns
    ]


def _lines(
    runs: Sequence[Run], group: Sequence[int], key: str, x: str, divisor: float, weight: float | None, most: int
) -> list[Line]:
    """Lines of the runs of a group, and their means at the places that all of them have logged."""
    lines: dict[str, list[Line]] = {}
    for run in group:
        for column in _columns(key, runs[run]):
            line = _line(run, runs[run], len(group) > 1, column, x, divisor, weight)
            if len(line.x):
                lines.setdefault(column, []).append(line)
    means = []
    for column, of_column in lines.items():
        if len(of_column) == len(group) > 1 and x != "time":
            common = reduce(np.intersect1d, [line.x for line in of_column])
            values = [line.y if line.smoothed is None else line.smoothed for line in of_column]
            at = [np.unique(line.x, return_index=True) for line in of_column]
            rows = [y[index[np.isin(xs, common)]] for y, (xs, index) in zip(values, at, strict=True)]
            mean = np.mean(rows, axis=0)
            if len(common):
                first = of_column[0]
                means.append(Line(first.run, first.group, "mean", first.part, common, mean, None, _best(column, mean)))
    return [_thinned(line, most) for line in [*(line for each in lines.values() for line in each), *means]]


def _line(number: int, run: Run, is_seed: bool, column: str, x: str, divisor: float, weight: float | None) -> Line:
    across, values = run.metrics.points(x, column)
    weight = default_weight(len(values)) if weight is None else weight
    part, _, name = column.rpartition("/")
    part = "eval" if column.startswith(_EVAL) else part
    is_exact = part not in ("train", "") or name == "lr"
    return Line(
        run=number,
        group=run.group,
        role="seed" if is_seed else "run",
        part=part if part in ("train", "eval", "val") else "",
        x=across / divisor,
        y=values,
        smoothed=smooth(values, weight) if weight > 0 and not is_exact else None,
        best=None if is_seed else _best(column, values),
    )


def _best(column: str, values: Floats) -> int | None:
    part, _, name = column.rpartition("/")
    finite = np.where(np.isfinite(values), values, np.inf)
    has_best = part == "val" and name in _LOWER_IS_BETTER and np.isfinite(finite).any()
    return int(finite.argmin()) if has_best else None


def _thinned(line: Line, most: int) -> Line:
    kept = thin(line.y, most)
    return replace(
        line,
        x=line.x[kept],
        y=line.y[kept],
        smoothed=None if line.smoothed is None else line.smoothed[kept],
        best=None if line.best is None else int(np.searchsorted(kept, line.best)),
    )


def _unit(runs: Sequence[Run]) -> tuple[str, float]:
    longest = max((run.reached("time") or 0.0 for run in runs), default=0.0)
    return next((name, size) for least, name, size in _UNITS if longest >= least)
