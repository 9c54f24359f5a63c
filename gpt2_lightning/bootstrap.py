"""Bootstrap confidence intervals of metrics.

The rows are resampled with replacement, and the metric is recomputed (Efron 1979; the percentile interval of Efron and
Tibshirani 1993, chapter 13). All metrics are functions of sums over rows, so that a draw is a weighted sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Sums = NDArray[np.float64]
"""Sums over rows, (draws, columns)."""
Statistic = Callable[[Sums], NDArray[np.float64]]
"""Metric as a function of sums over rows, (draws, columns) to (draws,)."""
RESAMPLES = 1000
_AT_ONCE = 2**22
_TAIL = 2.5


@dataclass(frozen=True)
class Estimate:
    """A metric with its 95 % confidence interval and standard error."""

    value: float
    low: float
    high: float
    stderr: float
    """Standard error: the standard deviation of the draws."""

    def __str__(self) -> str:
        return f"{self.value:.4f} ({self.low:.4f} to {self.high:.4f})"


def estimate(columns: NDArray[Any], metrics: Mapping[str, Statistic], seed: int = 0) -> dict[str, Estimate]:
    """Compute metrics and their confidence intervals, all from the same draws.

    Args:
        columns: summands of each of the N rows, (N, M).
        metrics: functions of sums over rows, (draws, M) to (draws,), by name.
        seed: seed of the draws.
    """
    n = len(columns)
    values = columns.astype(np.float64)
    whole = values.sum(axis=0, keepdims=True)
    dice = np.random.default_rng(seed)
    drawn = np.concatenate([_draw(values, count, dice) for count in _parts(RESAMPLES, max(1, _AT_ONCE // n))])
    found = {}
    for name, metric in metrics.items():
        of_draws = metric(drawn)
        low, high = np.percentile(of_draws, [_TAIL, 100 - _TAIL])
        with np.errstate(over="ignore"):  # of perplexities near the largest number
            stderr = np.std(of_draws, ddof=1)
        found[name] = Estimate(*map(float, (metric(whole)[0], low, high, stderr)))
    return found


def _draw(values: NDArray[np.float64], count: int, dice: np.random.Generator) -> Sums:
    """Compute sums over rows, (count, columns), for `count` draws; a row is weighted by how often it was drawn."""
    n = len(values)
    chosen = dice.integers(0, n, (count, n)) + n * np.arange(count)[:, None]
    times = np.bincount(chosen.ravel(), minlength=count * n).reshape(count, n)
    return times.astype(np.float64) @ values


def _parts(total: int, size: int) -> list[int]:
    return [min(size, total - done) for done in range(0, total, size)]
