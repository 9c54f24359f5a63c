"""Texts for a classifier to read, from a file: a line each, or a column of a table."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from gpt2_lightning.data.tables.files import Columns, Format, format_of, read_file
from gpt2_lightning.data.tables.records import BadRow, BadRows, text_of
from gpt2_lightning.errors import UserError, did_you_mean, listed

_LINES = ".txt"


@dataclass(frozen=True)
class TextTable:
    """A file of texts, as the settings of a verb name it."""

    file: Path
    """A line each where its name ends in .txt, otherwise a table."""
    column: str
    """The column of the texts in a table."""
    format: Format | None
    """Of a table; the file's suffix tells it where it is None."""
    columns: list[str] | None
    """Names of the columns of a CSV or TSV file that has no header."""
    delimiter: str | None
    """Between the columns of a CSV or TSV file; comma and tab where it is None."""
    quote: str | None
    """Around a field of a CSV or TSV file that holds delimiters or line ends; None for files that do not quote."""

    def read(self) -> list[str]:
        """The texts of the file.

        Raises:
            UserError: if it cannot be read, or a row has no text.
        """
        is_lines = self.format is None and self.file.suffix.lower() == _LINES
        try:
            found = self._lines() if is_lines else self._column()
        except UserError as error:  # the reader of tables speaks of the settings of data
            message = re.sub(r"\bdata\.path\b", "texts", str(error))
            raise UserError(re.sub(r"\bdata\.(format|columns|delimiter|quote)\b", r"\1", message)) from None
        if not found:
            raise UserError(f"texts: {self.file} holds no text; name a file with texts in it")
        return found

    def _lines(self) -> list[str]:
        try:
            lines = self.file.read_text(encoding="utf-8-sig").split("\n")
        except OSError as error:
            raise UserError(f"texts: {self.file} cannot be read: {error.strerror}; check the path") from None
        except UnicodeDecodeError as error:
            raise UserError(
                f"texts: {self.file} is no text in UTF-8: {error}; convert it, for example with iconv"
            ) from None
        return [line.removesuffix("\r") for line in lines if line.strip()]

    def _column(self) -> list[str]:
        kind = format_of(self.file, self.format)
        delimiter = self.delimiter or ("\t" if kind == "tsv" else ",")
        bad, texts = BadRows(), []
        for record in read_file(self.file, kind, Columns(delimiter, self.quote, self.columns), bad):
            if self.column not in record.values and kind in ("csv", "tsv"):
                raise UserError(
                    f"column: {self.file} has no column '{self.column}', it has {listed(record.values)}; set column, "
                    f"or columns for a file without a header{did_you_mean(self.column, record.values)}"
                )
            try:
                texts.append(text_of(record.values, self.column))
            except BadRow as reason:
                bad.add(record.place, reason)
        if bad.count:
            raise UserError(f"texts: mend these, or name the right column with column=NAME: {bad}")
        return texts
