"""Receiver operating characteristics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torchmetrics.functional.classification import binary_roc


@dataclass(frozen=True)
class Curve:
    """ROC curve of a class, one point per threshold."""

    label: str
    false_positives: NDArray[np.float32]
    """False positive rate, ascending."""
    true_positives: NDArray[np.float32]
    """True positive rate."""


def roc_curves(labels: Sequence[str], probabilities: Tensor, true: Tensor, only_last: bool) -> list[Curve]:
    """Compute the ROC curves of the classes that apply to some rows, but not to all.

    Args:
        labels: class names.
        probabilities: probabilities, (N, L).
        true: whether each class applies, bool, (N, L).
        only_last: whether to compute only the curve of the last class, since the curves of two exclusive classes are
            mirror images.
    """
    curves = []
    for column in range(len(labels) - 1 if only_last else 0, len(labels)):
        if 0 < int(true[:, column].sum()) < len(true):
            false_positives, true_positives, _ = binary_roc(probabilities[:, column], true[:, column].long())
            curves.append(Curve(labels[column], false_positives.numpy(), true_positives.numpy()))
    return curves
