"""The metric by which a run is judged: for its best checkpoint, early stopping, pruning and sweeps."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gpt2_lightning.errors import UserError

Mode = Literal["min", "max"]
VAL_LOSS = "val/loss"
"""Metric by which a run is judged by default."""
_LOWER_IS_BETTER = frozenset(
    ("bits", "brier", "ece", "error", "loss", "mae", "mse", "nats", "nll", "perplexity", "ppl", "rmse")
)
_HIGHER_IS_BETTER = frozenset(
    ("acc", "accuracy", "auroc", "bleu", "centered", "core", "correlation", "f1", "match", "mcc", "pearson", "recall")
) | {"precision", "r2", "rouge", "rouge1", "rouge2", "rougel", "score", "spearman"}
"""Words in the names of metrics."""


@dataclass(frozen=True)
class Monitor:
    """A logged metric, and whether lower or higher values are better."""

    metric: str = VAL_LOSS
    """Name, as in `metrics.csv`."""
    mode: Mode = "min"

    @property
    def label(self) -> str:
        """Name for people."""
        return "validation loss" if self.metric == VAL_LOSS else self.metric

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Monitor:
        """Return the monitored metric of a run's configuration; the validation loss in those of earlier versions.

        Raises:
            UserError: see `mode_of`.
        """
        metric = config.get("monitor", VAL_LOSS)
        return cls(metric, mode_of(metric, config.get("monitor_mode", "auto")))

    def improves(self, value: float, best: float | None, min_delta: float = 0.0) -> bool:
        """Whether a value is better than the best before by more than `min_delta`; a first finite value always is."""
        if best is None or not math.isfinite(value):
            return math.isfinite(value)
        gain = best - value if self.mode == "min" else value - best
        return gain > min_delta


def mode_of(metric: str, mode: Mode | Literal["auto"] = "auto") -> Mode:
    """Return whether lower or higher values of a metric are better, by the words of its name for `auto`.

    Raises:
        UserError: if the name does not say it.
    """
    if mode != "auto":
        return mode
    words = set(re.split(r"[^a-z0-9]+", metric.rpartition("/")[2].lower()))
    if words & _LOWER_IS_BETTER:
        return "min"
    if words & _HIGHER_IS_BETTER:
        return "max"
    raise UserError(
        f"monitor_mode: auto does not know whether lower or higher values of monitor={metric} are better; set "
        "monitor_mode to min or max"
    )
