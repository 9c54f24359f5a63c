"""The loss of a language model."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

IGNORED = -100
"""A target that carries no loss."""


def cross_entropy(logits: Tensor, targets: Tensor, reduction: str = "mean") -> Tensor:
    """Negative log-likelihood of the targets, in nats per token, computed in float32.

    Args:
        logits: (B, T, V).
        targets: (B, T); positions that hold -100 do not count.
        reduction: `mean` over the tokens that count, or `sum`.
    """
    return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=IGNORED, reduction=reduction)
