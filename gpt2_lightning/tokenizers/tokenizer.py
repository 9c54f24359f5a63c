"""What every tokenizer can do."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray


class Tokenizer(ABC):
    """A reversible map between text and sequences of ids below `vocab_size`."""

    kind: ClassVar[str]
    """Name of the class in saved tokenizers."""
    cuts_at_spaces: ClassVar[bool]
    """Whether a text may be cut before any space or line feed that follows a character which is no white space
    (`str.isspace`): the ids of the whole are then those of the parts, one after the other."""
    end_of_text: int | None = None
    """Id of the token that ends a document, where there is one."""

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """Number of distinct ids."""

    @abstractmethod
    def encode(self, text: str) -> NDArray[np.unsignedinteger[Any]]:
        """Ids of a text, in the smallest of uint16 and uint32 that holds every id.

        Raises:
            UserError: naming what has no id and where it stands.
        """

    def encode_batch(self, texts: Sequence[str]) -> list[NDArray[np.unsignedinteger[Any]]]:
        """Ids of each of several texts, as `encode` gives them; on several threads, where a library offers that."""
        return [self.encode(text) for text in texts]

    @abstractmethod
    def decode(self, ids: Sequence[int]) -> str:
        """The text of ids. Bytes that are no UTF-8 become U+FFFD."""

    @abstractmethod
    def token_bytes(self, token: int) -> bytes:
        """The bytes that a token stands for, which need not be whole characters."""

    @abstractmethod
    def fields(self) -> dict[str, Any]:
        """Plain values that rebuild this tokenizer through `from_fields`."""

    @classmethod
    @abstractmethod
    def from_fields(cls, fields: dict[str, Any]) -> Self:
        """The tokenizer that `fields` describes."""

    @property
    def dtype(self) -> type[np.unsignedinteger[Any]]:
        """The smallest of uint16 and uint32 that holds every id."""
        return np.uint16 if self.vocab_size <= 2**16 else np.uint32

    def to_text(self) -> str:
        """This tokenizer as text, for a checkpoint; `tokenizer_from_text` reads it."""
        return json.dumps({"kind": self.kind, **self.fields()}, sort_keys=True)

    def hash(self) -> str:
        """SHA-256 of `to_text`: equal for tokenizers that do the same."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()
