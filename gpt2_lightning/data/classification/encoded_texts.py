"""Texts as ids, encoded once, and padded batches of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import Tokenizer

_SHOWN = 60
_PAD = 0  # masked, so that any id will do


class EncodedTexts:
    """Ids of texts, of which the first `block_size` are kept.

    Args:
        texts: in the order of their numbers.
        tokenizer: makes the ids.
        block_size: the longest that a text may be, in tokens.
        add_prefix_space: whether a text that does not begin with a space gets one. GPT-2's token of a word holds the
            space before it, so that the first word of a text is another token without.

    Raises:
        UserError: if a text has a character that the tokenizer lacks, or no token at all.
    """

    def __init__(
        self, texts: Sequence[str], tokenizer: Tokenizer, block_size: int, add_prefix_space: bool = False
    ) -> None:
        if add_prefix_space:
            texts = [text if text.startswith(" ") else f" {text}" for text in texts]
        whole = _encode(texts, tokenizer)
        lengths = np.array([len(ids) for ids in whole], dtype=np.int64)
        if not lengths.all():
            raise UserError(f"{_named(texts[int(lengths.argmin())])} has no token in this tokenizer; leave it out")
        self.left_out = np.maximum(lengths - block_size, 0)
        """Tokens of each text that are not kept, (N,)."""
        self.n_cut = int(np.count_nonzero(self.left_out))
        """Texts that were longer."""
        self.share_cut = float(1 - np.minimum(lengths, block_size).sum() / lengths.sum()) if texts else 0.0
        """Share of all tokens that was cut off."""
        self.lengths = np.minimum(lengths, block_size)
        """Tokens of each text that are kept, (N,)."""
        self._starts = np.cumsum(self.lengths) - self.lengths
        kept = [ids[:block_size] for ids in whole]
        self._ids = np.concatenate(kept) if kept else np.empty(0, dtype=tokenizer.dtype)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Some texts, padded on the right to the longest of them.

        Returns:
            Ids (B, T), int64, and whether each is a token of the text, bool (B, T).
        """
        lengths = self.lengths[rows, None]  # (B, 1)
        columns = np.arange(lengths.max())  # (T,)
        mask = columns < lengths
        places = np.where(mask, self._starts[rows, None] + columns, 0)
        ids = np.where(mask, self._ids[places].astype(np.int64), _PAD)
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def by_length(self, batch_size: int) -> list[NDArray[np.int64]]:
        """All texts in batches of similar lengths; deterministic."""
        order = np.argsort(self.lengths, kind="stable")
        return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]


def _encode(texts: Sequence[str], tokenizer: Tokenizer) -> list[NDArray[np.unsignedinteger[Any]]]:
    try:
        return tokenizer.encode_batch(texts)
    except UserError:
        for text in texts:  # to name the one that cannot be encoded
            try:
                tokenizer.encode(text)
            except UserError as error:
                raise UserError(f"{_named(text)} cannot be encoded: {error}") from None
        raise


def _named(text: str) -> str:
    return f"the text {text[:_SHOWN]!r}{'…' if len(text) > _SHOWN else ''}"
