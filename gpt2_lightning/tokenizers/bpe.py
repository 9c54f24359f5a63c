"""Byte-level BPE from scratch: trained on a text, or with GPT-2's own merges."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Self

import numpy as np
import regex
from numpy.typing import NDArray

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers.bpe_training import Pair, count_words, learn_merges
from gpt2_lightning.tokenizers.byte_level import END_OF_TEXT, SPLIT_PATTERN, byte_of_character
from gpt2_lightning.tokenizers.tokenizer import Tokenizer

_BYTES = 256
_WORDS_REMEMBERED = 2**18


class BPETokenizer(Tokenizer):
    """The 256 bytes in GPT-2's order, a token for each merge, and special tokens at the end. Encodes every text.

    Args:
        merges: pairs of ids in the order in which they are applied; see `bpe_training.learn_merges`.
        special_tokens: texts with an id of their own, which `encode` finds only where it is allowed to.
    """

    kind = "bpe"

    def __init__(self, merges: Iterable[Pair], special_tokens: Sequence[str] = (END_OF_TEXT,)) -> None:
        characters = byte_of_character()
        self._tokens = [bytes([byte]) for byte in characters.values()]
        self._id_of_byte = [0] * _BYTES
        ids = {token: i for i, token in enumerate(self._tokens)}
        for token, i in ids.items():
            self._id_of_byte[token[0]] = i
        self._made_by: dict[Pair, tuple[int, int]] = {}
        """Rank of a merge, and the id that it makes."""
        for rank, pair in enumerate(merges):
            merged = self._tokens[pair[0]] + self._tokens[pair[1]]
            if merged not in ids:
                ids[merged] = len(self._tokens)
                self._tokens.append(merged)
            self._made_by[pair] = (rank, ids[merged])
        self.special_tokens = {text: len(self._tokens) + i for i, text in enumerate(special_tokens)}
        self._tokens += [text.encode() for text in special_tokens]
        self.end_of_text = self.special_tokens.get(END_OF_TEXT)
        self._split = regex.compile(SPLIT_PATTERN)
        self._encode_word = functools.lru_cache(_WORDS_REMEMBERED)(self._merge_word)

    @property
    def vocab_size(self) -> int:
        return len(self._tokens)

    def encode(self, text: str, allowed_special: Collection[str] = ()) -> NDArray[np.unsignedinteger[Any]]:
        """Ids of a text.

        Args:
            text: any text; what UTF-8 cannot hold (lone surrogates) is encoded all the same.
            allowed_special: special tokens that are found in the text; the others are text like any other.

        Raises:
            UserError: if one of them is not a special token of this tokenizer.
        """
        if unknown := [token for token in allowed_special if token not in self.special_tokens]:
            raise UserError(f"{unknown[0]!r} is no special token of this tokenizer; it has {list(self.special_tokens)}")
        ids: list[int] = []
        for part in self._parts(text, allowed_special):
            if part in allowed_special:
                ids.append(self.special_tokens[part])
            else:
                for word in self._split.findall(part):
                    ids += self._encode_word(word)
        return np.array(ids, dtype=self.dtype)

    def decode(self, ids: Sequence[int]) -> str:
        return b"".join([self._tokens[i] for i in ids]).decode(errors="replace")

    def token_bytes(self, token: int) -> bytes:
        return self._tokens[token]

    def fields(self) -> dict[str, Any]:
        return {"merges": self.merge_lines(), "special_tokens": list(self.special_tokens)}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        return cls.from_merge_lines(fields["merges"], fields["special_tokens"])

    @classmethod
    def from_merge_lines(cls, lines: Iterable[str], special_tokens: Sequence[str] = (END_OF_TEXT,)) -> Self:
        """The tokenizer of a `merges.txt` without its first line: two tokens a line, in GPT-2's visible characters."""
        ids = {character: i for i, character in enumerate(byte_of_character())}
        merges = []
        for line in lines:
            first, second = line.split(" ")
            merges.append((ids[first], ids[second]))
            ids.setdefault(first + second, len(ids))
        return cls(merges, special_tokens)

    def merge_lines(self) -> list[str]:
        """The lines of a `merges.txt` without its first, which is a version."""
        visible = {byte: character for character, byte in byte_of_character().items()}
        shown = ["".join(visible[byte] for byte in token) for token in self._tokens]
        return [f"{shown[first]} {shown[second]}" for first, second in self._made_by]

    def _parts(self, text: str, allowed_special: Collection[str]) -> list[str]:
        if not allowed_special:
            return [text]
        longest_first = sorted(allowed_special, key=len, reverse=True)
        return regex.split(f"({'|'.join(map(regex.escape, longest_first))})", text)

    def _merge_word(self, word: str) -> list[int]:
        """Apply the merges to one word: always the earliest one that fits, from left to right.

        The word is a linked list, and a heap holds the merges that may fit, so that a word of n bytes takes n log n.
        """
        ids = [self._id_of_byte[byte] for byte in word.encode(errors="surrogatepass")]
        following = [*range(1, len(ids)), -1]
        preceding = list(range(-1, len(ids) - 1))
        heap: list[tuple[int, int]] = []

        def offer(place: int) -> None:
            made = self._made_by.get((ids[place], ids[following[place]]))
            if made:
                heapq.heappush(heap, (made[0], place))

        for place in range(len(ids) - 1):
            offer(place)
        while heap:
            rank, place = heapq.heappop(heap)
            after = following[place]
            made = self._made_by.get((ids[place], ids[after])) if after >= 0 and ids[place] >= 0 else None
            if made is None or made[0] != rank:
                continue  # one of the two has been merged with another since
            ids[place], ids[after] = made[1], -1
            following[place] = following[after]
            if following[place] >= 0:
                preceding[following[place]] = place
                offer(place)
            if preceding[place] >= 0:
                offer(preceding[place])
        return [i for i in ids if i >= 0]


def from_corpus(text: str, vocab_size: int = 2048) -> BPETokenizer:
    """A tokenizer trained on a text, with the end of text as its one special token.

    Args:
        text: what to learn the merges from.
        vocab_size: tokens in all; fewer are made where the text has no pair left to merge.

    Raises:
        UserError: if there is no room for the bytes and the end of text.
    """
    if vocab_size <= _BYTES:
        raise UserError(
            f"tokenizer.vocab_size: {vocab_size} is out of range, {_BYTES + 1} (bytes, end of text) or more"
        )
    return BPETokenizer(learn_merges(count_words([text]), vocab_size - 1))
