"""Byte-level BPE (Sennrich et al. 2016), trained on a text or with given merges."""

from __future__ import annotations

import functools
import heapq
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Self

import numpy as np
import regex
from numpy.typing import NDArray

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers.bpe_arrays import ArrayMerger
from gpt2_lightning.tokenizers.bpe_training import Pair, count_words, learn_merges
from gpt2_lightning.tokenizers.byte_level import END_OF_TEXT, SPLIT_PATTERN, byte_of_character
from gpt2_lightning.tokenizers.tokenizer import Tokenizer

_BYTES = 256
_WORDS_REMEMBERED = 2**18
_LONGEST_REMEMBERED = 2**8
_MERGED_IN_ARRAYS = 2**17
"""Bytes from which the overhead of a merge in arrays is smaller than that of a merge in lists."""


class BPETokenizer(Tokenizer):
    """Byte-level BPE tokenizer that encodes every text.

    Ids are those of the 256 bytes in GPT-2's order, followed by one per merge and one per special token.

    Args:
        merges: pairs of ids in order of precedence; see `bpe_training.learn_merges`.
        special_tokens: special tokens in the order of their ids; `encode` recognizes only those that are allowed.
    """

    kind = "bpe"
    cuts_at_spaces = True

    def __init__(self, merges: Iterable[Pair], special_tokens: Sequence[str] = (END_OF_TEXT,)) -> None:
        characters = byte_of_character()
        self._tokens = [bytes([byte]) for byte in characters.values()]
        self._id_of_byte = [0] * _BYTES
        ids = {token: i for i, token in enumerate(self._tokens)}
        for token, i in ids.items():
            self._id_of_byte[token[0]] = i
        self.merges: dict[Pair, tuple[int, int]] = {}
        """Rank and resulting id of each merge."""
        for rank, pair in enumerate(merges):
            merged = self._tokens[pair[0]] + self._tokens[pair[1]]
            if merged not in ids:
                ids[merged] = len(self._tokens)
                self._tokens.append(merged)
            self.merges[pair] = (rank, ids[merged])
        self.special_tokens = {text: len(self._tokens) + i for i, text in enumerate(special_tokens)}
        self._tokens += [text.encode() for text in special_tokens]
        self.end_of_text = self.special_tokens.get(END_OF_TEXT)
        self._split = regex.compile(SPLIT_PATTERN)
        self._encode_word = functools.lru_cache(_WORDS_REMEMBERED)(self._merge_word)

    @property
    def vocab_size(self) -> int:
        return len(self._tokens)

    def encode(self, text: str, allowed_special: Collection[str] = ()) -> NDArray[np.unsignedinteger[Any]]:
        """Encode a text.

        Args:
            text: any text, including lone surrogates.
            allowed_special: special tokens to recognize in the text; others are encoded as ordinary text.

        Raises:
            UserError: if `allowed_special` contains a token that is not a special token of this tokenizer.
        """
        if unknown := [token for token in allowed_special if token not in self.special_tokens]:
            raise UserError(f"{unknown[0]!r} is no special token of this tokenizer; it has {list(self.special_tokens)}")
        ids: list[int] = []
        for part in self._parts(text, allowed_special):
            if part in allowed_special:
                ids.append(self.special_tokens[part])
            else:
                for word in self.words(part):
                    ids += self._encode_word(word) if len(word) <= _LONGEST_REMEMBERED else self._merge_long_word(word)
        return np.array(ids, dtype=self.dtype)

    def encode_with_special_tokens(self, text: str) -> NDArray[np.unsignedinteger[Any]]:
        return self.encode(text, self.special_tokens)

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
        """Create a tokenizer from the lines of a `merges.txt` without its version line: two tokens per line, in GPT-2's
        visible characters."""
        ids = {character: i for i, character in enumerate(byte_of_character())}
        merges = []
        for line in lines:
            first, second = line.split(" ")
            merges.append((ids[first], ids[second]))
            ids.setdefault(first + second, len(ids))
        return cls(merges, special_tokens)

    def merge_lines(self) -> list[str]:
        """Return the lines of a `merges.txt` without its version line."""
        visible = {byte: character for character, byte in byte_of_character().items()}
        shown = ["".join(visible[byte] for byte in token) for token in self._tokens]
        return [f"{shown[first]} {shown[second]}" for first, second in self.merges]

    def words(self, text: str) -> list[str]:
        """Split a text into words as GPT-2 does; no merge crosses word boundaries."""
        return self._split.findall(text)

    def byte_tokens(self, word: str) -> list[int]:
        """Return the ids of a word before any merge, one per byte."""
        return [self._id_of_byte[byte] for byte in word.encode(errors="surrogatepass")]

    def _parts(self, text: str, allowed_special: Collection[str]) -> list[str]:
        if not allowed_special:
            return [text]
        longest_first = sorted(allowed_special, key=len, reverse=True)
        return regex.split(f"({'|'.join(map(regex.escape, longest_first))})", text)

    @functools.cached_property
    def _merger(self) -> ArrayMerger:
        return ArrayMerger(self.merges)

    def _merge_long_word(self, word: str) -> list[int]:
        ids = self.byte_tokens(word)
        in_arrays = len(ids) >= _MERGED_IN_ARRAYS and self.merges and self._merger.ranks_rise
        return self._merger.merge(ids) if in_arrays else self._merge_word(word)

    def _merge_word(self, word: str) -> list[int]:
        """Apply the merges to a word: repeatedly that of the lowest rank, from left to right.

        The word is a linked list, and a heap contains the candidate merges, so that a word of n bytes takes O(n log n).
        """
        ids = self.byte_tokens(word)
        following = [*range(1, len(ids)), -1]
        preceding = list(range(-1, len(ids) - 1))
        heap: list[tuple[int, int]] = []

        def offer(place: int) -> None:
            made = self.merges.get((ids[place], ids[following[place]]))
            if made:
                heapq.heappush(heap, (made[0], place))

        for place in range(len(ids) - 1):
            offer(place)
        while heap:
            rank, place = heapq.heappop(heap)
            after = following[place]
            made = self.merges.get((ids[place], ids[after])) if after >= 0 and ids[place] >= 0 else None
            if made is None or made[0] != rank:
                continue  # one of the two ids was merged already
            ids[place], ids[after] = made[1], -1
            following[place] = following[after]
            if following[place] >= 0:
                preceding[following[place]] = place
                offer(place)
            if preceding[place] >= 0:
                offer(preceding[place])
        return [i for i in ids if i >= 0]


def from_corpus(
    texts: Iterable[str],
    several_documents: bool,
    vocab_size: int = 2048,
    special_tokens: Sequence[str] = (END_OF_TEXT,),
) -> BPETokenizer:
    """Train a tokenizer on a text.

    Args:
        texts: training text in pieces, read once; may be larger than memory.
        several_documents: whether the text has document boundaries, not used; `special_tokens` defines the end of text.
        vocab_size: size of the vocabulary; smaller if the text has no pairs left to merge.
        special_tokens: special tokens in the order of their ids.

    Raises:
        UserError: if a special token is empty or repeated, or the vocabulary is too small for the 256 bytes and the
            special tokens.
    """
    if len(set(special_tokens)) < len(special_tokens) or "" in special_tokens:
        raise UserError(f"tokenizer.special_tokens: {list(special_tokens)} must be different texts, none of them empty")
    least = _BYTES + len(special_tokens)
    if vocab_size < least:
        raise UserError(
            f"tokenizer.vocab_size: {vocab_size} is out of range, {least} ({_BYTES} bytes, {len(special_tokens)} "
            "special tokens) or more"
        )
    return BPETokenizer(learn_merges(count_words(texts), vocab_size - len(special_tokens)), special_tokens)
