"""Positional encodings. To add one: a class here, its name in `POSITIONS`, and a YAML in `conf/model` that names it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from gpt2_lightning.model.config import GPT2Config


class PositionalEncoding(nn.Module):
    """Tells the network where a token stands; a subclass overrides one method or both."""

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        """Called once, on the token embeddings x (B, T, C) that stand at positions (T,) or (B, T)."""
        return x

    def rotate(self, q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """Called in every block, on the queries and keys (B, H, T, D) of the tokens at positions (T,) or (B, T).

        For rotary encodings. Encodings that add to the attention scores have no hook.
        """
        return q, k


class LearnedPositions(PositionalEncoding):
    """A trained vector for each position, as in GPT-2 (Radford et al. 2019)."""

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(config.block_size, config.n_embd))
        nn.init.normal_(self.weight, std=config.initializer_range)

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + self.weight[positions]


class SinusoidalPositions(PositionalEncoding):
    """Sines and cosines of geometrically growing wavelengths (Vaswani et al. 2017, section 3.5).

    There they meet token embeddings of about their own size. GPT-2's start at `initializer_range`, so the table is
    scaled to that root mean square; unscaled it would drown the tokens.
    """

    table: Tensor

    def __init__(self, config: GPT2Config) -> None:
        super().__init__()
        position = torch.arange(config.block_size).unsqueeze(1)  # (block_size, 1)
        channel = torch.arange(0, config.n_embd, 2)  # (ceil(C / 2),)
        angle = position * torch.exp(-math.log(10000.0) * channel / config.n_embd)
        waves = torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(1)[:, : config.n_embd]  # (block_size, C)
        self.register_buffer("table", waves * config.initializer_range * math.sqrt(2))

    def embed(self, x: Tensor, positions: Tensor) -> Tensor:
        return x + self.table[positions]


POSITIONS: dict[str, type[PositionalEncoding]] = {
    "learned": LearnedPositions,
    "sinusoidal": SinusoidalPositions,
}
