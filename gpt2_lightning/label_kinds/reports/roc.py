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
    """The receiver operating characteristic of a class, a point for every threshold."""

    label: str
    false_positives: NDArray[np.float32]
    """Share of the rows of other classes, rising."""
    true_positives: NDArray[np.float32]
    """Share of the rows of this class."""


def roc_curves(labels: Sequence[str], probabilities: Tensor, true: Tensor, only_last: bool) -> list[Curve]:
    """Curves of the classes that some rows have and others have not.

    Args:
        labels: names of the classes.
        probabilities: (N, L).
        true: whether each class applies, bool, (N, L).
        only_last: whether the last class alone gets a curve: of two classes that exclude each other, the first one's
            is its mirror image.
    """
    curves = []
    for column in range(len(labels) - 1 if only_last else 0, len(labels)):
        if 0 < int(true[:, column].sum()) < len(true):
            false_positives, true_positives, _ = binary_roc(probabilities[:, column], true[:, column].long())
            curves.append(Curve(labels[column], false_positives.numpy(), true_positives.numpy()))
    return curves
