"""The interface of a corpus of documents: pieces that are read independently, each a stream of text."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from gpt2_lightning.settings import Advice, NonNegativeInt, PositiveInt, ProperShare, Settings, relation

Split = Literal["train", "val"]
Documents = Literal["joined", "masked", "separate"]
"""How training treats the boundaries between documents."""


class Piece(Protocol):
    """A part of a corpus that one process encodes. Only the corpus that made it knows what is in it."""

    @property
    def size(self) -> int:
        """About how many bytes are to be read, for progress."""
        ...


@dataclass(frozen=True)
class Segment:
    """A part of one document. Where a document has several, they meet before a space or line feed after a word."""

    text: str
    split: Split
    ends_document: bool = True


@dataclass(frozen=True)
class BadRow:
    """A row that is no document."""

    where: str
    """File and row number."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(Settings):
    """Settings of every corpus of documents.

    Raises:
        ValueError: with every setting that is out of range.
    """

    val_fraction: Annotated[ProperShare, Advice("to train on all, name other text to validate on with val_path")] = 0.1
    """Share that only validates, where the corpus has no validation part of its own: with 0.1 every tenth document; of
    fewer than ten text files, the last tenth of each."""
    limit: PositiveInt | None = None
    """Take only this many documents, the first ones; of a separate validation part as well."""
    shard: NonNegativeInt | None = None
    """Prepare only this of `num_shards` parts, counted from 0; null for all of them."""
    num_shards: PositiveInt = 1
    """Machines that share out the preparation. The result does not depend on it."""
    documents: Documents = "joined"
    """How windows treat documents: `joined` as in GPT-2's training, where windows and attention run over boundaries;
    `masked`: attention and positions stay within a document; `separate`: a window holds one document only."""

    @relation
    def _shard_exists(self) -> Iterator[str]:
        if self.shard is not None and self.shard >= self.num_shards:
            yield f"shard: {self.shard} is out of range, 0 to {self.num_shards - 1} is allowed"


@dataclass(frozen=True, kw_only=True)
class Corpus(CorpusSettings, ABC):
    """Documents for training and for validation, at hand."""

    @abstractmethod
    def pieces(self, whole_documents: bool) -> list[Piece]:
        """The same pieces on every machine, whatever `shard` is.

        Args:
            whole_documents: whether no document may be divided between pieces.

        Raises:
            UserError: if there is nothing to read.
        """

    @abstractmethod
    def read(self, piece: Any) -> Iterator[Segment | BadRow]:
        """The text of a piece, in order.

        Raises:
            UserError: if it cannot be read.
        """

    @abstractmethod
    def fingerprint(self, cache_dir: Path) -> str:
        """SHA-256, hexadecimal, of everything that decides on the documents and their order."""

    @property
    @abstractmethod
    def several_documents(self) -> bool:
        """Whether training text has boundaries between documents."""

    @property
    def prepares_itself(self) -> bool:
        """Whether training may prepare this corpus on its own, since it is done in minutes."""
        return True

    def settings(self) -> dict[str, Any]:
        """The settings that decide on the documents and their order; those of a place or a machine are left out."""
        elsewhere = {"shard", "num_shards", "documents", "path", "val_path"}
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in elsewhere}

    def training_text(self) -> Iterator[str]:
        """The training text, piece by piece."""
        for piece in self.pieces(whole_documents=False):
            for segment in self.read(piece):
                if isinstance(segment, Segment) and segment.split == "train":
                    yield segment.text


def split_of(place: int, val_fraction: float) -> Split:
    """Where the document at a place of its corpus goes: evenly spaced ones validate, the first never does."""
    share = _exact(val_fraction)
    before, after = (count * share.numerator // share.denominator for count in (place, place + 1))
    return "val" if after > before else "train"


@functools.cache
def _exact(share: float) -> Fraction:
    """The fraction that a user wrote, and not the nearest binary one."""
    return Fraction(repr(share))
