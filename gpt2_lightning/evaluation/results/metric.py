"""Metrics of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.bootstrap import Statistic


@dataclass(frozen=True)
class Sample:
    """Summands of a metric, from which paired differences are computed."""

    columns: NDArray[np.float64]
    """Summands of each of the N items, (N, M)."""
    statistic: Statistic | None = None
    """The metric as a function of the sums; None for the mean of a single column."""
    is_weighted: bool = False
    """Whether the last column is weights, such as numbers of tokens, which are equal where values are comparable."""


@dataclass(frozen=True)
class Metric:
    """A value over all items of a benchmark, with its uncertainty.

    `intervals` has the constructors: `share`, `mean`, `ratio`, `perplexity`.
    """

    name: str
    """Name in tables, files and `monitor=`, such as `acc_norm`."""
    value: float
    stderr: float | None = None
    """Standard error; None where it is not defined."""
    low: float | None = None
    high: float | None = None
    """Bounds of the 95 % interval."""
    higher_is_better: bool = True
    is_share: bool = False
    """Whether the value is a share, from 0 to 1, and tables state it in percent."""
    sample: Sample | None = field(default=None, repr=False, compare=False)
    """None for metrics that are no functions of sums over items, which are not compared item by item."""

    def to_plain(self) -> dict[str, Any]:
        """Return the entries of results.json, without the name."""
        return {
            "value": self.value,
            "stderr": self.stderr,
            "low": self.low,
            "high": self.high,
            "higher_is_better": self.higher_is_better,
            "is_share": self.is_share,
        }
