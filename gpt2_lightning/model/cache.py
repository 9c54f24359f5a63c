"""Keys and values of the tokens already read, so that the next one costs one step and not a whole pass."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from gpt2_lightning.model.config import GPT2Config


class KVCache:
    """Room for `block_size` tokens in every layer, allocated once.

    Memory: 2 * n_layer * batch_size * block_size * n_embd elements.
    """

    def __init__(self, config: GPT2Config, batch_size: int, device: torch.device, dtype: torch.dtype) -> None:
        shape = (config.n_layer, batch_size, config.n_head, config.block_size, config.head_size)
        self.keys = torch.empty(shape, device=device, dtype=dtype)
        self.values = torch.empty(shape, device=device, dtype=dtype)
        self.length = 0
        """Tokens held so far."""

    def clear(self) -> None:
        """Forget all tokens; the memory stays."""
        self.length = 0

    def layer(self, index: int) -> LayerCache:
        """The part of one layer; it writes after `length`, which the model moves on when all layers have written."""
        return LayerCache(self.keys[index], self.values[index], self.length)


@dataclass(frozen=True)
class LayerCache:
    """A view of one layer's keys and values, (B, H, block_size, D) each, of which `length` tokens are filled."""

    keys: Tensor
    values: Tensor
    length: int

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v, (B, H, T, D), and return all that is held, (B, H, length + T, D)."""
        end = self.length + k.size(2)
        self.keys[:, :, self.length : end] = k
        self.values[:, :, self.length : end] = v
        return self.keys[:, :, :end], self.values[:, :, :end]
