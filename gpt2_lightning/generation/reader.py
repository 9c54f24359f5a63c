"""Logits of texts that grow: prompts of different lengths, the KV cache, and the sliding window."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gpt2_lightning.errors import UserError
from gpt2_lightning.generation.history import History
from gpt2_lightning.model import GPT2, KVCache


class Reader:
    """Computes the next-token logits of a batch of texts, which grow by a token each at every step.

    Logits of a text do not depend on the other texts: prompts are padded at the end, where padding is masked, and every
    text has its own positions.

    Past `block_size` the context is a sliding window. GPT-2's positions are absolute: when the window moves, all keys
    and values in it change, and moving it at every token would cost a pass over the whole window each time. So when it
    is full, its last three quarters are recomputed from position 0, and the cache is used until it is full again.

    Args:
        model: in evaluation mode.
        prompts: ids of each, (T,), T >= 1.
        rows: largest number of texts at a time.
        max_new_tokens: largest number of new tokens of a text.
        on_slide: called when a window slides for the first time.

    Raises:
        UserError: if a prompt is empty or has ids outside the vocabulary.
    """

    def __init__(
        self,
        model: GPT2,
        prompts: Sequence[Tensor],
        rows: int,
        max_new_tokens: int,
        on_slide: Callable[[], None] | None = None,
    ) -> None:
        check_prompts(prompts, model.config.vocab_size)
        weight = model.wte.weight
        self.model = model
        self.history = History([prompt.to(weight.device) for prompt in prompts])
        needed = self.history.ids.size(1) + max_new_tokens
        capacity = model.config.block_size if model.decode_step else min(model.config.block_size, needed)
        self.cache = KVCache(model.config, rows, weight.device, cache_dtype(weight), capacity)
        self._on_slide = on_slide

    def start(self) -> Tensor:
        """Process the prompts, of longer ones the last `block_size` tokens: next-token logits (P, V)."""
        lengths = self.history.lengths.clamp(max=self.model.config.block_size)  # (P,)
        windows = [self.history.last(row, length) for row, length in enumerate(lengths.tolist())]
        self.cache.reset(len(windows))
        features = self.model.features(pad_sequence(windows, batch_first=True), cache=self.cache)  # (P, T, C)
        self.cache.lengths = lengths.tolist()
        return self.model.lm_head(features[torch.arange(len(windows), device=features.device), lengths - 1])

    def read(self, ids: Tensor) -> Tensor:
        """Append one id (R,) to each text: next-token logits (R, V)."""
        for row in self.full_rows:
            self.slide(row)
        self.history.add(ids)
        return self.model.lm_head(self.model.features(ids.unsqueeze(1), cache=self.cache)[:, -1])

    @property
    def full_rows(self) -> list[int]:
        """Rows whose window has to slide before the next id is read."""
        return [row for row, length in enumerate(self.cache.lengths) if length == self.model.config.block_size]

    def keep(self, rows: Sequence[int]) -> None:
        """Keep the texts of these rows, in this order; a row that occurs several times is copied."""
        self.cache.reorder(rows)
        self.history.keep(rows)

    def slide(self, row: int) -> None:
        """Move the window of a full row."""
        kept = 3 * self.model.config.block_size // 4
        if kept:  # a context of one token keeps none
            self.model.features(self.history.last(row, kept).unsqueeze(0), cache=self.cache.row(row))
        self.cache.lengths[row] = kept
        if self._on_slide is not None:
            self._on_slide()
            self._on_slide = None


def cache_dtype(weight: Tensor) -> torch.dtype:
    """The dtype of the weights, but float32 for half precision on a CPU, where attention is much faster in it."""
    is_half = weight.dtype in (torch.bfloat16, torch.float16)
    return torch.float32 if is_half and weight.device.type == "cpu" else weight.dtype


def check_prompts(prompts: Sequence[Tensor], vocab_size: int) -> None:
    """Refuse prompts that the model cannot read.

    Raises:
        UserError: if a prompt is empty or has ids outside the vocabulary.
    """
    for number, prompt in enumerate(prompts, start=1):
        if not len(prompt):
            raise UserError(f"prompt {number} has no tokens: there must be one to start from")
        least, most = int(prompt.min()), int(prompt.max())
        if least < 0 or most >= vocab_size:
            wrong = least if least < 0 else most
            raise UserError(
                f"prompt {number} has the id {wrong}, but the model's vocabulary has ids 0 to {vocab_size - 1}: "
                "it was encoded by another tokenizer"
            )
