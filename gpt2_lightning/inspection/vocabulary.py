"""Statistics of a tokenizer on a text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from gpt2_lightning.tokenizers import Tokenizer

_SHOWN = 12


@dataclass(frozen=True)
class VocabularyStatistics:
    """Statistics of a tokenizer on a text, beside a reference."""

    text_bytes: int
    """Length of the text in UTF-8."""
    tokens: int
    """Length of the text in this tokenizer's tokens."""
    reference_tokens: int
    """Length of the text in tokens of the reference."""
    longest: list[bytes]
    """The longest tokens that occur, the longest first."""
    most_frequent: list[tuple[bytes, int]]
    """Tokens and their counts, in descending order."""
    unused: list[int]
    """Ids that do not occur."""

    @property
    def bytes_per_token(self) -> float:
        return self.text_bytes / self.tokens

    @property
    def reference_bytes_per_token(self) -> float:
        return self.text_bytes / self.reference_tokens


def examine(tokenizer: Tokenizer, texts: Iterable[str], reference: Tokenizer) -> VocabularyStatistics:
    """Count the tokens of a text.

    Args:
        tokenizer: the tokenizer to examine.
        texts: the text in pieces, split where both tokenizers permit it.
        reference: a tokenizer to compare with.
    """
    counts = np.zeros(tokenizer.vocab_size, dtype=np.int64)
    text_bytes = reference_tokens = 0
    for text in texts:
        counts += np.bincount(tokenizer.encode(text), minlength=tokenizer.vocab_size)
        text_bytes += len(text.encode(errors="surrogatepass"))
        reference_tokens += reference.encode(text).size
    occurring = np.flatnonzero(counts).tolist()
    by_length = sorted(occurring, key=lambda token: (-len(tokenizer.token_bytes(token)), token))
    by_count = sorted(occurring, key=lambda token: (-counts[token], token))
    return VocabularyStatistics(
        text_bytes=text_bytes,
        tokens=int(counts.sum()),
        reference_tokens=reference_tokens,
        longest=[tokenizer.token_bytes(token) for token in by_length[:_SHOWN]],
        most_frequent=[(tokenizer.token_bytes(token), int(counts[token])) for token in by_count[:_SHOWN]],
        unused=np.flatnonzero(counts == 0).tolist(),
    )
