"""Benchmarks whose items are rows of a table, measured by log-likelihoods."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.data.tables.records import BadRow, BadRows
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark, Item, ItemRecord, Items, evenly_spaced
from gpt2_lightning.evaluation.benchmarks.source import BenchmarkSource, SourceRows, read_rows
from gpt2_lightning.evaluation.likelihood.request import Likelihood, Request
from gpt2_lightning.evaluation.likelihood.scorer import ItemError, Scorer
from gpt2_lightning.evaluation.subject import Subject
from gpt2_lightning.settings import PathText, PositiveInt, Settings, relation
from gpt2_lightning.tokenizers import Tokenizer


@dataclass(frozen=True)
class ParsedRow:
    """Content of an item."""

    place: str
    """File and line, for messages."""
    value: Any
    """What `LikelihoodTable.parse` returned."""


@dataclass(frozen=True, kw_only=True)
class LikelihoodBenchmark(Settings, Benchmark):
    """Interface of benchmarks whose items, each with a `ParsedRow`, are measured by log-likelihoods."""

    @abstractmethod
    def requests(self, tokenizer: Tokenizer, value: Any) -> list[Request]:
        """Return the contexts and continuations of a parsed row."""

    def never_first(self, tokenizer: Tokenizer) -> Sequence[int]:
        """Return the token ids that greedy decoding never predicts first; by default, none."""
        return ()

    @abstractmethod
    def record(self, value: Any, likelihoods: list[list[Likelihood]]) -> dict[str, Any]:
        """Return what was found for a parsed row.

        Args:
            value: the parsed row.
            likelihoods: for each request those of its continuations.
        """

    def records(self, subject: Subject, items: Sequence[Item]) -> Iterator[ItemRecord]:
        requests = []
        for item in items:
            try:
                requests.append(self.requests(subject.tokenizer, item.content.value))
            except UserError as error:
                raise UserError(f"{item.content.place}: {error}") from None
        try:
            for index, likelihoods in Scorer(subject, self.never_first(subject.tokenizer)).score(requests):
                cut = max(one.cut for of_request in likelihoods for one in of_request)
                found = self.record(items[index].content.value, likelihoods)
                yield {"id": items[index].id, **found, **({"cut": cut} if cut else {})}
        except ItemError as error:
            raise UserError(f"{items[error.item].content.place}: {error.reason}") from None


@dataclass(frozen=True, kw_only=True)
class LikelihoodTable(LikelihoodBenchmark):
    """Interface of benchmarks whose items are rows of a table, measured by log-likelihoods.

    Raises:
        ValueError: with every invalid setting, one line each, as "field: what is wrong".
    """

    source: BenchmarkSource | None = None
    """Published rows."""
    path: PathText | None = None
    """A file to read in place of the published rows: .jsonl, .json, .csv, .tsv or .parquet."""
    limit: PositiveInt | None = None
    """Number of rows, evenly spaced; null for all."""

    @relation
    def _rows_are_named(self) -> Iterator[str]:
        if self.source is None and self.path is None:
            yield "path: missing; name a file with a row for each item"

    @abstractmethod
    def parse(self, row: dict[str, Any]) -> Any:
        """Return what `requests` and `record` need of a row.

        Raises:
            BadRow: if the row cannot be measured, with the reason.
        """

    def items(self, subject: Subject, data_dir: Path | None) -> Items:
        require_language_model(subject)
        rows = self._rows(data_dir)
        bad, items = BadRows(), []
        for number, record in enumerate(rows.records):
            try:
                items.append(Item(str(number), ParsedRow(record.place, self.parse(record.values))))
            except BadRow as reason:
                bad.add(record.place, reason)
        if bad.count:
            raise UserError(f"{rows.location} cannot be evaluated; correct or remove these rows: {bad}")
        return Items(evenly_spaced(items, self.limit), rows.location, rows.digest, rows.notes)

    def _rows(self, data_dir: Path | None) -> SourceRows:
        if self.path is not None:
            return read_rows(Path(self.path))
        assert self.source is not None, "one of path and source is given"
        return self.source.read(data_dir)


def require_language_model(subject: Subject) -> None:
    """Check that a model predicts tokens.

    Raises:
        UserError: if it is a classifier.
    """
    if subject.classifier is not None:
        raise UserError(
            f"{subject.location} is a classifier, which has no probabilities of next tokens; evaluate it on "
            "benchmarks=[labels], or name a language model"
        )
