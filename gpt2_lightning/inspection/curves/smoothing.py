"""Noisy lines made readable, and long ones short."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_MOST_WEIGHT = 0.8
_STRETCHES = 20
"""So many times as long as the reach of its average is a line, at least."""


def smooth(values: Floats, weight: float) -> Floats:
    """Exponential moving average, corrected for its start from 0 (Kingma and Ba 2015, section 3).

    Values that are not finite stay where they are and do not enter the average.

    Args:
        values: shape (N,).
        weight: of what came before, from 0 (nothing is smoothed) up to, not including, 1.
    """
    averages = values.copy()
    total = correction = 0.0
    for i, value in enumerate(values.tolist()):
        if np.isfinite(value):
            total = weight * total + (1 - weight) * value
            correction = weight * correction + (1 - weight)
            averages[i] = total / correction
    return averages


def default_weight(points: int) -> float:
    """A weight for `smooth` that suits a line of so many points.

    An average of weight w reaches over about 1 / (1 - w) points. That is a twentieth of the line here, and five points
    at most: nothing is smoothed up to 20 points, and the weight is 0.8 from 100 on.
    """
    return min(_MOST_WEIGHT, max(0.0, 1 - _STRETCHES / max(points, 1)))


def thin(values: Floats, most: int) -> NDArray[np.int64]:
    """Which points of a long line to draw, in order: the lowest and the highest of each stretch, and the two ends.

    No peak is lost, and a stretch without a finite value keeps a gap.

    Args:
        values: shape (N,).
        most: points to keep, at most; 4 or more.
    """
    if len(values) <= most:
        return np.arange(len(values))
    inner = np.array_split(np.arange(1, len(values) - 1), (most - 2) // 2)
    low, high = (np.where(np.isfinite(values), values, stand_in) for stand_in in (np.inf, -np.inf))
    kept = [index for part in inner for index in (part[low[part].argmin()], part[high[part].argmax()])]
    return np.unique([0, *kept, len(values) - 1])
