"""Metrics of language models, computed from the loss in nats per token."""

from __future__ import annotations

import math

LARGEST_EXPONENT = 700.0
"""Losses above it have the perplexity exp(700), about 1e304."""


def perplexity(loss: float) -> float:
    """Perplexity, exp(loss): the number of equally likely tokens with the same entropy (Jelinek et al. 1977)."""
    return math.exp(min(loss, LARGEST_EXPONENT))


def bits_per_byte(loss: float, bytes_per_token: float) -> float:
    """Bits per byte of text: comparable between tokenizers, unlike the loss per token (Gao et al. 2020, section 3.1).

    Args:
        loss: loss in nats per token.
        bytes_per_token: mean number of UTF-8 bytes per token of the same text.
    """
    return loss / math.log(2) / bytes_per_token
