"""Interface of a corpus of documents, divided into pieces that are read independently as streams of text."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import Advice, NonNegativeInt, PositiveInt, ProperShare, Settings, relation

Split = Literal["train", "val"]
_SHOWN = 10
"""Number of bad rows that a message lists; the others are counted."""
Documents = Literal["joined", "masked", "separate"]
"""Treatment of document boundaries in training."""


class Piece(Protocol):
    """A part of a corpus that one process encodes; opaque except to its corpus."""

    @property
    def size(self) -> int:
        """Approximate number of bytes to read, for progress."""
        ...


@dataclass(frozen=True)
class Segment:
    """A part of one document. A document is divided only before a space or line feed that follows a word."""

    text: str
    split: Split
    ends_document: bool = True


@dataclass(frozen=True)
class BadRow:
    """A row that cannot be read as a document."""

    where: str
    """File and row number."""
    reason: str


@dataclass
class BadRows:
    """Number of bad rows, and descriptions of the first ones."""

    count: int = 0
    shown: list[str] = field(default_factory=list)

    def add(self, row: BadRow) -> None:
        """Count a row."""
        self.count += 1
        if self.count <= _SHOWN:
            self.shown.append(f"{row.where}: {row.reason}")

    def error(self) -> UserError:
        """Return the error that lists the rows."""
        more = f"\n  and {self.count - _SHOWN} more" if self.count > _SHOWN else ""
        listed = "\n  ".join(self.shown[:_SHOWN])
        return UserError(
            f"{self.count} rows are no documents; mend them, leave them out or name another data.field:\n"
            f"  {listed}{more}"
        )


@dataclass(frozen=True, kw_only=True)
class CorpusSettings(Settings):
    """Settings common to all corpora of documents.

    Raises:
        ValueError: with every setting that is out of range.
    """

    val_fraction: Annotated[ProperShare, Advice("to train on all, name other text to validate on with val_path")] = 0.1
    """Share held out for validation if the corpus has no separate validation part: with 0.1 every tenth document; of
    fewer than ten text files, the last tenth of each, from the end of a word."""
    limit: PositiveInt | None = None
    """Maximum number of documents, taken from the start; also of a separate validation part."""
    shard: NonNegativeInt | None = None
    """Index, from 0, of the only one of `num_shards` parts to prepare; null for all parts."""
    num_shards: PositiveInt = 1
    """Number of parts for preparation on several machines. It does not affect the result."""
    documents: Documents = "joined"
    """Treatment of document boundaries: `joined`, windows and attention cross them, as in GPT-2's training; `masked`,
    attention and positions are restricted to a document; `separate`, a window contains one document only."""

    @relation
    def _shard_exists(self) -> Iterator[str]:
        if self.shard is not None and self.shard >= self.num_shards:
            yield f"shard: {self.shard} is out of range, 0 to {self.num_shards - 1} is allowed"


@dataclass(frozen=True, kw_only=True)
class Corpus(CorpusSettings, ABC):
    """Local documents for training and validation."""

    @abstractmethod
    def pieces(self, whole_documents: bool) -> list[Piece]:
        """Divide the corpus into pieces, identically on every machine and for every `shard`.

        Args:
            whole_documents: whether to keep each document in one piece.

        Raises:
            UserError: if the corpus is empty.
        """

    @abstractmethod
    def read(self, piece: Any) -> Iterator[Segment | BadRow]:
        """Yield the segments of a piece in order.

        Raises:
            UserError: if the piece cannot be read.
        """

    @abstractmethod
    def fingerprint(self, cache_dir: Path) -> str:
        """Return the SHA-256, in hexadecimal, of everything that determines the documents and their order."""

    @property
    @abstractmethod
    def several_documents(self) -> bool:
        """Whether the training text has document boundaries."""

    @property
    def prepares_itself(self) -> bool:
        """Whether training may prepare this corpus automatically, since it takes minutes only."""
        return True

    def settings(self) -> dict[str, Any]:
        """Return the settings that determine the documents and their order, without locations, machines and limits."""
        elsewhere = {"shard", "num_shards", "documents", "path", "val_path", "max_ratio"}
        return {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in elsewhere}

    def training_text(self) -> Iterator[str]:
        """Yield the training text in order.

        Raises:
            UserError: at its end, if rows cannot be read as documents.
        """
        return self._texts_of(("train",))

    def all_text(self) -> Iterator[str]:
        """Yield the training and the validation text in order; see `training_text`."""
        return self._texts_of(("train", "val"))

    def _texts_of(self, splits: tuple[Split, ...]) -> Iterator[str]:
        bad = BadRows()
        for piece in self.pieces(whole_documents=False):
            for segment in self.read(piece):
                if isinstance(segment, BadRow):
                    bad.add(segment)
                elif segment.split in splits:
                    yield segment.text
        if bad.count:
            raise bad.error()


def split_of(place: int, val_fraction: float) -> Split:
    """Return the split of the document at an index: validation documents are evenly spaced, and never the first."""
    share = _exact(val_fraction)
    before, after = (count * share.numerator // share.denominator for count in (place, place + 1))
    return "val" if after > before else "train"


@functools.cache
def _exact(share: float) -> Fraction:
    """Return the exact decimal fraction, not its nearest binary float."""
    return Fraction(repr(share))
