"""Filters of the next token's distribution: they set the logits of unlikely tokens to -inf.

Each takes and returns logits of shape (R, V), a row for each text, and keeps at least one token of a row. Which tokens
are kept, also among equals, is as in Hugging Face's logits processors. To add a filter: a function, its name in
`FILTERS`, and its setting, a field of `Filters` with this name, all in this file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from gpt2_lightning.settings import BelowOne, PositiveInt, PositiveShare, Probability, Settings

_REMOVED = float("-inf")
_LIKELY = 512
"""Number of the likeliest tokens that usually include the last one that `keep_top_p` keeps."""
_ROUNDING = 1e-5
"""Well above the error of cumulative probabilities in float32, which stays below 1e-6."""


def keep_top_k(logits: Tensor, k: int) -> Tensor:
    """The k likeliest tokens, and all that equal the k-th (Fan et al. 2018, arXiv:1805.04833, section 5.1)."""
    smallest_kept = logits.topk(min(k, logits.size(-1))).values[:, -1:]  # (R, 1)
    return logits.masked_fill(logits < smallest_kept, _REMOVED)


def keep_top_p(logits: Tensor, p: float) -> Tensor:
    """The fewest tokens that hold a probability of p or more together: the token that crosses p stays.

    Nucleus sampling (Holtzman et al. 2020, arXiv:1904.09751, section 3.1). Of equals at the border some may go, by the
    order in which torch sorts them. On a GPU all tokens are sorted, since the host would have to wait for `is_clear`.
    """
    if logits.size(-1) <= _LIKELY or logits.device.type != "cpu":
        return logits.masked_fill(_unlikely_by_sorting(logits, p), _REMOVED)
    removed, is_clear = _unlikely_by_likeliest(logits, p)
    unclear = (~is_clear).nonzero().squeeze(1)
    if len(unclear):
        removed[unclear] = _unlikely_by_sorting(logits[unclear], p)
    return logits.masked_fill(removed, _REMOVED)


def _unlikely_by_sorting(logits: Tensor, p: float) -> Tensor:
    """What `keep_top_p` removes, (R, V)."""
    ascending, order = logits.sort()
    removed = ascending.softmax(dim=-1).cumsum(dim=-1) <= 1 - p
    removed[:, -1] = False
    return removed.scatter(1, order, removed)


def _unlikely_by_likeliest(logits: Tensor, p: float) -> tuple[Tensor, Tensor]:
    """The same from the likeliest tokens alone, ten times as fast, and of which rows, (R,), this is certain.

    It is not where the border is further down, or where rounding or equals could move it.
    """
    likeliest = logits.topk(_LIKELY).values  # (R, _LIKELY), descending
    before = (likeliest[:, :-1] - logits.logsumexp(dim=-1, keepdim=True)).exp().cumsum(dim=-1)  # of token 1, 2, …
    kept = (before < p).sum(dim=-1, keepdim=True)  # (R, 1): tokens beside the likeliest
    smallest_kept = likeliest.gather(1, kept)
    largest_removed = likeliest.gather(1, (kept + 1).clamp(max=_LIKELY - 1))
    is_clear = ((before - p).abs() > _ROUNDING).all(dim=-1) & (smallest_kept > largest_removed).squeeze(1)
    return logits < smallest_kept, is_clear


def keep_min_p(logits: Tensor, p: float) -> Tensor:
    """Tokens at least p times as likely as the likeliest (Nguyen et al. 2024, arXiv:2407.01082, section 3)."""
    probabilities = logits.softmax(dim=-1)
    return logits.masked_fill(probabilities < p * probabilities.amax(dim=-1, keepdim=True), _REMOVED)


def keep_typical(logits: Tensor, p: float) -> Tensor:
    """Tokens whose surprise is nearest the expected one, the fewest that hold a probability of p or more together.

    Locally typical sampling (Meister et al. 2023, arXiv:2202.00666, section 4). Equals of the last one stay.
    """
    log_probabilities = logits.log_softmax(dim=-1)
    entropy = -(log_probabilities * log_probabilities.exp()).nansum(dim=-1, keepdim=True)  # (R, 1)
    distance = (-log_probabilities - entropy).abs()  # (R, V)
    nearest_first, order = distance.sort()
    held = logits.gather(1, order).softmax(dim=-1).cumsum(dim=-1)
    last = (held < p).sum(dim=-1, keepdim=True).clamp(max=logits.size(-1) - 1)
    return logits.masked_fill(distance > nearest_first.gather(1, last), _REMOVED)


def keep_epsilon(logits: Tensor, epsilon: float) -> Tensor:
    """Tokens with a probability of at least epsilon, and the likeliest (Hewitt et al. 2022, arXiv:2210.15191)."""
    return _keep_probable(logits, logits.softmax(dim=-1) < epsilon)


def keep_eta(logits: Tensor, epsilon: float) -> Tensor:
    """Tokens at least as probable as min(epsilon, sqrt(epsilon) exp(-entropy)), and the likeliest.

    Eta sampling (Hewitt et al. 2022, arXiv:2210.15191, section 3.2).
    """
    share = torch.full((), epsilon, device=logits.device)
    distribution = torch.distributions.Categorical(logits=logits, validate_args=False)  # a check would make a GPU wait
    entropy = distribution.entropy().unsqueeze(-1)  # (R, 1)
    return _keep_probable(logits, logits.softmax(dim=-1) < torch.min(share, share.sqrt() * (-entropy).exp()))


def _keep_probable(logits: Tensor, is_improbable: Tensor) -> Tensor:
    return logits.masked_fill(is_improbable & (logits < logits.amax(dim=-1, keepdim=True)), _REMOVED)


FILTERS: dict[str, Callable[[Tensor, Any], Tensor]] = {
    "top_k": keep_top_k,
    "top_p": keep_top_p,
    "min_p": keep_min_p,
    "typical_p": keep_typical,
    "epsilon_cutoff": keep_epsilon,
    "eta_cutoff": keep_eta,
}
"""Filters by the name of their setting, in the order in which they act."""


@dataclass(frozen=True, kw_only=True)
class Filters(Settings):
    """Settings of all filters. A filter is off at the default of its setting."""

    top_k: PositiveInt | None = None
    """Choose among this many of the likeliest tokens; all of them where it is null."""
    top_p: PositiveShare = 1.0
    """Choose among the fewest tokens that hold this probability together; 1 is off."""
    min_p: Probability = 0.0
    """Choose among tokens at least this many times as likely as the likeliest; 0 is off."""
    typical_p: PositiveShare = 1.0
    """Choose among the most typical tokens that hold this probability together; 1 is off."""
    epsilon_cutoff: BelowOne = 0.0
    """Choose among tokens of at least this probability, and the likeliest; 0 is off."""
    eta_cutoff: BelowOne = 0.0
    """As `epsilon_cutoff`, with a lower limit where the distribution is flat; 0 is off."""

    def filter(self, logits: Tensor) -> Tensor:
        """Apply the filters that are on: (R, V) to (R, V)."""
        for name, keep in FILTERS.items():
            value = getattr(self, name)
            if value != getattr(Filters, name):
                logits = keep(logits, value)
        return logits
