"""FlashAttention's operator for sequences of different lengths on the CPU, as formulas, for one sequence at a time."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

calls: list[dict[str, Any]] = []
"""Arguments of each call that are not tensors of queries, keys and values."""


def _sequences(offsets: Tensor, total: int, longest: int) -> list[slice]:
    assert offsets.dtype == torch.int32
    assert offsets.is_contiguous()
    bounds = offsets.tolist()
    assert (bounds[0], bounds[-1]) == (0, total)
    found = [slice(first, end) for first, end in itertools.pairwise(bounds)]
    assert all(0 <= part.stop - part.start <= longest for part in found)
    return found


def _weights(q: Tensor, k: Tensor, is_causal: bool) -> Tensor:
    """Softmax of the scores of one sequence, (H, n, n)."""
    scores = torch.einsum("ihd,jhd->hij", q, k) / math.sqrt(q.size(-1))
    future = torch.ones(len(q), len(k), dtype=torch.bool).triu(1)
    return scores.masked_fill(future, -torch.inf).softmax(-1) if is_causal else scores.softmax(-1)


def forward(
    q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, offsets_k: Tensor, longest: int, longest_k: int,
    dropout_p: float, is_causal: bool, return_debug_mask: bool, **defaults: Any,
) -> tuple[Tensor, ...]:  # fmt: skip
    assert all(x.dim() == 3 and x.stride(-1) == 1 for x in (q, k, v))
    assert torch.equal(offsets, offsets_k)
    assert longest == longest_k
    assert not return_debug_mask
    calls.append({"offsets": offsets.tolist(), "dropout_p": dropout_p, "shares_memory": q._is_view()})
    y = torch.empty_like(q)
    for part in _sequences(offsets, len(q), longest):
        y[part] = torch.einsum("hij,jhd->ihd", _weights(q[part], k[part], is_causal), v[part])
    unused = torch.empty((), dtype=torch.uint64)
    return y, torch.zeros(q.size(1), len(q)), torch.zeros(2, dtype=torch.uint64), unused, q.new_empty(0)


def backward(
    dy: Tensor, q: Tensor, k: Tensor, v: Tensor, y: Tensor, logsumexp: Tensor, offsets: Tensor, offsets_k: Tensor,
    longest: int, longest_k: int, dropout_p: float, is_causal: bool, *others: Any, **defaults: Any,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """With P the weights of a sequence and dP = dy vᵀ, the scores have the gradient P (dP - sum(P dP))."""
    dq, dk, dv = (torch.empty_like(x) for x in (q, k, v))
    for part in _sequences(offsets, len(q), longest):
        weights = _weights(q[part], k[part], is_causal)
        of_weights = torch.einsum("ihd,jhd->hij", dy[part], v[part])
        of_scores = weights * (of_weights - (weights * of_weights).sum(-1, keepdim=True)) / math.sqrt(q.size(-1))
        dq[part] = torch.einsum("hij,jhd->ihd", of_scores, k[part])
        dk[part] = torch.einsum("hij,ihd->jhd", of_scores, q[part])
        dv[part] = torch.einsum("hij,ihd->jhd", weights, dy[part])
    return dq, dk, dv
