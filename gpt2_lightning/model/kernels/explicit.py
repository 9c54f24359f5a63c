"""Layer norm, GELU and attention as formulas, with the signatures of `torch.nn.functional`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def layer_norm(x: Tensor, normalized_shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Normalize every token to zero mean and unit variance over its channels, then scale and shift.

    y = (x - E[x]) / sqrt(Var[x] + eps) * weight + bias, with the biased variance (Ba et al. 2016, section 3.1).
    `normalized_shape` is that of the last dimension, (C,).
    """
    mean = x.mean(dim=-1, keepdim=True)  # (..., 1)
    centered = x - mean
    variance = centered.square().mean(dim=-1, keepdim=True)  # (..., 1)
    return centered * torch.rsqrt(variance + eps) * weight + bias


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """x * P(N(0, 1) <= x), exact (`none`) or in the `tanh` approximation (Hendrycks and Gimpel 2016, section 2)."""
    if approximate == "none":
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attention_weights(q: Tensor, k: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False) -> Tensor:
    """Softmax of q kᵀ / sqrt(D) over the keys to which a query attends (Vaswani et al. 2017, equation 1).

    Args:
        q: queries, (B, H, T, D).
        k: keys, (B, H, S, D).
        attn_mask: whether a query attends to a key, bool, broadcast to (B, H, T, S).
        is_causal: whether query t attends to keys 0 to t alone.

    Returns:
        Weights of shape (B, H, T, S); every row sums to 1 and is 0 at masked keys.
    """
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (B, H, T, S)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()  # (T, S)
    if attn_mask is not None:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    return scores.softmax(dim=-1)


def scaled_dot_product_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Tensor:
    """Average the values (B, H, S, D) by the attention weights, each dropped with probability `dropout_p`."""
    weights = F.dropout(attention_weights(q, k, attn_mask, is_causal), dropout_p)  # (B, H, T, S)
    return weights @ v  # (B, H, T, D)
