"""Input texts from a file: one per line, or a column of a table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.data.tables.files import Columns, Format, format_of, read_file
from gpt2_lightning.data.tables.records import BadRow, BadRows, text_of
from gpt2_lightning.errors import UserError, did_you_mean, listed

_LINES = ".txt"


@dataclass(frozen=True)
class TextTable:
    """A file of texts, as named by the settings of a verb."""

    file: Path
    """One text per line in a .txt file, otherwise a table."""
    column: str
    """The column of the texts in a table."""
    format: Format | None
    """Format of a table; None to infer it from the suffix."""
    columns: list[str] | None
    """Column names of a CSV or TSV file without a header."""
    delimiter: str | None
    """Column delimiter of a CSV or TSV file; None for comma and tab."""
    quote: str | None
    """Quote character of a CSV or TSV file; None for none."""

    def read(self) -> list[str]:
        """Read the texts; see `read_with`."""
        return [text for text, _ in self.read_with(None)]

    def read_with(self, other: str | None) -> list[tuple[str, Any]]:
        """Read the texts, each with its cell of another column, None where there is none.

        Raises:
            UserError: if it cannot be read, or a row has no text.
        """
        is_lines = self.format is None and self.file.suffix.lower() == _LINES
        try:
            found = [(line, None) for line in self._lines()] if is_lines else self._column(other)
        except UserError as error:  # tables are read by code whose messages name settings of `data`
            message = re.sub(r"\bdata\.path\b", "texts", str(error))
            raise UserError(re.sub(r"\bdata\.(format|columns|delimiter|quote)\b", r"\1", message)) from None
        if not found:
            raise UserError(f"texts: {self.file} holds no text; name a file with texts")
        return found

    def _lines(self) -> list[str]:
        try:
            lines = self.file.read_text(encoding="utf-8-sig").split("\n")
        except OSError as error:
            raise UserError(f"texts: {self.file} cannot be read: {error.strerror}; check the path") from None
        except UnicodeDecodeError as error:
            raise UserError(
                f"texts: {self.file} is not UTF-8 text: {error}; convert it, for example with iconv"
            ) from None
        return [line.removesuffix("\r") for line in lines if line.strip()]

    def _column(self, other: str | None) -> list[tuple[str, Any]]:
        kind = format_of(self.file, self.format)
        delimiter = self.delimiter or ("\t" if kind == "tsv" else ",")
        bad, found = BadRows(), []
        for record in read_file(self.file, kind, Columns(delimiter, self.quote, self.columns), bad):
            if self.column not in record.values and kind in ("csv", "tsv"):
                raise UserError(
                    f"column: {self.file} has no column '{self.column}', it has {listed(record.values)}; set column, "
                    f"or columns for a file without a header{did_you_mean(self.column, record.values)}"
                )
            try:
                found.append((text_of(record.values, self.column), None if other is None else record.values.get(other)))
            except BadRow as reason:
                bad.add(record.place, reason)
        if bad.count:
            raise UserError(f"texts: correct these, or name the right column with column=NAME: {bad}")
        return found
