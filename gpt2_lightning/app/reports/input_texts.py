"""The settings of verbs that let a classifier read texts: which classifier, and which texts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from gpt2_lightning.app.reports.text_table import TextTable
from gpt2_lightning.data.tables.files import Format
from gpt2_lightning.pretrained.devices import Device
from gpt2_lightning.settings import FreeText, PathText, PositiveInt, Settings, relation


@dataclass(frozen=True, kw_only=True)
class InputTexts(Settings):
    """What `predict` and `explain` have in common at the top level."""

    runs_dir: PathText = "runs"
    """Folder of all runs, for `checkpoint=latest`."""
    checkpoint: PathText = "latest"
    """A classifier, named as for `generate`."""
    base: PathText | None = None
    """Where the model lies that a LoRA adapter was trained on; null for where it was then."""
    text: Annotated[str, FreeText()] | None = None
    """One text."""
    texts: PathText | None = None
    """A file of texts: a line each where its name ends in .txt, otherwise a table."""
    column: str = "text"
    """The column of the texts in a table."""
    format: Format | None = None
    """Of a table; the file's suffix tells it where it is null."""
    columns: list[str] | None = None
    """Names of the columns of a CSV or TSV file that has no header."""
    delimiter: str | None = None
    """Between the columns of a CSV or TSV file; comma and tab where it is null."""
    quote: str | None = '"'
    """Around a field of a CSV or TSV file that holds delimiters or line ends; null for files that do not quote."""
    batch_size: PositiveInt = 32
    """Texts, or versions of one, in a forward pass."""
    device: Device = "auto"
    """Where to compute; `auto` takes the fastest there is."""

    @relation
    def _one_source_of_texts(self) -> Iterator[str]:
        if (self.text is None) == (self.texts is None):
            yield "text: name one text with text=…, or a file of texts with texts=FILE, and not both"
        if self.text is not None and not self.text.strip():
            yield "text: it is empty; name a text"

    def read(self) -> list[str]:
        """The texts.

        Raises:
            UserError: if the file cannot be read.
        """
        if self.text is not None:
            return [self.text]
        file = Path(self.texts or "").expanduser()
        return TextTable(file, self.column, self.format, self.columns, self.delimiter, self.quote).read()
