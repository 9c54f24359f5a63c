"""Token ids of texts, encoded once, and their padded batches."""

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
_PAD = 0  # padding is masked, so that any valid id works


class EncodedTexts:
    """Token ids of texts, truncated to `block_size`.

    Args:
        texts: N texts.
        tokenizer: encodes the texts.
        block_size: maximum length of a text in tokens.
        add_prefix_space: whether to prepend a space to texts that do not begin with one. GPT-2's tokens include the
            space before a word, so that without it the first word of a text becomes a different token.

    Raises:
        UserError: if a text contains a character outside the tokenizer's vocabulary, or has no tokens.
    """

    def __init__(
        self, texts: Sequence[str], tokenizer: Tokenizer, block_size: int, add_prefix_space: bool = False
    ) -> None:
        if add_prefix_space:
            texts = [with_prefix_space(text) for text in texts]
        whole = _encode(texts, tokenizer)
        lengths = np.array([len(ids) for ids in whole], dtype=np.int64)
        if not lengths.all():
            raise UserError(f"{_named(texts[int(lengths.argmin())])} has no token in this tokenizer; leave it out")
        self.left_out = np.maximum(lengths - block_size, 0)
        """Number of tokens truncated from each text, (N,)."""
        self.n_cut = int(np.count_nonzero(self.left_out))
        """Number of truncated texts."""
        self.share_cut = float(1 - np.minimum(lengths, block_size).sum() / lengths.sum()) if texts else 0.0
        """Share of all tokens that was truncated."""
        self.lengths = np.minimum(lengths, block_size)
        """Length of each text in tokens after truncation, (N,)."""
        self._starts = np.cumsum(self.lengths) - self.lengths
        kept = [ids[:block_size] for ids in whole]
        self._ids = np.concatenate(kept) if kept else np.empty(0, dtype=tokenizer.dtype)

    def __len__(self) -> int:
        return len(self.lengths)

    def batch(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Return the texts of the given numbers, padded on the right to the longest of them.

        Returns:
            Token ids (B, T), int64, and the mask (B, T), bool, which is False for padding.
        """
        lengths = self.lengths[rows, None]  # (B, 1)
        columns = np.arange(lengths.max())  # (T,)
        mask = columns < lengths
        places = np.where(mask, self._starts[rows, None] + columns, 0)
        ids = np.where(mask, self._ids[places].astype(np.int64), _PAD)
        return torch.from_numpy(ids), torch.from_numpy(mask)

    def by_length(self, batch_size: int) -> list[NDArray[np.int64]]:
        """Divide all texts into batches of similar lengths, deterministically."""
        order = np.argsort(self.lengths, kind="stable")
        return [order[first : first + batch_size] for first in range(0, len(order), batch_size)]

    def by_tokens(self, most: int) -> list[NDArray[np.int64]]:
        """Divide all texts into batches of similar lengths and at most `most` tokens, padding included.

        A text of more tokens is a batch of its own.
        """
        batches: list[list[int]] = []
        for row in np.argsort(self.lengths, kind="stable").tolist():
            if not batches or (len(batches[-1]) + 1) * self.lengths[row] > most:  # the last text is the longest
                batches.append([])
            batches[-1].append(row)
        return [np.array(rows) for rows in batches]


def with_prefix_space(text: str) -> str:
    """Prepend a space to a text that does not begin with one."""
    return text if text.startswith(" ") else f" {text}"


def _encode(texts: Sequence[str], tokenizer: Tokenizer) -> list[NDArray[np.unsignedinteger[Any]]]:
    try:
        return tokenizer.encode_batch(texts)
    except UserError:
        for text in texts:  # find the text that cannot be encoded, for the message
            try:
                tokenizer.encode(text)
            except UserError as error:
                raise UserError(f"{_named(text)} cannot be encoded: {error}") from None
        raise


def _named(text: str) -> str:
    return f"the text {text[:_SHOWN]!r}{'…' if len(text) > _SHOWN else ''}"
