"""Result of a benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from gpt2_lightning.evaluation.results.metric import Metric


@dataclass(frozen=True)
class BenchmarkResult:
    """Metrics of a model on one benchmark; `result["acc_norm"]` is the metric of that name."""

    name: str
    """Name of the benchmark, such as `hellaswag`."""
    metrics: tuple[Metric, ...]
    """The first is the main one."""
    n_items: int
    """Number of items measured."""
    source: str
    """The file or data set, for people."""
    digest: str
    """SHA-256 of the data."""
    settings: Mapping[str, Any]
    """Settings of the benchmark, as plain values."""
    notes: tuple[str, ...] = ()
    """What differs from the published benchmark, one sentence each."""
    n_cut: int = 0
    """Number of items whose first tokens were left out, since they are longer than the context."""

    def __getitem__(self, metric: str) -> Metric:
        """Return a metric by name.

        Raises:
            KeyError: if the benchmark has no such metric.
        """
        found = next((one for one in self.metrics if one.name == metric), None)
        if found is None:
            raise KeyError(f"{self.name} has no metric {metric}; it has {', '.join(one.name for one in self.metrics)}")
        return found
