"""What kind of head a head is, in numbers from its attention weights alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_SEQUENCE = 25
_REPEATS = 4


def entropy(weights: Tensor, ids: Tensor) -> Tensor:
    """Mean entropy of the rows in nats: 0 for a head that looks at one token."""
    return _row_entropies(weights).mean(dim=-1)


def relative_entropy(weights: Tensor, ids: Tensor) -> Tensor:
    """The entropy of each row as a share of the largest possible, ln(tokens seen): 1 for a head that sees all alike."""
    seen = torch.arange(2, weights.size(-1) + 1, dtype=weights.dtype)
    return (_row_entropies(weights) / seen.log()).mean(dim=-1)


def distance(weights: Tensor, ids: Tensor) -> Tensor:
    """Mean number of tokens between a token and what it attends to, by weight."""
    place = torch.arange(weights.size(-1), dtype=weights.dtype)
    return (weights * (place.unsqueeze(1) - place)).sum(dim=-1)[..., 1:].mean(dim=-1)


def first_token(weights: Tensor, ids: Tensor) -> Tensor:
    """Mean weight on the first token, where heads rest that find nothing to do: the attention sink (Xiao et al. 2023,
    "Efficient Streaming Language Models with Attention Sinks")."""
    return weights[..., 1:, 0].mean(dim=-1)


def previous_token(weights: Tensor, ids: Tensor) -> Tensor:
    """Mean weight on the token before (Elhage et al. 2021, "A Mathematical Framework for Transformer Circuits")."""
    return weights.diagonal(offset=-1, dim1=-2, dim2=-1).mean(dim=-1)


def duplicate_token(weights: Tensor, ids: Tensor) -> Tensor:
    """Mean weight on earlier occurrences of the same token, over the tokens that have any (Wang et al. 2022,
    "Interpretability in the Wild")."""
    return _mean_on(weights, _earlier_same(ids))


def induction(weights: Tensor, ids: Tensor) -> Tensor:
    """Mean weight on the tokens that came after earlier occurrences of the same token, over the tokens that have any.

    Such a head finds what came next the last time. Olsson et al. 2022, "In-context Learning and Induction Heads",
    calls this the prefix matching score.
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
"""Each takes weights (…, T, T) and ids (T,) to a score (…): a mean over the tokens but the first, which can attend to
nothing but itself. NaN where no token counts: in a text of one token, or without the repetition that it asks for."""


def head_scores(weights: Tensor, ids: Tensor) -> dict[str, Tensor]:
    """Every score of every head, (L, H) each, from weights (L, H, T, T) and ids (T,)."""
    return {name: score(weights, ids) for name, score in SCORES.items()}


def repeated_sequence(vocab_size: int, block_size: int) -> tuple[Tensor, str]:
    """A standard text on which heads of one model, at any step of its training, can be compared.

    Random tokens, no two alike, repeated: each has one earlier occurrence in each repeat, and the past alone tells what
    comes next. Olsson et al. 2022 repeat 25 tokens four times; where vocabulary or context are too small, it is as many
    of both as fit. The tokens are the same in every call.

    Returns:
        The ids, (T,), and a description for readers. No ids where the context has no room for two of anything.
    """
    length = min(_SEQUENCE, vocab_size, block_size // 2)
    if length < 2:
        return torch.zeros(0, dtype=torch.int64), "none: the context or the vocabulary is too small"
    repeats = min(_REPEATS, block_size // length)
    order = torch.randperm(vocab_size, generator=torch.Generator().manual_seed(0))
    return order[:length].repeat(repeats), f"{length} random tokens, no two alike, {repeats} times in a row"


def _row_entropies(weights: Tensor) -> Tensor:
    """Of each row but the first, (…, T - 1)."""
    return torch.special.entr(weights[..., 1:, :]).sum(dim=-1)


def _earlier_same(ids: Tensor) -> Tensor:
    """Whether key j is an earlier occurrence of the token of query i, (T, T)."""
    return (ids.unsqueeze(1) == ids).tril(diagonal=-1)


def _mean_on(weights: Tensor, wanted: Tensor) -> Tensor:
    """The weight that rows have on wanted keys (T, T), a mean over the rows that have any."""
    return (weights * wanted).sum(dim=-1)[..., wanted.any(dim=-1)].mean(dim=-1)
