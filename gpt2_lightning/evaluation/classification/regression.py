"""What a regressor's answers to one part of a table are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.data.tables import LabeledText
from gpt2_lightning.evaluation.classification.intervals import Estimate, Sums, estimate
from gpt2_lightning.evaluation.classification.report import MISTAKES, Mistake


@dataclass(frozen=True)
class RegressionReport:
    """Figures of answers that are numbers."""

    rows: int
    headline: dict[str, Estimate]
    """`mae`, the mean distance; `rmse`, the root of the mean square; `pearson`, the correlation, NaN where one side
    does not vary."""
    baseline: tuple[float, float]
    """The median of the labels, and the mean distance of always answering it."""
    true: NDArray[np.float64]
    answers: NDArray[np.float64]
    mistakes: list[Mistake]
    """The largest first."""


def regression_report(rows: Sequence[LabeledText], outputs: NDArray[np.float32]) -> RegressionReport:
    """Measure the answers (N,) to some rows, at least one, whose labels are numbers."""
    true, answers = np.array([float(row.label) for row in rows]), outputs.astype(np.float64)  # type: ignore[arg-type]
    n, distance = len(rows), np.abs(answers - true)
    x, y = answers - answers.mean(), true - true.mean()
    headline = estimate(
        np.stack([distance, distance**2, x, y, x * x, y * y, x * y], axis=1),
        {
            "mae": lambda sums: sums[:, 0] / n,
            "rmse": lambda sums: np.sqrt(sums[:, 1] / n),
            "pearson": lambda sums: _pearson(sums[:, 2:], n),
        },
    )
    median = float(np.median(true))
    largest = np.argsort(-distance, kind="stable")[:MISTAKES].tolist()
    mistakes = [Mistake(rows[i].text, f"{true[i]:g}", f"{answers[i]:.4g}", float(distance[i])) for i in largest]
    return RegressionReport(n, headline, (median, float(np.abs(true - median).mean())), true, answers, mistakes)


def _pearson(sums: Sums, n: int) -> NDArray[np.float64]:
    x, y, xx, yy, xy = sums.T
    spread = np.sqrt(np.maximum(xx - x * x / n, 0) * np.maximum(yy - y * y / n, 0))
    return np.divide(xy - x * y / n, spread, out=np.full_like(spread, np.nan), where=spread > 0)
