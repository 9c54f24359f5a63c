"""Encoding watched: what each merge makes of a text."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from gpt2_lightning.tokenizers.bpe import BPETokenizer


@dataclass(frozen=True)
class Step:
    """The tokens of a text after a merge."""

    rank: int | None
    """Which merge it was, counted from 0; None at the beginning."""
    pair: tuple[bytes, bytes] | None
    """The two tokens that it joined."""
    words: list[list[bytes]]
    """The tokens of each word of the split; all of them in a row are those of the text."""


def merge_steps(tokenizer: BPETokenizer, text: str) -> Iterator[Step]:
    """The single bytes of a text, then its tokens after each merge that changes any, up to what `encode` makes of it.

    The merge with the lowest rank that fits anywhere comes next, as in each word alone. With merges that were learned
    from a text, ranks only rise.
    """
    words = [tokenizer.byte_tokens(word) for word in tokenizer.words(text)]
    rank, pair = None, None
    while True:
        yield Step(rank, pair, [[tokenizer.token_bytes(i) for i in word] for word in words])
        fitting = [(found[0], place) for place, word in enumerate(words) if (found := _lowest(tokenizer, word))]
        if not fitting:
            return
        rank = min(fitting)[0]
        for place in [place for found, place in fitting if found == rank]:
            pair = _merge_all(tokenizer, words[place], rank)


def _lowest(tokenizer: BPETokenizer, word: list[int]) -> tuple[int, int] | None:
    """Rank and place of the merge that comes next in a word; the leftmost one, where it fits several times."""
    pairs = enumerate(itertools.pairwise(word))
    return min(((tokenizer.merges[pair][0], i) for i, pair in pairs if pair in tokenizer.merges), default=None)


def _merge_all(tokenizer: BPETokenizer, word: list[int], rank: int) -> tuple[bytes, bytes]:
    """Apply a merge, in place, for as long as it is the word's next one; the pair that it joins."""
    while (found := _lowest(tokenizer, word)) and found[0] == rank:
        i = found[1]
        first, second = word[i : i + 2]
        word[i : i + 2] = [tokenizer.merges[first, second][1]]
    return tokenizer.token_bytes(first), tokenizer.token_bytes(second)
