"""How the next token is chosen."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Sampling:
    """Settings of one generation, in Hugging Face's order: temperature, then top-k.

    Raises:
        ValueError: with every setting that is out of range, a line each, as "field: what is wrong".
    """

    max_new_tokens: int = 200
    """Tokens to add, at most."""
    temperature: float = 0.8
    """Divides the logits: below 1 is safer, above 1 is wilder, 0 always takes the likeliest token."""
    top_k: int | None = None
    """Choose among this many of the likeliest tokens; all of them where it is null."""
    seed: int = 0
    """The same seed gives the same text."""

    def __post_init__(self) -> None:
        faults = []
        if self.max_new_tokens < 1:
            faults.append(f"max_new_tokens: {self.max_new_tokens} is out of range, 1 or more is allowed")
        if not self.temperature >= 0:
            faults.append(f"temperature: {self.temperature} is out of range, 0 or more is allowed")
        if self.top_k is not None and self.top_k < 1:
            faults.append(f"top_k: {self.top_k} is out of range, 1 or more is allowed")
        if not 0 <= self.seed < 2**63:
            faults.append(f"seed: {self.seed} is out of range, 0 up to (not including) 2**63 is allowed")
        if faults:
            raise ValueError("\n".join(faults))


def choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> Tensor:
    """One token id for each row of logits (B, V): ids of shape (B,).

    Logits equal to the k-th largest all stay, as in Hugging Face's TopKLogitsWarper.
    """
    if sampling.temperature == 0:
        return logits.argmax(dim=-1)
    logits = logits.float() / sampling.temperature
    if sampling.top_k is not None:
        smallest_kept = logits.topk(min(sampling.top_k, logits.size(-1))).values[:, -1:]  # (B, 1)
        logits = logits.masked_fill(logits < smallest_kept, float("-inf"))
    return torch.multinomial(logits.softmax(dim=-1), num_samples=1, generator=generator).squeeze(1)
