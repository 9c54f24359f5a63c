"""Calibration: agreement of probabilities with the accuracy of predictions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

BINS = 15


@dataclass(frozen=True)
class Calibration:
    """Calibration of predictions, in bins of equal width of their probability."""

    error: float
    """Expected calibration error (Guo et al. 2017, equation 3): mean absolute difference of confidence and accuracy,
    weighted by the number of predictions in a bin."""
    confidence: NDArray[np.float64]
    """Mean probability in each non-empty bin."""
    accuracy: NDArray[np.float64]
    """Share of correct predictions in each non-empty bin."""
    count: NDArray[np.int64]
    """Number of predictions in each non-empty bin."""


def calibration(confidence: NDArray[np.float32], right: NDArray[np.bool_]) -> Calibration:
    """Compute the calibration of predictions.

    Args:
        confidence: probability of each prediction, 0 to 1, (N,).
        right: whether each prediction is correct, (N,).
    """
    bins = np.clip(np.ceil(confidence.astype(np.float64) * BINS).astype(np.int64) - 1, 0, BINS - 1)
    count = np.bincount(bins, minlength=BINS)
    filled = count > 0
    means = (np.bincount(bins, weights, BINS)[filled] / count[filled] for weights in (confidence, right))
    mean_confidence, accuracy = means
    error = float(np.abs(mean_confidence - accuracy) @ count[filled] / len(bins))
    return Calibration(error, mean_confidence, accuracy, count[filled])
