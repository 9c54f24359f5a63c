"""Positional encodings. To add one: a class here, its name in `POSITIONS`, and a YAML in `conf/model` that names it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn


class PositionalEncoding(nn.Module):
    """Base class of positional encodings: subclasses override `forward`, `rotate` or both.

    Encodings are made with (block_size, n_embd, head_size, initializer_range) of `GPT2Config`. Those that add to the
    attention scores have no hook.
    """

    def forward(self, positions: Tensor) -> Tensor | float:
        """What is added to the token embeddings at positions (T,) or (B, T): (T, C) or (B, T, C), or 0."""
        return 0.0

    def rotate(self, q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate the queries and keys (B, H, T, D) of every block, for tokens at positions (T,) or (B, T)."""
        return q, k


def learned(block_size: int, n_embd: int, head_size: int, initializer_range: float) -> nn.Module:
    """A trained vector for each position, as in GPT-2 (Radford et al. 2019)."""
    weight = nn.init.normal_(torch.empty(block_size, n_embd), std=initializer_range)
    return nn.Embedding.from_pretrained(weight, freeze=False)


class SinusoidalPositions(PositionalEncoding):
    """Sines and cosines of geometrically growing wavelengths (Vaswani et al. 2017, section 3.5).

    The paper adds them to token embeddings of about their own size. GPT-2's start at `initializer_range`, so the table
    is scaled to that root mean square; unscaled it would dominate the tokens.
    """

    table: Tensor

    def __init__(self, block_size: int, n_embd: int, head_size: int, initializer_range: float) -> None:
        super().__init__()
        position = torch.arange(block_size).unsqueeze(1)  # (block_size, 1)
        channel = torch.arange(0, n_embd, 2)  # (ceil(C / 2),)
        angle = position * torch.exp(-math.log(10000.0) * channel / n_embd)
        waves = torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, :n_embd]  # (block_size, C)
        self.register_buffer("table", waves * initializer_range * math.sqrt(2))

    def forward(self, positions: Tensor) -> Tensor:
        return self.table[positions]


POSITIONS: dict[str, Callable[[int, int, int, float], nn.Module]] = {
    "learned": learned,
    "sinusoidal": SinusoidalPositions,
}
