"""Layer norm, GELU and causal attention as formulas, for the reader, and for those who want the attention weights."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, packed: Tensor | None = None) -> Tensor:
    """y = x Wᵀ + b, for x (..., in), weight (out, in) and bias (out)."""
    y = x @ weight.T
    return y if bias is None else y + bias


def pack(weight: Tensor) -> Tensor | None:
    """The formula takes the weight as it is."""
    return None


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Give every token zero mean and unit variance over its channels, then scale and shift.

    y = (x - E[x]) / sqrt(Var[x] + eps) * weight + bias, with the biased variance (Ba et al. 2016, section 3.1).
    """
    mean = x.mean(dim=-1, keepdim=True)  # (..., 1)
    centred = x - mean
    variance = centred.square().mean(dim=-1, keepdim=True)  # (..., 1)
    return centred * torch.rsqrt(variance + eps) * weight + bias


def gelu(x: Tensor, kind: str = "tanh") -> Tensor:
    """x * P(N(0, 1) <= x), in the tanh approximation of GPT-2 or exact (Hendrycks and Gimpel 2016, section 2)."""
    if kind == "exact":
        return 0.5 * x * (1 + torch.erf(x / math.sqrt(2)))
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def attention_weights(q: Tensor, k: Tensor, visible: Tensor | None = None) -> Tensor:
    """How much each query token takes from each key token: softmax(q kᵀ / sqrt(D)) over those that it sees.

    Vaswani et al. 2017, equation 1.

    Args:
        q: queries, (B, H, T, D).
        k: keys, (B, H, S, D) with S >= T.
        visible: whether a query sees a key, bool, (B, 1, T, S). By default each sees what is not after it, and the last
            query stands at the last key, so that T < S after a cache.

    Returns:
        Weights of shape (B, H, T, S); every row sums to 1 and is 0 for the tokens that it does not see.
    """
    T, S = q.size(-2), k.size(-2)
    scores = q @ k.transpose(-2, -1) / math.sqrt(q.size(-1))  # (B, H, T, S)
    if visible is None:
        visible = torch.ones(T, S, dtype=torch.bool, device=q.device).tril(diagonal=S - T)
    return scores.masked_fill(~visible, float("-inf")).softmax(dim=-1)


def attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, visible: Tensor | None = None) -> Tensor:
    """Mix the values (B, H, S, D) by the attention weights, each dropped with probability `dropout`: (B, H, T, D)."""
    weights = F.dropout(attention_weights(q, k, visible), dropout)  # (B, H, T, S)
    return weights @ v
