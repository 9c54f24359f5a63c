"""Perplexity of documents that are longer than the context of the model."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import (
    Benchmark,
    Item,
    ItemRecord,
    Items,
    Subject,
    evenly_spaced,
)
from gpt2_lightning.evaluation.benchmarks.likelihood_benchmark import require_language_model
from gpt2_lightning.evaluation.likelihood.request import Likelihood, Request
from gpt2_lightning.evaluation.likelihood.scorer import ItemError, Scorer
from gpt2_lightning.evaluation.results.intervals import perplexity, ratio
from gpt2_lightning.evaluation.results.metric import Metric
from gpt2_lightning.settings import PositiveInt, Settings

_FEWEST_DOCUMENTS = 10
"""Number of documents below which the bootstrap resamples their passages, since it needs many units."""


@dataclass(frozen=True)
class Document:
    """A text divided into windows."""

    windows: Sequence[Request]
    """May be made, and read from a file, when they are indexed."""
    tokens: int
    """Number of its tokens, whether a window predicts them or not."""
    bytes: float
    """Size of the text in UTF-8."""
    words: int | None = None
    """Number of words; None if the text is not at hand."""


@dataclass(frozen=True)
class Documents:
    """All documents of a benchmark, and where they came from."""

    documents: Sequence[Document]
    source: str
    digest: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Passage:
    """Consecutive windows of a document: an item."""

    document: int
    """Index of the document."""
    windows: Sequence[Request]
    """Those of the document."""
    first: int
    stop: int
    bytes_per_token: float
    words_per_token: float | None

    @property
    def requests(self) -> list[Request]:
        """The windows of the passage."""
        return [self.windows[number] for number in range(self.first, min(self.stop, len(self.windows)))]


@dataclass(frozen=True, kw_only=True)
class Perplexity(Settings, Benchmark):
    """Perplexity per token, word and byte. Subclasses read the documents.

    An item is a passage of about as many predicted tokens as the context has. Words and bytes are counted by document,
    and a passage has a share of them in proportion to its tokens.
    """

    stride: PositiveInt | None = None
    """Tokens from the beginning of a window to that of the next, 1 to the context of the model, as in Hugging Face's
    guide to perplexity; a small stride gives tokens more context and takes longer. Null for windows of which each
    begins with the last token of the one before, so that all tokens are predicted."""
    documents: Literal["separate", "joined"] = "separate"
    """Whether windows are restricted to a document, or cross the boundaries of documents."""
    limit: PositiveInt | None = None
    """Number of evenly spaced items to measure; null for all."""

    main: ClassVar[str] = "perplexity"
    """Name of the main metric."""

    @abstractmethod
    def read(self, subject: Subject, data_dir: Path | None) -> Documents:
        """Read the documents; see `items`."""

    def items(self, subject: Subject, data_dir: Path | None) -> Items:
        require_language_model(subject)
        block_size = subject.model.config.block_size
        if self.stride is not None and self.stride > block_size:
            raise UserError(
                f"stride: {self.stride} is longer than the context of {subject.location}, {block_size} tokens; set "
                f"stride to {block_size} or less"
            )
        subject.tokenizer.take_note()
        found = self.read(subject, data_dir)
        unknown = subject.tokenizer.take_note()
        per_item = 1 if self.stride is None else math.ceil(block_size / self.stride)
        passages = np.cumsum([math.ceil(len(document.windows) / per_item) for document in found.documents])
        if not passages[-1:].any():
            raise UserError(f"{found.source} has no token that could be predicted; use a longer text")
        chosen = evenly_spaced(range(int(passages[-1])), self.limit)
        return Items(
            [_item(found.documents, passages, number, per_item) for number in chosen],
            f"{found.source} ({_counts(found.documents)})",
            found.digest,
            (*found.notes, *([unknown] if unknown else [])),
        )

    def records(self, subject: Subject, items: Sequence[Item]) -> Iterator[ItemRecord]:
        passages: list[Passage] = [item.content for item in items]
        try:
            for index, likelihoods in Scorer(subject).score([passage.requests for passage in passages]):
                yield {"id": items[index].id, **_record(passages[index], [one for (one,) in likelihoods])}
        except ItemError as error:
            raise UserError(f"passage {items[error.item].id}: {error.reason}") from None

    def metrics(self, records: Sequence[ItemRecord]) -> list[Metric]:
        sums = _sums(records)
        loss, tokens, n_bytes = -sums["log_likelihood"], sums["tokens"], sums["bytes"]
        found = [
            perplexity("perplexity", -loss, tokens),
            ratio("loss", loss, tokens),
            ratio("bits_per_token", loss / math.log(2), tokens),
            ratio("bits_per_byte", loss / math.log(2), n_bytes),
            perplexity("byte_perplexity", -loss, n_bytes),
        ]
        if "words" in sums:
            found.append(perplexity("word_perplexity", -loss, sums["words"]))
        return sorted(found, key=lambda metric: metric.name != self.main)


def _record(passage: Passage, likelihoods: Sequence[Likelihood]) -> ItemRecord:
    """Return the record of a passage from the likelihoods of its windows."""
    tokens = sum(likelihood.tokens for likelihood in likelihoods)
    return {
        "document": passage.document,
        "log_likelihood": math.fsum(likelihood.log_likelihood for likelihood in likelihoods),
        "tokens": tokens,
        "bytes": passage.bytes_per_token * tokens,
        "words": None if passage.words_per_token is None else passage.words_per_token * tokens,
    }


def _item(documents: Sequence[Document], passages: NDArray[np.int64], number: int, per_item: int) -> Item:
    """Return an item by its number.

    Args:
        documents: all documents.
        passages: number of passages up to the end of each document.
        number: number of the passage.
        per_item: number of windows of a passage.
    """
    index = int(np.searchsorted(passages, number, side="right"))
    document = documents[index]
    place = number - (int(passages[index - 1]) if index else 0)
    first = place * per_item
    words = None if document.words is None else document.words / document.tokens
    content = Passage(index, document.windows, first, first + per_item, document.bytes / document.tokens, words)
    is_whole = len(document.windows) <= per_item
    return Item(f"{index}" if is_whole else f"{index}.{place}", content)


def _counts(documents: Sequence[Document]) -> str:
    """Describe the size of documents."""
    words = [document.words for document in documents if document.words is not None]
    parts = {
        "document": len(documents),
        "word": sum(words) if words else None,
        "byte": round(math.fsum(document.bytes for document in documents)),
        "token": sum(document.tokens for document in documents),
    }
    return ", ".join(f"{count:,} {name}{'s' * (count != 1)}" for name, count in parts.items() if count is not None)


def _sums(records: Sequence[ItemRecord]) -> Mapping[str, NDArray[np.float64]]:
    """Return the sums over each document, or the values of each passage if there are few documents."""
    names = [name for name in ("log_likelihood", "tokens", "bytes", "words") if records[0][name] is not None]
    values = {name: np.array([record[name] for record in records], dtype=np.float64) for name in names}
    documents, of_records = np.unique([record["document"] for record in records], return_inverse=True)
    if len(documents) < _FEWEST_DOCUMENTS:
        return values
    return {name: np.bincount(of_records, column).astype(np.float64) for name, column in values.items()}
