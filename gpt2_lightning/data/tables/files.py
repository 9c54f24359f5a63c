"""Records of a file: JSON, JSONL, CSV, TSV or parquet.

JSONL, CSV and TSV are read line by line. Blank lines are skipped.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from gpt2_lightning.data.tables.lines import BYTE_ORDER_MARK, LONGEST_LINE, Lines, not_utf8
from gpt2_lightning.data.tables.records import BadRows, Record
from gpt2_lightning.errors import UserError, listed
from gpt2_lightning.regular_files import require_regular

Format = Literal["json", "jsonl", "csv", "tsv", "parquet"]
_MOST_BYTES_OF_JSON = 2**30
"""Size limit of a JSON file, which is read as a whole into several times as much memory."""
_IF_LINES = "; for a file with an object on each line set data.format=jsonl"
_IF_UNQUOTED = "; for a file without quoting set data.quote=null"


@dataclass(frozen=True)
class Columns:
    """Dialect of a CSV or TSV file."""

    delimiter: str
    quote: str | None
    """Quote character of fields that contain delimiters or line ends; None for no quoting: each line is a row."""
    names: list[str] | None
    """Column names; None to read them from the first line."""


def format_of(file: Path, stated: Format | None) -> Format:
    """Return the stated format, or that of the file's suffix.

    Raises:
        UserError: if the suffix is unknown.
    """
    suffix = stated or file.suffix.lower().removeprefix(".")
    for known in get_args(Format):
        if suffix == known:
            return known
    raise UserError(
        f"data.format: the name of {file} does not tell its format; set data.format to one of "
        f"{', '.join(get_args(Format))}"
    )


def read_file(file: Path, kind: Format, columns: Columns, bad: BadRows) -> Iterator[Record]:
    """Yield the records of a file. Rows that cannot be read are added to `bad`.

    Raises:
        UserError: if the file is missing, empty, a device or a pipe, cannot be read as a whole, or has a line or field
            longer than `LONGEST_LINE`.
    """
    try:
        require_regular(file)
        if file.stat().st_size == 0:
            raise UserError(f"data.path: {file} is empty; name a file with rows in it")
        if kind == "json":
            yield from _json(file, bad)
        elif kind == "jsonl":
            yield from _jsonl(file, bad)
        elif kind == "parquet":
            yield from _parquet(file)
        else:
            yield from _separated(file, columns, bad)
    except FileNotFoundError:
        raise UserError(f"data.path: there is no file {file.absolute()}; check the path") from None
    except OSError as error:
        raise UserError(f"data.path: {file} cannot be read: {error.strerror or error}") from None


def _json(file: Path, bad: BadRows) -> Iterator[Record]:
    if (size := file.stat().st_size) > _MOST_BYTES_OF_JSON:
        raise UserError(
            f"data.path: {file} has {size:,} bytes, and a JSON file, which is read as a whole, may have "
            f"{_MOST_BYTES_OF_JSON:,}; convert it to JSONL, with an object on each line"
        )
    content = file.read_bytes()
    try:
        rows = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        skipped = len(BYTE_ORDER_MARK) if content.startswith(BYTE_ORDER_MARK) else 0
        raise UserError(f"data.path: {file}: {not_utf8(error, skipped)}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"data.path: {file} is no JSON: {error}{_IF_LINES}") from None
    if not isinstance(rows, list):
        raise UserError(f"data.path: {file} holds {_kind(rows)}, and must hold a list of objects{_IF_LINES}")
    for number, values in enumerate(rows, 1):
        yield from _object(values, f"{file}, row {number}", bad)


def _jsonl(file: Path, bad: BadRows) -> Iterator[Record]:
    with file.open("rb") as raw:
        lines = Lines(raw)
        for line in lines:
            place = f"{file}, line {lines.number}"
            fault = lines.take_fault()
            if fault:
                bad.add(place, fault)
            elif line.strip():
                try:
                    values = json.loads(line)
                except (ValueError, RecursionError) as error:
                    bad.add(place, f"is no JSON: {error}")
                    continue
                yield from _object(values, place, bad)


def _separated(file: Path, columns: Columns, bad: BadRows) -> Iterator[Record]:
    csv.field_size_limit(LONGEST_LINE)  # a document may exceed the default of 131,072 characters
    quoting: Literal[0, 3] = csv.QUOTE_NONE if columns.quote is None else csv.QUOTE_MINIMAL
    names = columns.names
    with file.open("rb") as raw:
        lines = Lines(raw)
        rows = csv.reader(lines, delimiter=columns.delimiter, quotechar=columns.quote, quoting=quoting, strict=True)
        while True:
            first_line = lines.number + 1
            place = f"{file}, line {first_line}"
            try:
                row = next(rows, None)
            except csv.Error as error:
                swallowed = f", up to line {lines.number}" if lines.number > first_line else ""
                bad.add(place, lines.take_fault() or f"cannot be read{swallowed}: {error}{_IF_UNQUOTED}")
                continue
            if row is None:
                return
            fault = lines.take_fault()
            if names is None and row:
                names = _header(row, place, fault)
            elif fault:
                bad.add(place, fault)
            elif names and row and len(row) != len(names):
                bad.add(place, f"has {len(row)} columns, and must have {len(names)}: {listed(names)}")
            elif names and row:
                yield Record(place, dict(zip(names, row, strict=True)))


def _parquet(file: Path) -> Iterator[Record]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UserError(
            "reading parquet needs pyarrow; install it with pip install 'gpt2-lightning[datasets]'"
        ) from None
    try:
        number = 0
        for batch in pyarrow.parquet.ParquetFile(file).iter_batches():
            for values in batch.to_pylist():
                number += 1
                yield Record(f"{file}, row {number}", values)
    except (pyarrow.ArrowException, UnicodeDecodeError) as error:
        raise UserError(f"data.path: {file} cannot be read as parquet: {error}") from None


def _object(values: Any, place: str, bad: BadRows) -> Iterator[Record]:
    if isinstance(values, dict):
        yield Record(place, values)
    else:
        bad.add(place, f"is {_kind(values)}, and must be an object")


def _header(row: list[str], place: str, fault: str | None) -> list[str]:
    twice = sorted({name for name in row if row.count(name) > 1})
    if fault:
        raise UserError(f"data.path: {place}: the names of the columns cannot be read: {fault}")
    if twice:
        raise UserError(
            f"data.path: {place}: several columns are called {listed(twice)}; rename them, or, where the first line "
            "is a row and no header, name the columns with data.columns"
        )
    return row


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return kinds.get(type(value), "a number")
