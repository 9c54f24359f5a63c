"""The settings of verbs that let a classifier read texts: which classifier, and which texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2_lightning.app.reports.text_table import TextTable
from gpt2_lightning.data.tables.files import Format
from gpt2_lightning.pretrained.devices import Device


@dataclass(frozen=True, kw_only=True)
class GivenTexts:
    """What `predict` and `explain` have in common at the top level."""

    runs_dir: str
    """Folder of all runs, for `checkpoint=latest`."""
    checkpoint: str
    """A classifier, named as for `generate`."""
    base: str | None
    """Where the model lies that a LoRA adapter was trained on; null for where it was then."""
    text: str | None
    """One text."""
    texts: str | None
    """A file of texts: a line each where its name ends in .txt, otherwise a table."""
    column: str
    """The column of the texts in a table."""
    format: Format | None
    """Of a table; the file's suffix tells it where it is null."""
    columns: list[str] | None
    """Names of the columns of a CSV or TSV file that has no header."""
    delimiter: str | None
    """Between the columns of a CSV or TSV file; comma and tab where it is null."""
    quote: str | None
    """Around a field of a CSV or TSV file that holds delimiters or line ends; null for files that do not quote."""
    batch_size: int
    """Texts, or versions of one, in a forward pass."""
    device: Device
    """Where to compute; `auto` takes the fastest there is."""

    def faults(self) -> Iterator[str]:
        """Each setting that is out of range, or does not fit the others."""
        if (self.text is None) == (self.texts is None):
            yield "text: name one text with text=…, or a file of texts with texts=FILE, and not both"
        if self.text is not None and not self.text.strip():
            yield "text: it is empty; name a text"
        if self.batch_size < 1:
            yield f"batch_size: {self.batch_size} is out of range, 1 or more is allowed"

    def read(self) -> list[str]:
        """The texts.

        Raises:
            UserError: if the file cannot be read.
        """
        if self.text is not None:
            return [self.text]
        file = Path(self.texts or "").expanduser()
        return TextTable(file, self.column, self.format, self.columns, self.delimiter, self.quote).read()
