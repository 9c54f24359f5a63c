"""Names of the metrics of a run, to refuse a monitored metric that is never logged."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol, runtime_checkable

import lightning as L

from gpt2_lightning.errors import UserError, did_you_mean

_OURS = ("gpt2_lightning.", "lightning.")
_PLACES = ("step", "tokens", "epoch")
"""Columns of a row that say where it was measured."""


@runtime_checkable
class LogsMetrics(Protocol):
    """A LightningModule or callback that logs metrics."""

    def metric_names(self) -> list[str]:
        """Return their names; a name that ends with `/` is a folder of metrics whose names are not known yet."""


def announced(trainer: L.Trainer) -> list[str]:
    """Return the names that the module and the callbacks of a run will log."""
    return [name for part in _parts(trainer) if isinstance(part, LogsMetrics) for name in part.metric_names()]


def known_names(trainer: L.Trainer) -> list[str] | None:
    """Return the names of all metrics that a run will log; None if a class of the user's may log others."""
    parts = _parts(trainer)
    return announced(trainer) if all(type(part).__module__.startswith(_OURS) for part in parts) else None


def _parts(trainer: L.Trainer) -> list[object]:
    return [trainer.lightning_module, *trainer.callbacks]  # type: ignore[attr-defined]  # set by Lightning's connector


def require_logged(metric: str, names: Collection[str]) -> None:
    """Check that a metric is one of some names, or in one of the folders among them.

    Raises:
        UserError: if it is not.
    """
    if any(metric.startswith(name) if name.endswith("/") else metric == name for name in names):
        return
    known = sorted({f"{name}…" if name.endswith("/") else name for name in names} - {*_PLACES})
    nearest = did_you_mean(metric, known) or "."
    raise UserError(
        f"monitor: {metric} is none of the metrics that can judge this run{nearest} They are {', '.join(known)}"
    )
