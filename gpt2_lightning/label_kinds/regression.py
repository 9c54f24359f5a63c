"""Regression: mean squared error."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2_lightning.bootstrap import Statistic, Sums
from gpt2_lightning.errors import UserError, shortened
from gpt2_lightning.label_kinds.kind import Label, LabeledText, LabelKind
from gpt2_lightning.label_kinds.reports.report import MISTAKES, Mistake, Report, mistakes_table, number

if TYPE_CHECKING:
    from torchmetrics import Metric


class Regression(LabelKind):
    """A finite number per text. Targets and outputs are (B,), float32."""

    name = "regression"
    answers_with = "a number"
    metric_names: ClassVar[Mapping[str, str]] = {"mae": "mean absolute error"}
    problem_type = "regression"

    def parse(self, value: Any, known: Collection[str], separator: str | None) -> float:
        try:
            parsed = math.nan if isinstance(value, bool) else float(value)
        except (TypeError, ValueError, OverflowError):
            parsed = math.nan
        if not math.isfinite(parsed):
            raise ValueError(f"is {shortened(value)}, and must be a finite number")
        return parsed

    def targets(self, rows: Sequence[LabeledText], labels: Sequence[str]) -> Tensor:
        return torch.tensor([row.label for row in rows], dtype=torch.float32)

    def check_targets(self, targets: Tensor) -> None:
        if bool((targets == targets[0]).all()):
            raise UserError(
                f"data.label_column: all {len(targets)} training rows have the number {targets[0].item():g}; there is "
                "nothing to learn"
            )

    def losses(self, logits: Tensor, targets: Tensor, weights: Tensor | None, smoothing: float) -> Tensor:
        return (logits.squeeze(1) - targets).square()

    def outputs(self, logits: Tensor) -> Tensor:
        return logits.squeeze(1).float()

    def batch_metric(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).abs().mean()

    def metrics(self, n_labels: int) -> dict[str, Metric]:
        from torchmetrics import MeanAbsoluteError

        return {"mae": MeanAbsoluteError()}

    def prediction(self, output: Any, labels: Sequence[str]) -> tuple[Label, dict[str, float]]:
        return float(output), {}

    def report(
        self, rows: Sequence[LabeledText], outputs: NDArray[np.float32], labels: Sequence[str]
    ) -> RegressionReport:
        true = np.array([float(row.label) for row in rows])  # type: ignore[arg-type]  # labels of this kind
        predicted = outputs.astype(np.float64)
        n, distance = len(rows), np.abs(predicted - true)
        x, y = predicted - predicted.mean(), true - true.mean()
        columns = np.stack([distance, distance**2, x, y, x * x, y * y, x * y], axis=1)
        statistics: dict[str, Statistic] = {
            "mae": lambda sums: sums[:, 0] / n,
            "rmse": lambda sums: np.sqrt(sums[:, 1] / n),
            "pearson": lambda sums: _pearson(sums[:, 2:], n),
        }
        names = {**self.metric_names, "rmse": "root mean square error", "pearson": "Pearson correlation"}
        median = float(np.median(true))
        largest = np.argsort(-distance, kind="stable")[:MISTAKES].tolist()
        mistakes = [Mistake(rows[i].text, f"{true[i]:g}", f"{predicted[i]:.4g}", float(distance[i])) for i in largest]
        baseline = median, float(np.abs(true - median).mean())
        return RegressionReport(n, columns, statistics, names, baseline, true, predicted, mistakes)


@dataclass(frozen=True)
class RegressionReport(Report):
    """Evaluation of predicted numbers.

    The headline metrics are `mae`, the mean absolute error; `rmse`, the root mean square error; and `pearson`, the
    correlation coefficient, NaN if labels or predictions are constant.
    """

    baseline: tuple[float, float]
    """Median of the labels, and the mean absolute error of always predicting it."""
    true: NDArray[np.float64]
    answers: NDArray[np.float64]
    mistakes: list[Mistake]
    """Errors in descending order of their size."""
    errors = frozenset({"mae", "rmse"})

    def sections(self, folder: Path) -> list[str]:
        from gpt2_lightning.label_kinds.reports.plots import draw_scatter

        median, distance = self.baseline
        more = [[f"mean absolute error of always answering the median, {median:g}", number(distance), ""]]
        draw_scatter(self.true, self.answers, folder / "scatter.png")
        return [
            *self.headline_table(more),
            *["", "![Answers against labels](scatter.png)", "", "## Largest errors", ""],
            *mistakes_table(self.mistakes, "distance"),
        ]


def _pearson(sums: Sums, n: int) -> NDArray[np.float64]:
    x, y, xx, yy, xy = sums.T
    spread = np.sqrt(np.maximum(xx - x * x / n, 0) * np.maximum(yy - y * y / n, 0))
    return np.divide(xy - x * y / n, spread, out=np.full_like(spread, np.nan), where=spread > 0)
