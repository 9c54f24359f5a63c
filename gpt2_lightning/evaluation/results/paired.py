"""Paired comparison of two models on the same items."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.errors import UserError, listed
from gpt2_lightning.evaluation.results.intervals import function_of_sums, mean
from gpt2_lightning.evaluation.results.item_log import Header, ItemRecord
from gpt2_lightning.evaluation.results.metric import Metric

_ROUNDING = 1e-9
"""Relative difference of equal weights: the bytes and words of a document are summed over its passages."""


@dataclass(frozen=True)
class Contingency:
    """Numbers of items by which of two models is right, and McNemar's test of whether both are right equally often."""

    both: int
    only_this: int
    only_other: int
    neither: int

    @property
    def p_value(self) -> float:
        """Exact two-sided p-value: `only_this` of all discordant items under Binomial(0.5) (McNemar 1947)."""
        discordant, fewer = self.only_this + self.only_other, min(self.only_this, self.only_other)
        term = tail = 1
        for k in range(fewer):
            term = term * (discordant - k) // (k + 1)
            tail += term
        return min(1.0, 2 * tail / 2**discordant)


@dataclass(frozen=True)
class Difference:
    """A metric of this model and of the other."""

    this: Metric
    other: Metric
    difference: Metric
    """This minus other, with the standard error and interval of paired items."""
    contingency: Contingency | None = None
    """None for metrics that are not the share of right items."""

    @property
    def name(self) -> str:
        """Name of the metric."""
        return self.this.name


def require_same_items(
    header: Header, records: Sequence[ItemRecord], other_header: Header, other_records: Sequence[ItemRecord]
) -> None:
    """Check that two models were measured on the same items in the same way.

    Passages of a document (records with `document`) count as one item: tokenizer and context determine their number.

    Raises:
        UserError: if the benchmark, its settings, the data or the items differ, with both values.
    """
    lines = other_header.differences(header)
    differences = [line for line in lines if line.startswith(("benchmark", "settings", "data"))]
    ids, others = (
        list(dict.fromkeys(str(record.get("document", record["id"])) for record in found))
        for found in (records, other_records)
    )
    if not differences and ids != others:
        only = {"now": sorted(set(ids) - set(others)), "there": sorted(set(others) - set(ids))}
        differences = [f"items: {len(others):,} there, {len(ids):,} now"]
        differences += [f"only {where}: {listed(names)}" for where, names in only.items() if names]
        differences += [line for line in lines if line.startswith("tokenizer")]
    if differences:
        what = f"{header.benchmark}: the models were not measured on the same items, so they cannot be compared"
        raise UserError("\n  ".join([what, *differences]))


def differences(metrics: Sequence[Metric], others: Sequence[Metric]) -> tuple[list[Difference], list[str]]:
    """Compare all metrics that are functions of the same items.

    Args:
        metrics: metrics of this model on the items.
        others: metrics of the other model on the same items.

    Returns:
        The differences, and the names of the metrics that are not comparable. These are metrics without values by item,
        and ratios whose denominators differ, such as the loss per token of models with different tokenizers.
    """
    by_name = {metric.name: metric for metric in others}
    found, not_comparable = [], []
    for this in metrics:
        other = by_name.get(this.name)
        pair = None if other is None else _difference(this, other)
        if pair is None:
            not_comparable.append(this.name)
        else:
            found.append(pair)
    return found, not_comparable


def _difference(this: Metric, other: Metric) -> Difference | None:
    if this.sample is None or other.sample is None:
        return None
    ours, theirs = this.sample.columns, other.sample.columns
    if ours.shape != theirs.shape:
        return None
    if this.sample.is_weighted and not np.allclose(ours[:, -1], theirs[:, -1], rtol=_ROUNDING, atol=0):
        return None
    if this.sample.statistic is None:
        found = mean(this.name, ours[:, 0] - theirs[:, 0], this.higher_is_better)
    else:
        columns, width = np.concatenate([ours, theirs], axis=1), ours.shape[1]
        one, two = this.sample.statistic, other.sample.statistic
        assert two is not None, "metrics of a name are of a kind"
        found = function_of_sums(
            this.name, columns, lambda sums: one(sums[:, :width]) - two(sums[:, width:]), this.higher_is_better
        )
    found = dataclasses.replace(found, is_share=this.is_share)
    return Difference(this, other, found, _contingency(ours, theirs) if this.is_share else None)


def _contingency(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> Contingency | None:
    """Count the items by which model is right; None for values other than 0 and 1."""
    both = np.concatenate([ours, theirs], axis=1)
    if both.shape[1] != 2 or not np.isin(both, (0, 1)).all():
        return None
    this, other = both.astype(bool).T
    counts = (this & other, this & ~other, ~this & other, ~(this | other))
    return Contingency(*(int(count.sum()) for count in counts))
