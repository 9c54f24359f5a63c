"""Metrics with standard errors and 95 % intervals, from the values of the items.

Standard errors of means are those of lm-evaluation-harness (`lm_eval.api.metrics.mean_stderr`). Intervals of shares are
those of Wilson (1927), of other means those of the normal distribution, and of ratios of sums those of the bootstrap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gpt2_lightning.bootstrap import Statistic, Sums, estimate
from gpt2_lightning.evaluation.language_metrics import LARGEST_EXPONENT
from gpt2_lightning.evaluation.results.metric import Metric, Sample

Z = 1.959963984540054
"""97.5 % quantile of the standard normal distribution."""

Transform = Callable[[NDArray[np.float64]], NDArray[np.float64]]


def share(name: str, values: Sequence[bool] | ArrayLike) -> Metric:
    """Share of items, such as accuracy, with Wilson's interval.

    Args:
        name: name of the metric.
        values: whether each of the N items counts, N >= 1.
    """
    column = np.asarray(values, dtype=np.float64)
    value = float(column.mean())
    low, high = wilson(value, len(column))
    sample = Sample(column[:, None])
    return Metric(name, value, stderr_of_mean(column), low, high, is_share=True, sample=sample)


def mean(name: str, values: ArrayLike, higher_is_better: bool = True, is_share: bool = False) -> Metric:
    """Mean over items, with the interval of the normal distribution.

    Args:
        name: name of the metric.
        values: values of the N items, N >= 1.
        higher_is_better: whether a higher value is better.
        is_share: whether the values are from 0 to 1, as ROUGE, and the mean is stated in percent.
    """
    column = np.asarray(values, dtype=np.float64)
    value, stderr = float(column.mean()), stderr_of_mean(column)
    low, high = (None, None) if stderr is None else (value - Z * stderr, value + Z * stderr)
    if is_share and low is not None and high is not None:
        low, high = max(low, 0.0), min(high, 1.0)
    return Metric(name, value, stderr, low, high, higher_is_better, is_share, Sample(column[:, None]))


def ratio(
    name: str,
    numerators: ArrayLike,
    denominators: ArrayLike,
    transform: Transform | None = None,
    higher_is_better: bool = False,
) -> Metric:
    """Ratio of two sums over items, such as nats per token or bits per byte, with the bootstrap's interval.

    Args:
        name: name of the metric.
        numerators: summands of the N items, N >= 1, such as negative log-likelihoods.
        denominators: weights of the items, such as their numbers of tokens.
        transform: function of the ratio; None for the ratio itself.
        higher_is_better: whether a higher value is better.
    """

    def statistic(sums: Sums) -> NDArray[np.float64]:
        found = sums[:, 0] / sums[:, 1]
        return found if transform is None else transform(found)

    columns = np.stack([np.asarray(numerators, np.float64), np.asarray(denominators, np.float64)], axis=1)
    return _bootstrapped(name, Sample(columns, statistic, is_weighted=True), higher_is_better)


def perplexity(name: str, log_likelihoods: ArrayLike, counts: ArrayLike | None = None) -> Metric:
    """Perplexity, exp(-sum of log-likelihoods / sum of counts), with the bootstrap's interval.

    Args:
        name: name of the metric.
        log_likelihoods: of the N items, in nats, N >= 1.
        counts: numbers of tokens or words of the items; None for 1 each, as in `lambada_openai` of the harness.
    """
    loss = -np.asarray(log_likelihoods, dtype=np.float64)
    return ratio(name, loss, np.ones_like(loss) if counts is None else counts, _exp)


def function_of_sums(
    name: str, columns: NDArray[Any], statistic: Statistic, higher_is_better: bool, is_share: bool = False
) -> Metric:
    """Any function of sums over items, such as F1, with the bootstrap's interval.

    Args:
        name: name of the metric.
        columns: summands of each of the N items, (N, M), N >= 1.
        statistic: function of the sums, (draws, M) to (draws,).
        higher_is_better: whether a higher value is better.
        is_share: whether the value is from 0 to 1 and is stated in percent.
    """
    return _bootstrapped(name, Sample(np.asarray(columns, dtype=np.float64), statistic), higher_is_better, is_share)


def stderr_of_mean(values: NDArray[np.float64]) -> float | None:
    """Standard error of a mean, the sample's standard deviation / sqrt(N), as in the harness; None for one value."""
    return float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None


def wilson(value: float, n: int) -> tuple[float, float]:
    """Return the 95 % interval of a share over `n` items (Wilson 1927)."""
    center = (value + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(value * (1 - value) / n + Z**2 / (4 * n**2))
    return max(min(center - half, value), 0.0), min(max(center + half, value), 1.0)  # rounding may exceed the value


def _bootstrapped(name: str, sample: Sample, higher_is_better: bool, is_share: bool = False) -> Metric:
    assert sample.statistic is not None, "a mean has an interval of its own"
    found = estimate(sample.columns, {name: sample.statistic})[name]
    stderr, low, high = (
        bound if len(sample.columns) > 1 and math.isfinite(bound) else None
        for bound in (found.stderr, found.low, found.high)
    )
    return Metric(name, found.value, stderr, low, high, higher_is_better, is_share, sample)


def _exp(loss: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.exp(np.minimum(loss, LARGEST_EXPONENT))
