"""Cache of keys and values, with which a new token costs one step instead of a pass over the whole text."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from gpt2_lightning.model.config import GPT2Config


class KVCache:
    """Keys and values of up to `capacity` tokens of each of `batch_size` texts in every layer, allocated once.

    Texts may have different lengths, and no row reads another one: texts may come and go at every step. To process
    prompts of different lengths in one pass, pad them at the end, then set `lengths` to the lengths without padding:
    the next tokens overwrite the padding, which is masked until then.

    Memory: 2 * n_layer * batch_size * capacity * n_embd elements.

    Args:
        config: the architecture.
        batch_size: largest number of texts.
        device: device of the model.
        dtype: dtype of the cache and of attention; it may differ from that of the weights.
        capacity: largest number of tokens of a text; `block_size` by default.
    """

    def __init__(
        self,
        config: GPT2Config,
        batch_size: int,
        device: torch.device,
        dtype: torch.dtype,
        capacity: int | None = None,
    ) -> None:
        self.capacity = config.block_size if capacity is None else capacity
        shape = (batch_size, config.n_head, self.capacity, config.head_size)
        # Zeros, since masked values are multiplied by 0 and must be finite.
        self.keys = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layer)]
        self.values = [torch.zeros(shape, device=device, dtype=dtype) for _ in range(config.n_layer)]
        self.batch_size = batch_size
        self.lengths = [0] * batch_size
        """Cached tokens of each of the current texts."""

    @property
    def longest(self) -> int:
        """Cached tokens of the longest text."""
        return max(self.lengths)

    def reset(self, texts: int | None = None) -> None:
        """Remove all tokens, and set the number of texts, by default to `batch_size`; the memory is kept."""
        self.lengths = [0] * (self.batch_size if texts is None else texts)

    def reorder(self, rows: Sequence[int]) -> None:
        """Keep the texts at these rows, in this order; a row that occurs several times is copied."""
        if len(rows) > self.batch_size:
            raise ValueError(f"{len(rows)} texts do not fit into the cache: its batch_size is {self.batch_size}")
        self.lengths = [self.lengths[row] for row in rows]
        if list(rows) == list(range(len(rows))):
            return
        index = torch.tensor(rows, device=self.keys[0].device)
        for held in (*self.keys, *self.values):
            held[: len(rows), :, : self.longest] = held[index, :, : self.longest]  # the right side is a copy

    def append(self, other: KVCache) -> None:
        """Add a copy of the only text of another cache."""
        row, (length,) = len(self.lengths), other.lengths
        if row == self.batch_size:
            raise ValueError(f"{row + 1} texts do not fit into the cache: its batch_size is {self.batch_size}")
        for held, new in zip((*self.keys, *self.values), (*other.keys, *other.values), strict=True):
            held[row, :, :length] = new[0, :, :length]
        self.lengths.append(length)

    def remove(self, row: int) -> None:
        """Remove a text; the last one takes its row."""
        length = self.lengths.pop()
        if row < len(self.lengths):
            for held in (*self.keys, *self.values):
                held[row, :, :length] = held[len(self.lengths), :, :length]
            self.lengths[row] = length

    def row(self, index: int) -> Self:
        """An empty cache of one text that shares the memory of a row; `lengths[index]` is not updated."""
        part = copy.copy(self)
        part.keys = [held[index : index + 1] for held in self.keys]
        part.values = [held[index : index + 1] for held in self.values]
        part.batch_size, part.lengths = 1, [0]
        return part

    def positions_and_mask(self, count: int) -> tuple[Tensor, Tensor | None]:
        """Positions and attention mask of the next `count` tokens of each text.

        Args:
            count: T, new tokens of each text.

        Returns:
            Positions, (T,) where all texts are equally long and else (B, T), and the mask, (B or 1, 1, T, S): a new
            token attends to the cached and new ones of its text that are not after it. The mask is None for a single
            token after texts of one length, and for the first tokens of a cache: causal attention covers these.

        Raises:
            ValueError: if they exceed the capacity.
        """
        if self.longest + count > self.capacity:
            raise ValueError(f"{self.longest + count} tokens do not fit into the cache: it holds {self.capacity}")
        device = self.keys[0].device
        start = self._common_length()
        if start is not None:
            positions = torch.arange(start, start + count, device=device)  # (T,)
            if start == 0 or count == 1:
                return positions, None
        else:
            lengths = torch.tensor(self.lengths, device=device).unsqueeze(1)  # (B, 1)
            positions = lengths + torch.arange(count, device=device)  # (B, T)
        keys = torch.arange(self.longest + count, device=device)  # (S,)
        return positions, (keys <= positions.unsqueeze(-1)).view(-1, 1, count, len(keys))

    def layers(self, positions: Tensor, end: int | None = None) -> list[LayerCache]:
        """Views of each layer, to be updated at the positions that `positions_and_mask` returned.

        Args:
            positions: positions of the new tokens, (T,) or (B, T).
            end: S, keys of a text to which they attend; up to the last new token by default.
        """
        texts, end = len(self.lengths), end or self.longest + positions.size(-1)
        index = positions[:, None, :, None] if positions.dim() == 2 else None
        keys, values = (
            held if texts == self.batch_size else [layer[:texts] for layer in held] for held in (self.keys, self.values)
        )
        return [LayerCache(k, v, end, index) for k, v in zip(keys, values, strict=True)]

    def advance(self, count: int) -> None:
        """Add `count` to the lengths, after all layers have been updated."""
        self.lengths = [length + count for length in self.lengths]

    def _common_length(self) -> int | None:
        return self.lengths[0] if len(set(self.lengths)) == 1 else None


@dataclass(frozen=True)
class LayerCache:
    """A view of one layer's keys and values, (B, H, capacity, D) each."""

    keys: Tensor
    values: Tensor
    end: int
    """S: keys to which the new tokens attend, with their own."""
    index: Tensor | None
    """Positions of the new tokens, (B, 1, T, 1); None for the last ones before `end`."""

    def update(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v, (B, H, T, D), and return all keys and values, (B, H, S, D)."""
        for held, new in ((self.keys, k), (self.values, v)):
            if self.index is None:
                held.narrow(2, self.end - new.size(2), new.size(2)).copy_(new)
            else:
                held.scatter_(2, self.index.expand_as(new), new.to(held.dtype))
        return self.keys.narrow(2, 0, self.end), self.values.narrow(2, 0, self.end)
