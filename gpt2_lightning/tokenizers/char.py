"""One token for each character of the training text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers.tokenizer import Tokenizer

_SHOWN = 10


class CharTokenizer(Tokenizer):
    """Ids in the order of code points. Characters outside the alphabet are an error."""

    kind = "char"

    def __init__(self, alphabet: str) -> None:
        if not alphabet:
            raise UserError("a character tokenizer needs a text with at least one character")
        self.alphabet = "".join(sorted(set(alphabet)))
        self._codes = _code_points(self.alphabet)

    @property
    def vocab_size(self) -> int:
        return len(self.alphabet)

    def encode(self, text: str) -> NDArray[np.unsignedinteger[Any]]:
        codes = _code_points(text)
        ids = np.searchsorted(self._codes, codes)
        known = self._codes[np.minimum(ids, len(self._codes) - 1)] == codes
        if not known.all():
            raise UserError(_describe_unknown(text, np.flatnonzero(~known)))
        return ids.astype(self.dtype)

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self.alphabet[i] for i in ids)

    def token_bytes(self, token: int) -> bytes:
        return self.alphabet[token].encode(errors="surrogatepass")

    def fields(self) -> dict[str, Any]:
        return {"alphabet": self.alphabet}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        return cls(fields["alphabet"])


def from_corpus(text: str) -> CharTokenizer:
    """A tokenizer for the characters of a text."""
    return CharTokenizer(text)


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
        "leave these characters out, or use tokenizer=gpt2, which encodes any text"
    )
