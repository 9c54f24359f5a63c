"""Sources of the rows of a table, and their division into three parts. Subclasses of `Table` define a row."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from gpt2_lightning.data.tables.files import Columns, Format, format_of, read_file
from gpt2_lightning.data.tables.hub import read_dataset
from gpt2_lightning.data.tables.records import BadRow, BadRows, Record
from gpt2_lightning.data.tables.splits import Row, Splits, cut
from gpt2_lightning.errors import UserError, did_you_mean, listed
from gpt2_lightning.settings import BelowOne, NonNegativeInt, PathText, ProperShare, Rule, Settings, relation

_HUB = "hf:"
_SHARE_LEFT_OUT = 0.01
"""Maximum share of bad rows that `bad_rows=few` omits."""
_log = logging.getLogger(__name__)


class _OneCharacter(Rule):
    """Constraint of a delimiter or quote character."""

    def fault(self, value: str) -> str | None:
        return None if len(value) == 1 and value not in "\r\n" else f"{value!r} does not fit; it must be one character"


OneCharacter = Annotated[str, _OneCharacter()]


@dataclass(frozen=True, kw_only=True)
class Table(Settings):
    """Table of files or of a dataset, with a training, a validation and a test part.

    Without `train`, `path` is a single table, and `val` and `test` are shares of its rows. Otherwise, `train` names a
    file in the folder `path`, or a split of the dataset; `val` and `test` may do so too, or be shares of the rows of
    `train`.

    Raises:
        ValueError: with every invalid setting, one line each, as "field: what is wrong".
    """

    path: PathText
    """A file or folder, or `hf:FOLDER` or `hf:NAME` for a dataset to load with `datasets`."""
    train: str | None = None
    """File or split of the training part; null for all of `path`."""
    val: str | ProperShare = 0.1
    """File or split of the validation part, or its share of the rows."""
    test: str | BelowOne = 0.2
    """File or split of the test part, or its share of the rows; 0 for none."""
    split_seed: NonNegativeInt = 0
    """Seed of the division into parts, independent of the training seed."""
    format: Format | None = None
    """Format of the files; null to infer it from their suffixes."""
    columns: list[str] | None = None
    """Column names of a CSV or TSV file without a header; null to read them from the first line."""
    delimiter: OneCharacter | None = None
    """Delimiter of the columns of a CSV or TSV file; null for comma and tab."""
    quote: OneCharacter | None = '"'
    """Quote character of fields of a CSV or TSV file that contain delimiters or line ends; null for no quoting."""
    config: str | None = None
    """Configuration of the dataset, if it has several."""
    revision: str | None = None
    """Commit of the dataset; required for a dataset on the Hub."""
    bad_rows: Literal["few", "error", "skip"] = "few"
    """Handling of bad rows: `skip` omits them, with a warning that counts and lists them; `error` stops; `few` omits up
    to 1 % of the rows, and stops at more."""

    @relation
    def _shares_leave_something(self) -> Iterator[str]:
        shares = [share for share in (self.val, self.test) if not isinstance(share, str)]
        if sum(shares) >= 1:
            yield f"test: {self.test} and val={self.val} leave nothing to train on, their sum must be below 1"
        if self.train is None and len(shares) < 2:
            yield "train: missing; where val or test names a file or a split, train must name one as well"

    @relation
    def _parts_differ(self) -> Iterator[str]:
        for name, part in (("val", self.val), ("test", self.test)):
            if part == self.train:
                yield f"{name}: {part} is what trains; name another table"

    @relation
    def _delimiter_is_no_quote(self) -> Iterator[str]:
        if self.delimiter is not None and self.delimiter == self.quote:
            yield f"delimiter: {self.delimiter!r} does not fit; it must differ from quote"

    @relation
    def _columns_differ(self) -> Iterator[str]:
        if self.columns is not None and len(set(self.columns)) < max(1, len(self.columns)):
            yield f"columns: {self.columns} does not fit; it must be different names"

    @relation
    def _settings_suit_the_source(self) -> Iterator[str]:
        is_hub = self.path.startswith(_HUB)
        of_files = {"format": self.format, "columns": self.columns, "delimiter": self.delimiter}
        of_data_sets = {"config": self.config, "revision": self.revision}
        for name, value in (of_files if is_hub else of_data_sets).items():
            if value is not None:
                yield f"{name}: is of no use with {'a data set' if is_hub else 'files'}; leave it out"

    def _load(
        self, row_of: Callable[[dict[str, Any]], Row], required: dict[str, str], optional: dict[str, str]
    ) -> dict[str, list[Row]]:
        """Read the rows of each part with a separate file or split: `train`, and optionally `val` and `test`.

        Args:
            row_of: converts the values of a record to a row, or raises BadRow.
            required: columns that every table must have, by the name of the setting.
            optional: columns that at least one table must have, by the name of the setting.

        Raises:
            UserError: if a table or a column is missing, a table has no rows, or a row is bad.
        """
        bad = BadRows()
        parts: dict[str, list[Row]] = {}
        found: dict[str, None] = {}
        for part, (name, records) in self._sources(bad).items():
            rows: list[Row] = []
            columns: dict[str, None] = {}
            for record in records:
                columns.update(dict.fromkeys(record.values))
                try:
                    rows.append(row_of(record.values))
                except BadRow as reason:
                    bad.add(record.place, reason)
            if columns:
                _require_columns(required, columns, name, self._advice(columns))
            elif not bad.count:
                raise UserError(f"data.{part}: {name} holds no rows; name a table with rows in it")
            parts[part] = rows
            found.update(columns)
        if found:
            _require_columns(optional, found, self.path, "")
        self._report(bad, sum(map(len, parts.values())))
        return parts

    def _report(self, bad: BadRows, good: int) -> None:
        """Warn of bad rows, or raise an error for too many of them."""
        if not bad.count:
            return
        is_few = bad.count <= _SHARE_LEFT_OUT * (bad.count + good)
        if self.bad_rows == "error" or (self.bad_rows == "few" and not is_few):
            raise UserError(f"data.path: mend these, or leave them out with data.bad_rows=skip: {bad}")
        _log.warning("data.path: left out of %s: %s", self.path, bad)

    def _advice(self, columns: Collection[str]) -> str:
        """Return advice for a table of these columns that lacks a required one."""
        return ""

    def _cut(self, parts: dict[str, list[Row]], strata: Sequence[Hashable] | None = None) -> Splits[Row]:
        """Return the three parts; those without a separate table are cut from `train`.

        Raises:
            UserError: if a part is empty.
        """
        val_share = 0.0 if isinstance(self.val, str) else self.val
        test_share = 0.0 if isinstance(self.test, str) else self.test
        made = cut(parts["train"], val_share, test_share, self.split_seed, strata)
        splits = Splits(made.train, parts.get("val", made.val), parts.get("test", made.test))
        for part, rows in (("train", splits.train), ("val", splits.val), ("test", splits.test)):
            if not rows and not (part == "test" and self.test == 0):
                raise UserError(
                    f"data.{part}: this part is empty: there are {len(parts['train'])} good rows to cut with "
                    f"val={self.val} and test={self.test}; use more rows or other shares"
                )
        return splits

    def _sources(self, bad: BadRows) -> dict[str, tuple[str, Iterator[Record]]]:
        """Return the name and the records of each table in the settings, by part."""
        parts = {"train": self.train, "val": self.val, "test": self.test}
        names = {part: name for part, name in parts.items() if isinstance(name, str)}
        if self.path.startswith(_HUB):
            splits = read_dataset(self.path.removeprefix(_HUB), self.config, self.revision)
            self._check_names(names, splits, "split")
            names = names or {"train": next(iter(splits))}
            return {part: (f"{self.path}, {name}", splits[name]) for part, name in names.items()}
        path = Path(self.path).expanduser()
        if not path.exists():
            raise UserError(f"data.path: there is no file or folder {path.absolute()}; check the path")
        if path.is_dir():
            self._check_names(names, sorted(file.name for file in path.iterdir()), "file")
            names = names or {"train": next(path.iterdir()).name}
            files = {part: path / name for part, name in names.items()}
        elif names:
            raise UserError(f"data.path: {path} is a file; name the folder of {', '.join(names.values())}")
        else:
            files = {"train": path}
        return {part: (str(file), self._records(file, bad)) for part, file in files.items()}

    def _records(self, file: Path, bad: BadRows) -> Iterator[Record]:
        kind = format_of(file, self.format)
        delimiter = self.delimiter or ("\t" if kind == "tsv" else ",")
        return read_file(file, kind, Columns(delimiter, self.quote, self.columns), bad)

    def _check_names(self, names: dict[str, str], known: Collection[str], what: str) -> None:
        """Check that the named files or splits exist; a name may be omitted only if there is exactly one."""
        has = f"it has {listed(known)}"
        if not names and len(known) != 1:
            raise UserError(f"data.train: {self.path} is no single {what}: {has}; say which one trains")
        for part, name in names.items():
            if name not in known:
                raise UserError(f"data.{part}: {self.path} has no {what} {name}; {has}{did_you_mean(name, known)}")


def _require_columns(settings: dict[str, str], columns: Collection[str], name: str, advice: str) -> None:
    for setting, column in settings.items():
        if column not in columns:
            raise UserError(
                f"data.{setting}: {name} has no column '{column}', it has {listed(columns)}; set data.{setting}, "
                f"or data.columns for a file without a header{advice or did_you_mean(column, columns)}"
            )
