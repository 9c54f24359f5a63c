"""Deletion metrics of attributions: the drop of the answer without the tokens of the highest attribution."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2_lightning.inspection.attribution.methods import Output, attributions

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Shares of the tokens that are removed, rounded up: those of DeYoung et al. 2020, "ERASER", section 4.2."""
RANDOM_ORDERS = 20
"""Baseline. By chance, a method would exceed all of them once in 21 times."""
_SEED = 0
_NOISE = 1e-5
"""Tolerance for rounding errors."""


@dataclass(frozen=True)
class Deletion:
    """Drops of an answer without the first tokens of an order, for each of `SHARES`."""

    answer_drops: Tensor
    """Drop of the probability of the label, or of the regression output, (S,)."""
    evidence_drops: Tensor
    """Drop of the evidence, (S,), which separates orders where the probability saturates near 1."""

    @property
    def score(self) -> float:
        """The mean drop of the answer.

        The comprehensiveness of DeYoung et al. 2020, section 4.2, an area over the perturbation curve (Samek et al.
        2017). They include the complete text, whose drop is 0; without it, the maximum is 1.
        """
        return float(self.answer_drops.mean())

    @property
    def evidence_score(self) -> float:
        """The mean drop of the evidence."""
        return float(self.evidence_drops.mean())


@dataclass(frozen=True)
class AttributionResult:
    """Attributions of an answer to the tokens of a text, with the deletion metrics of each method."""

    ids: Tensor
    """The text's tokens, (T,)."""
    evidence: float
    """See `methods.evidence`."""
    answer: float
    """Probability of the label; for regression, the output."""
    attributions: dict[str, Tensor]
    """Attribution of each token, (T,), by the names in `METHODS`."""
    deletions: dict[str, Deletion]
    """Deletion in descending order of attribution, for each method."""
    random_deletions: list[Deletion]
    """Deletion in `RANDOM_ORDERS` random orders."""

    def beaten(self, method: str) -> int:
        """Number of random orders with a smaller drop of the evidence."""
        score = self.deletions[method].evidence_score
        return sum(score > other.evidence_score + _NOISE for other in self.random_deletions)


def attribute(output: Output, ids: Tensor) -> AttributionResult:
    """Attribute an output to the tokens of a text (T,), and compute deletion metrics.

    Raises:
        ValueError: see `attributions`.
    """
    found = attributions(output, ids)
    orders = [values.argsort(descending=True, stable=True) for values in found.values()]
    generator = torch.Generator().manual_seed(_SEED)
    orders += [torch.randperm(len(ids), generator=generator) for _ in range(RANDOM_ORDERS)]
    whole = output.measure(ids, torch.ones(1, len(ids), dtype=torch.bool))
    without = _without(output, ids, orders)  # (N, S)
    answer = output.answer(whole)
    deletions = [Deletion(answer - output.answer(some), whole - some) for some in without]
    return AttributionResult(
        ids=ids,
        evidence=float(whole),
        answer=float(answer),
        attributions=found,
        deletions=dict(zip(found, deletions, strict=False)),
        random_deletions=deletions[len(found) :],
    )


def _without(output: Output, ids: Tensor, orders: Sequence[Tensor]) -> Tensor:
    """Evidence without the first tokens of each order (T,), for each of `SHARES`, (N, S)."""
    counts = [math.ceil(share * len(ids)) for share in SHARES]  # at most half of the tokens
    different = sorted(set(counts))  # a short text has fewer than SHARES
    places = torch.stack([order.argsort() for order in orders]).unsqueeze(1)  # (N, 1, T): rank of each token
    kept = places >= torch.tensor(different).view(1, -1, 1)  # (N, D, T)
    found = output.measure(ids, kept.flatten(0, 1)).view(len(orders), -1)  # (N, D)
    return found[:, [different.index(count) for count in counts]]
