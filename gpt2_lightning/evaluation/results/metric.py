"""Metrics of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Metric:
    """A value over all items of a benchmark, with its uncertainty."""

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
