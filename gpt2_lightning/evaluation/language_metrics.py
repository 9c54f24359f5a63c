"""Figures of a language model, from its loss in nats per token."""

from __future__ import annotations

import math

_LARGEST_EXPONENT = 700.0


def perplexity(loss: float) -> float:
    """exp(loss): the number of equally likely tokens that would be as hard to guess (Jelinek et al. 1977)."""
    return math.exp(min(loss, _LARGEST_EXPONENT))


def bits_per_byte(loss: float, bytes_per_token: float) -> float:
    """Bits to code a byte of text: comparable between tokenizers, which a loss per token is not (Gao et al. 2020, 3.1).

    Args:
        loss: nats per token.
        bytes_per_token: mean UTF-8 bytes per token of the same text.
    """
    return loss / math.log(2) / bytes_per_token
