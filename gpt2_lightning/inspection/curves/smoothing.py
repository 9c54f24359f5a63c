"""Smoothing and downsampling of curves."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_MOST_WEIGHT = 0.8
_STRETCHES = 20
"""Minimum length of a line, as a multiple of the window of its average."""


def smooth(values: Floats, weight: float) -> Floats:
    """Exponential moving average with bias correction (Kingma and Ba 2015, section 3).

    Non-finite values are kept and do not enter the average.

    Args:
        values: shape (N,).
        weight: of the previous average, in [0, 1); 0 does not smooth.
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
    """Default weight of `smooth` for a number of points.

    An average of weight w has a window of about 1 / (1 - w) points. Here the window is a twentieth of the line, and at
    most five points: lines of up to 20 points are not smoothed, and the weight is 0.8 from 100 points on.
    """
    return min(_MOST_WEIGHT, max(0.0, 1 - _STRETCHES / max(points, 1)))


def thin(values: Floats, most: int) -> NDArray[np.int64]:
    """Downsample a line: indices of the minimum and maximum of each segment, and of both ends, ascending.

    Extrema are kept, and a segment without finite values keeps a gap.

    Args:
        values: shape (N,).
        most: maximum number of points to keep, 4 or more.
    """
    if len(values) <= most:
        return np.arange(len(values))
    inner = np.array_split(np.arange(1, len(values) - 1), (most - 2) // 2)
    low, high = (np.where(np.isfinite(values), values, stand_in) for stand_in in (np.inf, -np.inf))
    kept = [index for part in inner for index in (part[low[part].argmin()], part[high[part].argmax()])]
    return np.unique([0, *kept, len(values) - 1])
