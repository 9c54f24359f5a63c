"""Penalties for tokens that a text has already.

Scores are logits or log-probabilities, (R, V), a row for each text. `history` holds the ids of the texts, (R, L), of
which the first `lengths` of a row, (R,) and at least 1, are text; the rest is padding of any value.
"""

from __future__ import annotations

import torch
from torch import Tensor


def penalize_repetition(scores: Tensor, history: Tensor, lengths: Tensor, penalty: float) -> Tensor:
    """Divide positive scores of the text's tokens by the penalty, multiply negative ones by it.

    Keskar et al. 2019, arXiv:1909.05858, section 4.1, in Hugging Face's form, which includes the prompt.
    """
    ids = history.where(_between(history, None, lengths), history[:, :1])  # padding repeats a token, which is harmless
    said = scores.gather(1, ids)  # (R, L)
    return scores.scatter(1, ids, torch.where(said < 0, said * penalty, said / penalty))


def penalize_generated(
    scores: Tensor, history: Tensor, prompt_lengths: Tensor, lengths: Tensor, presence: float, frequency: float
) -> Tensor:
    """Subtract `presence` from the score of each token generated so far, and `frequency` times its count.

    The definition of OpenAI's API. The prompt, the first `prompt_lengths` ids of a row, is excluded: OpenAI defines
    them on sampled tokens, as does vLLM.
    """
    counts = _counts(history, _between(history, prompt_lengths, lengths), scores.size(-1))
    return scores - frequency * counts - presence * (counts > 0)


def ban_repeated_ngrams(scores: Tensor, history: Tensor, lengths: Tensor, size: int) -> Tensor:
    """Set the score of each token that would complete an n-gram of this size in prompt and text again to -inf.

    Paulus et al. 2017, arXiv:1705.04304, section 2.5, for n = 3.
    """
    if history.size(1) < size:
        return scores
    ngrams = history.unfold(1, size, 1)  # (R, L - size + 1, size)
    beginning = lengths.unsqueeze(1) + torch.arange(1 - size, 0, device=history.device)  # (R, size - 1): positions
    begun = history.gather(1, beginning.clamp(min=0)).unsqueeze(1)  # (R, 1, size - 1)
    last_ids = ngrams[:, :, -1]
    repeated = (ngrams[:, :, :-1] == begun).all(dim=-1) & _between(last_ids, None, lengths - (size - 1))
    return scores.masked_fill(_counts(last_ids, repeated, scores.size(-1)) > 0, float("-inf"))


def _between(ids: Tensor, start: Tensor | None, end: Tensor) -> Tensor:
    """Mask of positions of ids (R, L) in [start, end), given (R,) each: bool (R, L)."""
    positions = torch.arange(ids.size(1), device=ids.device)
    inside = positions < end.unsqueeze(1)
    return inside if start is None else inside & (positions >= start.unsqueeze(1))


def _counts(ids: Tensor, counted: Tensor, vocab_size: int) -> Tensor:
    """Number of occurrences of each token among ids (R, L) where `counted` (R, L): float (R, V)."""
    counts = torch.zeros(ids.size(0), vocab_size, device=ids.device)
    return counts.scatter_add(1, ids.masked_fill(~counted, 0), counted.float())
