"""Base of benchmarks on tables of one's own, or on the data that a model was fine-tuned on."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeVar

from gpt2_lightning.data.tables import Splits
from gpt2_lightning.data.tables.files import Format
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark, Subject
from gpt2_lightning.settings import PathText, PositiveInt, Settings

Row = TypeVar("Row")


class RowTable(Protocol[Row]):
    """A table of rows; see `data.tables.table.Table`."""

    def read(self) -> Splits[Row]: ...

    def rows(self) -> list[Row]: ...


@dataclass(frozen=True, kw_only=True)
class FineTuningBenchmark(Settings, Benchmark):
    """Base of benchmarks whose items are rows of a table."""

    name: ClassVar[str]
    """Name in `conf/benchmarks`, for messages."""
    path: PathText | None = None
    """A file, a folder or `hf:NAME`; null for the test part of the data that the model was fine-tuned on, or its
    validation part if there is none."""
    split: str | None = None
    """File or split, if `path` has several."""
    format: Format | None = None
    """Format of the file; null to infer it from the suffix."""
    columns: list[str] | None = None
    """Column names of a CSV or TSV file without a header."""
    delimiter: str | None = None
    """Column delimiter of a CSV or TSV file; null for comma and tab."""
    quote: str | None = '"'
    """Quote character of a CSV or TSV file; null for none."""
    config: str | None = None
    """Configuration of a data set on the Hub, if it has several."""
    revision: str | None = None
    """Commit of a data set on the Hub."""
    bad_rows: Literal["error", "skip"] = "error"
    """Handling of rows that cannot be read or lack a field: `error` stops, `skip` omits them, with a warning."""
    limit: PositiveInt | None = None
    """Number of rows, evenly spaced; null for all."""

    def read(self, subject: Subject, table: Callable[..., RowTable[Row]], **settings: Any) -> tuple[str, list[Row]]:
        """Read the rows.

        Args:
            subject: the model.
            table: class of the table.
            settings: settings of the table, besides those of this class.

        Returns:
            Description of the rows, and the rows.

        Raises:
            UserError: if the rows cannot be read or are invalid.
        """
        if self.path is None:
            return self._held_out(subject, table)
        shared = ("path", "format", "columns", "delimiter", "quote", "config", "revision", "bad_rows")
        with self._settings_named():
            found = table(train=self.split, **{name: getattr(self, name) for name in shared}, **settings)
            return self.path, found.rows()

    def _held_out(self, subject: Subject, table: Callable[..., RowTable[Row]]) -> tuple[str, list[Row]]:
        try:
            splits = fine_tuning_data(subject, table)
        except UserError as error:
            raise UserError(f"{error}; or name other rows with benchmarks.{self.name}.path=FILE") from None
        part, rows = ("test", splits.test) if splits.test else ("validation", splits.val)
        return f"the {part} part of {subject.run_config['data']['path']}", rows

    @contextmanager
    def _settings_named(self) -> Iterator[None]:
        """Name settings of this benchmark in messages about its table, which name settings of `data`."""
        fields = "|".join(field.name for field in dataclasses.fields(self))
        try:
            yield
        except UserError as error:
            message = str(error).replace("data.train:", "data.split:")
            raise UserError(re.sub(rf"\bdata\.({fields})\b", rf"benchmarks.{self.name}.\1", message)) from None
        except ValueError as error:  # settings that do not fit each other
            faults = str(error).splitlines()
            raise UserError("\n".join(f"benchmarks.{self.name}.{fault}" for fault in faults)) from None


def fine_tuning_data(subject: Subject, table: Callable[..., RowTable[Row]]) -> Splits[Row]:
    """Read the data that a model was fine-tuned on; nothing in the configuration of its run is instantiated by name.

    Raises:
        UserError: if the configuration does not state such a table, or it cannot be read.
    """
    node = subject.run_config.get("data")
    known = {field.name for field in dataclasses.fields(table)}  # type: ignore[arg-type]  # tables are dataclasses
    try:
        if not isinstance(node, dict):
            raise TypeError
        found = table(**{name: value for name, value in node.items() if name in known})
    except (TypeError, ValueError):
        raise UserError(f"{subject.location} does not state the data that it was fine-tuned on") from None
    try:
        return found.read()
    except UserError as error:
        raise UserError(f"the data that {subject.location} was fine-tuned on: {error}") from None
