"""How far an explanation can be trusted: what becomes of the answer without the tokens that it says matter most."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2_lightning.inspection.attribution.methods import Output, attributions

SHARES = (0.01, 0.05, 0.1, 0.2, 0.5)
"""Of the tokens, rounded up, that are removed: those of DeYoung et al. 2020, "ERASER", section 4.2."""
RANDOM_ORDERS = 20
"""To compare with. A method that is better than all of them would be so by chance once in 21 times."""
_SEED = 0
_NOISE = 1e-5
"""Differences that rounding alone may make."""


@dataclass(frozen=True)
class Deletion:
    """What becomes of an answer without the first tokens of an order, for each of `SHARES`."""

    answer_drops: Tensor
    """How far the label's probability falls, or the number, (S,)."""
    evidence_drops: Tensor
    """How far the evidence falls, (S,): it tells orders apart where the probability stays near 1."""

    @property
    def score(self) -> float:
        """The mean drop of the answer.

        It is the comprehensiveness of DeYoung et al. 2020, section 4.2, an area over the perturbation curve (Samek et
        al. 2017). They count the text without any token removed as well, whose drop is 0; here the highest score is 1.
        """
        return float(self.answer_drops.mean())

    @property
    def evidence_score(self) -> float:
        """The mean drop of the evidence."""
        return float(self.evidence_drops.mean())


@dataclass(frozen=True)
class AttributionResult:
    """Which tokens of a text matter for an answer, and how far each method can be trusted."""

    ids: Tensor
    """The text's tokens, (T,)."""
    evidence: float
    """See `explanation.evidence`."""
    answer: float
    """The label's probability; for regression the number."""
    attributions: dict[str, Tensor]
    """How much each token matters, (T,), by the names in `METHODS`."""
    deletions: dict[str, Deletion]
    """Of the tokens that matter most to each method."""
    random_deletions: list[Deletion]
    """Of tokens in `RANDOM_ORDERS` random orders."""

    def beaten(self, method: str) -> int:
        """How many of the random orders make the evidence fall less."""
        score = self.deletions[method].evidence_score
        return sum(score > other.evidence_score + _NOISE for other in self.random_deletions)


def attribute(output: Output, ids: Tensor) -> AttributionResult:
    """Explain an output for a text (T,), and test the explanation.

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
    """The evidence without the first tokens of each order (T,), for each of `SHARES`, (N, S)."""
    counts = [math.ceil(share * len(ids)) for share in SHARES]  # at most half, so that something is left
    different = sorted(set(counts))  # a short text has fewer than SHARES
    places = torch.stack([order.argsort() for order in orders]).unsqueeze(1)  # (N, 1, T): where each token stands
    kept = places >= torch.tensor(different).view(1, -1, 1)  # (N, D, T)
    found = output.measure(ids, kept.flatten(0, 1)).view(len(orders), -1)  # (N, D)
    return found[:, [different.index(count) for count in counts]]
