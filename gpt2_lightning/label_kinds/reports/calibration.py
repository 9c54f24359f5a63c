"""Calibration: whether probabilities are the shares of right predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """Predictions by their probability, in bins of equal width."""

    error: float
    """Expected calibration error (Guo et al. 2017, equation 3): the mean distance between probability and share of
    right predictions, weighted by the predictions of a bin."""
    confidence: NDArray[np.float64]
    """Mean probability in each bin that is not empty."""
    accuracy: NDArray[np.float64]
    """Share of right predictions there."""
    count: NDArray[np.int64]
    """Predictions there."""


def calibration(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> Calibration:
    """Compare probabilities with outcomes.

    Args:
        confidence: probability of each prediction, 0 to 1, (N,).
        right: whether the prediction is right, (N,).
    """
    bins = np.clip(np.ceil(confidence.astype(np.float64) * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    filled = count > 0
    means = (np.bincount(bins, weights, BINS)[filled] / count[filled] for weights in (confidence, right))
    mean_confidence, accuracy = means
    error = float(np.abs(mean_confidence - accuracy) @ count[filled] / len(bins))
    return Calibration(error, mean_confidence, accuracy, count[filled])
