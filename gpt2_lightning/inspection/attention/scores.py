"""Scores that classify attention heads by their attention weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_SEQUENCE = 25
_REPEATS = 4


def entropy(weights: Tensor, ids: Tensor) -> Tensor:
    """Mean entropy of the rows in nats: 0 for a head that attends to one token."""
    return _row_entropies(weights).mean(dim=-1)


def relative_entropy(weights: Tensor, ids: Tensor) -> Tensor:
    """Mean entropy of the rows as a share of the maximum, ln(number of keys): 1 for uniform attention."""
    seen = torch.arange(2, weights.size(-1) + 1, dtype=weights.dtype)
    return (_row_entropies(weights) / seen.log()).mean(dim=-1)


def distance(weights: Tensor, ids: Tensor) -> Tensor:
    """Mean distance from query to key in tokens, weighted by attention."""
    place = torch.arange(weights.size(-1), dtype=weights.dtype)
    return (weights * (place.unsqueeze(1) - place)).sum(dim=-1)[..., 1:].mean(dim=-1)


def first_token(weights: Tensor, ids: Tensor) -> Tensor:
    """Mean weight on the first token, the attention sink (Xiao et al. 2023,
    "Efficient Streaming Language Models with Attention Sinks")."""
    return weights[..., 1:, 0].mean(dim=-1)


def previous_token(weights: Tensor, ids: Tensor) -> Tensor:
    """Mean weight on the previous token (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits")."""
    return weights.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=-1)


def duplicate_token(weights: Tensor, ids: Tensor) -> Tensor:
    """Mean weight on earlier occurrences of the same token, over tokens with such occurrences (Wang et al. 2022,
    "Interpretability in the Wild")."""
    return _mean_on(weights, _earlier_same(ids))


def induction(weights: Tensor, ids: Tensor) -> Tensor:
    """Mean weight on the successors of earlier occurrences of the same token, over tokens with such occurrences.

    Olsson et al. 2022, "In-context Learning and Induction Heads",
    call this the prefix matching score.
    """
    same = _earlier_same(ids)
    return _mean_on(weights, same.roll(1, dims=1).tril(diagonal=-1))  # the token after an earlier same one


SCORES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "entropy": entropy,
    "relative_entropy": relative_entropy,
    "distance": distance,
    "first_token": first_token,
    "previous_token": previous_token,
    "duplicate_token": duplicate_token,
    "induction": induction,
}
"""Functions of weights (…, T, T) and ids (T,) that return a score (…): a mean over all queries but the first, which can
only attend to itself. NaN where no query counts, as in a text of one token or one without repeated tokens."""


def head_scores(weights: Tensor, ids: Tensor) -> dict[str, Tensor]:
    """Compute every score of every head, (L, H) each, from weights (L, H, T, T) and ids (T,)."""
    return {name: score(weights, ids) for name, score in SCORES.items()}


def repeated_sequence(vocab_size: int, block_size: int) -> tuple[Tensor, str]:
    """A standard sequence on which the heads of a model can be compared at any training step.

    Distinct random tokens, repeated: from the second time on, each next token is determined by those before. Olsson et
    al. 2022 repeat 25 tokens four times; both numbers are reduced where the vocabulary or the context is too small. The
    tokens are the same in every call.

    Returns:
        The ids, (T,), and a description. No ids where the context or the vocabulary is too small for a repetition.
    """
    length = min(_SEQUENCE, vocab_size, block_size // 2)
    if length < 2:
        return torch.zeros(0, dtype=torch.int64), "none: the context or the vocabulary is too small"
    repeats = min(_REPEATS, block_size // length)
    order = torch.randperm(vocab_size, generator=torch.Generator().manual_seed(0))
    return order[:length].repeat(repeats), f"{length} distinct random tokens, repeated {repeats} times"


def _row_entropies(weights: Tensor) -> Tensor:
    """Entropy of each row but the first, (…, T - 1)."""
    return torch.special.entr(weights[..., 1:, :]).sum(dim=-1)


def _earlier_same(ids: Tensor) -> Tensor:
    """Whether key j is an earlier occurrence of the token of query i, (T, T)."""
    return (ids.unsqueeze(1) == ids).tril(diagonal=-1)


def _mean_on(weights: Tensor, wanted: Tensor) -> Tensor:
    """Mean weight on the wanted keys (T, T), over the rows with any."""
    return (weights * wanted).sum(dim=-1)[..., wanted.any(dim=-1)].mean(dim=-1)
