"""Trace of byte-pair encoding: the tokens of a text after each merge."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from gpt2_lightning.tokenizers.bpe import BPETokenizer


@dataclass(frozen=True)
class MergeStep:
    """The tokens of a text after a merge."""

    rank: int | None
    """Rank of the merge, from 0; None before the first merge."""
    pair: tuple[bytes, bytes] | None
    """The two tokens that were merged."""
    words: list[list[bytes]]
    """Tokens of each word of the split; concatenated, they are those of the text."""


def merge_trace(tokenizer: BPETokenizer, text: str) -> Iterator[MergeStep]:
    """Yield the bytes of a text, then its tokens after each merge that changes any, up to the result of `encode`.

    The next merge is the applicable one of the lowest rank, as within each word. With merges that were learned from a
    text, ranks only rise.
    """
    words = [tokenizer.byte_tokens(word) for word in tokenizer.words(text)]
    rank, pair = None, None
    while True:
        yield MergeStep(rank, pair, [[tokenizer.token_bytes(i) for i in word] for word in words])
        fitting = [(found[0], place) for place, word in enumerate(words) if (found := _lowest(tokenizer, word))]
        if not fitting:
            return
        rank = min(fitting)[0]
        for place in [place for found, place in fitting if found == rank]:
            pair = _merge_all(tokenizer, words[place], rank)


def _lowest(tokenizer: BPETokenizer, word: list[int]) -> tuple[int, int] | None:
    """Rank and index of the next merge in a word, the leftmost of several; None where no merge applies."""
    pairs = enumerate(itertools.pairwise(word))
    return min(((tokenizer.merges[pair][0], i) for i, pair in pairs if pair in tokenizer.merges), default=None)


def _merge_all(tokenizer: BPETokenizer, word: list[int], rank: int) -> tuple[bytes, bytes]:
    """Apply a merge in place for as long as it is the next one of the word; return the pair of tokens."""
    while (found := _lowest(tokenizer, word)) and found[0] == rank:
        i = found[1]
        first, second = word[i : i + 2]
        word[i : i + 2] = [tokenizer.merges[first, second][1]]
    return tokenizer.token_bytes(first), tokenizer.token_bytes(second)
