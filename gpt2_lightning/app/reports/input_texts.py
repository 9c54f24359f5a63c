"""Settings of the verbs that apply a classifier to texts."""

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
    """Common settings of `predict` and `explain`."""

    runs_dir: PathText = "runs"
    """Folder of all runs, for `checkpoint=latest`."""
    checkpoint: PathText = "latest"
    """A classifier, named as for `generate`."""
    base: PathText | None = None
    """The base model of a LoRA adapter; null for the path in the adapter."""
    text: Annotated[str, FreeText()] | None = None
    """A single input text."""
    texts: PathText | None = None
    """A file of texts: one per line in a .txt file, otherwise a table."""
    column: str = "text"
    """The column of the texts in a table."""
    format: Format | None = None
    """Format of a table; null to infer it from the suffix."""
    columns: list[str] | None = None
    """Column names of a CSV or TSV file without a header."""
    delimiter: str | None = None
    """Column delimiter of a CSV or TSV file; null for comma and tab."""
    quote: str | None = '"'
    """Quote character of a CSV or TSV file; null for none."""
    batch_size: PositiveInt = 32
    """Texts, or versions of a text, in a forward pass."""
    device: Device = "auto"
    """Device; `auto` for the fastest available."""

    @relation
    def _one_source_of_texts(self) -> Iterator[str]:
        if (self.text is None) == (self.texts is None):
            yield "text: name one text with text=…, or a file of texts with texts=FILE, and not both"
        if self.text is not None and not self.text.strip():
            yield "text: it is empty; name a text"

    def read(self) -> list[str]:
        """Return the texts.

        Raises:
            UserError: if the file cannot be read.
        """
        return [self.text] if self.text is not None else self.table().read()

    def table(self) -> TextTable:
        """Return the file of texts."""
        file = Path(self.texts or "").expanduser()
        return TextTable(file, self.column, self.format, self.columns, self.delimiter, self.quote)
