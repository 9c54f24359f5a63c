"""Character tokenizer: one token per character of the training text."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers.byte_level import END_OF_TEXT
from gpt2_lightning.tokenizers.tokenizer import Tokenizer

Unknown = Literal["error", "skip", "replace"]
"""Handling of a character outside the alphabet: reject the text, skip it, or replace it by U+FFFD."""

REPLACEMENT = "\ufffd"
_SHOWN = 10


class CharTokenizer(Tokenizer):
    """Character tokenizer, with ids in the order of code points, followed by the end-of-text token if there is one.

    Args:
        alphabet: characters of the vocabulary, in any order; duplicates are ignored.
        unknown: handling of other characters. With `replace`, U+FFFD is added to the alphabet.
        end_of_text: whether to add an end-of-text token. No text is encoded to it; it is decoded to `<|endoftext|>`.

    Raises:
        UserError: if the alphabet is empty.
        ValueError: if `unknown` is not one of the three values.
    """

    kind = "char"
    cuts_at_spaces = True

    def __init__(self, alphabet: str, unknown: Unknown = "error", end_of_text: bool = False) -> None:
        if not alphabet:
            raise UserError("a character tokenizer needs a text with at least one character")
        if unknown not in get_args(Unknown):
            raise ValueError(f"unknown: {unknown!r} is out of range, {', '.join(get_args(Unknown))} is allowed")
        added = REPLACEMENT if unknown == "replace" else ""
        self.alphabet = "".join(sorted(set(alphabet + added)))
        self.unknown = unknown
        self.end_of_text = len(self.alphabet) if end_of_text else None
        self._tokens = [*self.alphabet, END_OF_TEXT] if end_of_text else list(self.alphabet)
        self._codes = _code_points(self.alphabet)

    @property
    def vocab_size(self) -> int:
        return len(self._tokens)

    def encode(self, text: str) -> NDArray[np.unsignedinteger[Any]]:
        codes = _code_points(text)
        ids = np.searchsorted(self._codes, codes)
        known = self._codes[np.minimum(ids, len(self._codes) - 1)] == codes
        if not known.all():
            if self.unknown == "error":
                raise UserError(_describe_unknown(text, np.flatnonzero(~known)))
            if self.unknown == "skip":
                ids = ids[known]
            else:
                ids[~known] = self.alphabet.index(REPLACEMENT)
        return ids.astype(self.dtype)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._tokens[i] for i in ids)

    def token_bytes(self, token: int) -> bytes:
        return self._tokens[token].encode(errors="surrogatepass")

    def fields(self) -> dict[str, Any]:
        return {"alphabet": self.alphabet, "unknown": self.unknown, "end_of_text": self.end_of_text is not None}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Restore a tokenizer, also from early checkpoints, which contain only the alphabet."""
        return cls(**fields)


def from_corpus(texts: Iterable[str], several_documents: bool, unknown: Unknown = "error") -> CharTokenizer:
    """Create the tokenizer of the characters of a text.

    Args:
        texts: training text in pieces, read once; may be larger than memory.
        several_documents: whether the text has document boundaries; adds an end-of-text token.
        unknown: handling of characters that do not occur in the text.

    Raises:
        UserError: if the text is empty.
    """
    occurs = np.zeros(sys.maxunicode + 1, dtype=np.bool_)
    for text in texts:
        occurs[_code_points(text)] = True
    return CharTokenizer("".join(map(chr, np.flatnonzero(occurs))), unknown, end_of_text=several_documents)


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode("utf-32-le", errors="surrogatepass"), dtype=np.uint32)


def _describe_unknown(text: str, places: NDArray[np.intp]) -> str:
    first: dict[str, int] = {}
    for place in places.tolist():
        first.setdefault(text[place], place)
    shown = [f"{c!r} (U+{ord(c):04X}) at character {place}" for c, place in list(first.items())[:_SHOWN]]
    more = f" and {len(first) - _SHOWN} more" if len(first) > _SHOWN else ""
    return (
        f"the tokenizer's alphabet, made from the training text, lacks {', '.join(shown)}{more}; "
        "take these characters out of the text, or train with tokenizer.unknown=skip (leaves them out), "
        "tokenizer.unknown=replace (puts U+FFFD in their place) or tokenizer=gpt2 (encodes any text)"
    )
