"""Interface of tokenizers."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers.byte_level import END_OF_TEXT


class Tokenizer(ABC):
    """A reversible map between text and sequences of ids below `vocab_size`."""

    kind: ClassVar[str]
    """Name of the class in saved tokenizers."""
    cuts_at_spaces: ClassVar[bool]
    """Whether a text may be split before any space or line feed that follows a character other than white space
    (`str.isspace`): the ids of the whole are then the concatenation of those of the parts."""
    end_of_text: int | None = None
    """Id of the token that ends a document, if any."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of distinct ids."""

    @abstractmethod
    def encode(self, text: str) -> NDArray[np.unsignedinteger[Any]]:
        """Ids of a text, in the smallest of uint16 and uint32 that holds every id.

        Raises:
            UserError: naming characters without an id, and their positions.
        """

    def encode_with_special_tokens(self, text: str) -> NDArray[np.unsignedinteger[Any]]:
        """Ids of a text in which the names of special tokens, such as `<|endoftext|>`, are encoded as these tokens.

        For `encode` they are ordinary text; the tokenizers of transformers recognize them unless
        `split_special_tokens=True`.

        Raises:
            UserError: see `encode`.
        """
        if self.end_of_text is None:
            return self.encode(text)
        end = np.array([self.end_of_text], dtype=self.dtype)
        first, *others = (self.encode(part) for part in text.split(END_OF_TEXT))
        return np.concatenate([first, *(ids for part in others for ids in (end, part))])

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.unsignedinteger[Any]]]:
        """Ids of several texts, equal to those of `encode`; on several threads where a library supports it."""
        return [self.encode(text) for text in texts]

    def encodes(self, text: str) -> bool:
        """Whether every character of a text has an id."""
        try:
            self.encode(text)
        except UserError:
            return False
        return True

    @property
    def unknown_counts(self) -> Counter[str]:
        """Numbers of the characters without an id in the texts that were encoded since `take_note`."""
        return Counter()

    def take_note(self) -> str | None:
        """Return a sentence about `unknown_counts` for the user, and clear them; None if there are none."""
        return None

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids. Invalid UTF-8 becomes U+FFFD."""

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """Bytes of a token, which may be incomplete characters."""

    @abstractmethod
    def fields(self) -> dict[str, Any]:
        """Plain values from which `from_fields` restores this tokenizer."""

    @classmethod
    @abstractmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """Restore a tokenizer from its `fields`."""

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        """The smallest of uint16 and uint32 that holds every id."""
        return np.uint16 if self.vocab_size <= 2**16 else np.uint32

    def to_text(self) -> str:
        """Serialize this tokenizer as text, for `tokenizer_from_text`."""
        return json.dumps({"kind": self.kind, **self.fields()}, sort_keys=True)

    def hash(self) -> str:
        """SHA-256 of `to_text`: equal for equal tokenizers."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()
