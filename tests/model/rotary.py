"""A positional encoding that a user adds."""

from __future__ import annotations

import torch
from torch import Tensor

from gpt2_lightning.model.positions import (
    PositionalEncoding,
)


class Rotary(PositionalEncoding):
    """RoPE (Su et al. 2021), as a user would add it."""

    def __init__(self, block_size: int, n_embd: int, head_size: int, initializer_range: float) -> None:
        super().__init__()
        self.head_size = head_size

    def rotate(self, q: Tensor, k: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        half = torch.arange(0, self.head_size, 2, dtype=q.dtype)
        angle = (positions.unsqueeze(-1) * 100 ** (-half / self.head_size)).unsqueeze(-3)
        return self._turn(q, angle), self._turn(k, angle)

    @staticmethod
    def _turn(x: Tensor, angle: Tensor) -> Tensor:
        even, odd = x[..., ::2], x[..., 1::2]
        turned = (even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos())
        return torch.stack(turned, dim=-1).flatten(-2)
