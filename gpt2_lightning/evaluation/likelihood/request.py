"""Requests for log-likelihoods, and their results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

TokenIds = NDArray[np.integer[Any]]
"""Token ids, (T,)."""


@dataclass(frozen=True)
class Request:
    """Continuations of one context, whose log-likelihoods are to be computed.

    A context with its continuation may have up to `block_size` + 1 tokens, since the last token is no input. The first
    tokens of a longer one are left out, as in lm-evaluation-harness.
    """

    context: TokenIds
    """At least one token. Views of one array share its memory."""
    continuations: tuple[TokenIds, ...]
    """At least one, each of at least one token."""


@dataclass(frozen=True)
class Likelihood:
    """Log-likelihood of one continuation."""

    log_likelihood: float
    """Sum over the tokens of the continuation, in nats."""
    is_greedy: bool
    """Whether each token of the continuation is the most likely one at its position."""
    tokens: int
    """Number of tokens of the continuation."""
    cut: int = 0
    """Number of tokens of the context that did not fit."""
