"""Character tokenizer: one token per character of the training text."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Literal, Self, get_args

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers.byte_level import END_OF_TEXT
from gpt2_lightning.tokenizers.tokenizer import Tokenizer

Unknown = Literal["substitute", "skip", "replace", "error"]
"""Handling of a character outside the alphabet: encode it as a character of the alphabet (see
`CharTokenizer.substitute`), skip it, encode it as U+FFFD, which is added to the alphabet, or reject the text."""

REPLACEMENT = "\ufffd"
_SHOWN = 10
_SUBSTITUTES = f"{REPLACEMENT}? "
_SURROGATES = slice(0xD800, 0xE000)
_SAVED_NAMES = {"substitute": "error", "error": "strict"}
"""Names in saved tokenizers that differ from those of the setting. Tokenizers of versions whose default was `error`
substitute as well, and keep their hashes, by which prepared corpora and resumed runs refer to them."""


class CharTokenizer(Tokenizer):
    """Character tokenizer, with ids in the order of code points, followed by the end-of-text token if there is one.

    Args:
        alphabet: characters of the vocabulary, in any order; duplicates are ignored.
        unknown: handling of other characters.
        end_of_text: whether to add an end-of-text token. No text is encoded to it; it is decoded to `<|endoftext|>`.

    Raises:
        UserError: if the alphabet is empty.
        ValueError: if `unknown` is not one of its values.
    """

    kind = "char"
    cuts_at_spaces = True

    def __init__(self, alphabet: str, unknown: Unknown = "substitute", end_of_text: bool = False) -> None:
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
        self._unknown_counts: Counter[str] = Counter()

    @property
    def vocab_size(self) -> int:
        return len(self._tokens)

    @property
    def substitute(self) -> str:
        """The character that unknown ones are encoded as: the first of U+FFFD, `?` and a space that is in the alphabet,
        otherwise the first of the alphabet."""
        return next((character for character in _SUBSTITUTES if character in self.alphabet), self.alphabet[0])

    def encode(self, text: str) -> NDArray[np.unsignedinteger[Any]]:
        ids, known = self._lookup(text)
        if not known.all():
            unknown = np.flatnonzero(~known)
            if self.unknown == "error":
                raise UserError(_describe_unknown(text, unknown))
            self._unknown_counts.update(text[place] for place in unknown.tolist())
            if self.unknown == "skip":
                ids = ids[known]
            else:
                ids[unknown] = self.alphabet.index(self.substitute)
        return ids.astype(self.dtype)

    def encodes(self, text: str) -> bool:
        return bool(self._lookup(text)[1].all())

    @property
    def unknown_counts(self) -> Counter[str]:
        return self._unknown_counts

    def take_note(self) -> str | None:
        counts, self._unknown_counts = self._unknown_counts, Counter()
        if not counts:
            return None
        shown = ", ".join(repr(character) for character, _ in counts.most_common(_SHOWN))
        handled = "left out" if self.unknown == "skip" else f"replaced by {self.substitute!r}"
        if counts.total() == 1:
            return f"1 character ({shown}) is not in the tokenizer's alphabet and was {handled}"
        distinct = f"{len(counts):,} distinct: {shown}{', …' if len(counts) > _SHOWN else ''}"
        return f"{counts.total():,} characters ({distinct}) are not in the tokenizer's alphabet and were {handled}"

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(self._tokens[i] for i in ids)

    def token_bytes(self, token: int) -> bytes:
        return self._tokens[token].encode(errors="surrogatepass")

    def fields(self) -> dict[str, Any]:
        unknown = _SAVED_NAMES.get(self.unknown, self.unknown)
        return {"alphabet": self.alphabet, "unknown": unknown, "end_of_text": self.end_of_text is not None}

    @classmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Restore a tokenizer, also from early checkpoints, which contain only the alphabet."""
        names = {saved: name for name, saved in _SAVED_NAMES.items()}
        saved = fields.get("unknown", _SAVED_NAMES["substitute"])
        return cls(**{**fields, "unknown": names.get(saved, saved)})

    def _lookup(self, text: str) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the id of each character, and whether it is in the alphabet."""
        codes = _code_points(text)
        ids = np.searchsorted(self._codes, codes)
        return ids, self._codes[np.minimum(ids, len(self._codes) - 1)] == codes


def from_corpus(all_texts: Iterable[str], several_documents: bool, unknown: Unknown = "substitute") -> CharTokenizer:
    """Create the tokenizer of the characters of a text; lone surrogates are read as U+FFFD.

    Args:
        all_texts: training and validation text in pieces, read once; may be larger than memory.
        several_documents: whether the text has document boundaries; adds an end-of-text token.
        unknown: handling of characters that do not occur in the text.

    Raises:
        UserError: if the text is empty.
    """
    occurs = np.zeros(sys.maxunicode + 1, dtype=np.bool_)
    for text in all_texts:
        occurs[_code_points(text)] = True
    if occurs[_SURROGATES].any():  # JSON would join two of them in a saved alphabet
        occurs[_SURROGATES] = False
        occurs[ord(REPLACEMENT)] = True
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
        f"the tokenizer's alphabet, made from its corpus, lacks {', '.join(shown)}{more}; take these characters out of "
        "the text, or train with tokenizer.unknown=substitute (encodes them as another character), "
        "tokenizer.unknown=skip (leaves them out), tokenizer.unknown=replace (puts U+FFFD in their place) or "
        "tokenizer=gpt2 (encodes any text)"
    )
