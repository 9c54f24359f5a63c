"""Perplexity of text files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2_lightning.data.corpora.find_files import find, holds_rows
from gpt2_lightning.data.corpora.json_rows import text_of_row
from gpt2_lightning.data.corpora.text_files import Errors, divided, read_lines, read_text
from gpt2_lightning.data.corpus import BadRow, BadRows
from gpt2_lightning.errors import UserError
from gpt2_lightning.evaluation.benchmarks.benchmark import Subject
from gpt2_lightning.evaluation.benchmarks.perplexity.benchmark import Documents, Perplexity
from gpt2_lightning.evaluation.benchmarks.perplexity.encoded_text import documents_of, encode, join
from gpt2_lightning.settings import PathText


@dataclass(frozen=True, kw_only=True)
class TextPerplexity(Perplexity):
    """Perplexity of text files, each of which is a document, and of JSON Lines files, of which each row is one.

    The first token of a document is predicted from the end-of-text token, if the tokenizer has one, and otherwise not
    predicted. Joined documents have an end-of-text token between them, and their first token is not predicted.

    Raises:
        ValueError: with every setting that is out of range.
    """

    path: PathText
    """A file, a folder or a pattern such as `books/**/*.txt`; `.gz` and `.zst` files are decompressed while reading."""
    field: str = "text"
    """Field of the text in a row of a `.jsonl` file."""
    errors: Errors = "strict"
    """Handling of bytes that are not UTF-8: `strict` stops, `replace` replaces them with U+FFFD."""

    def read(self, subject: Subject, data_dir: Path | None) -> Documents:
        try:
            texts = [text for text in (encode(one, subject.tokenizer) for one in self._texts()) if len(text.ids)]
        except UserError as error:
            raise UserError(str(error).replace("data.", "")) from None  # the settings have the same names there
        end_of_text = subject.tokenizer.end_of_text
        if self.documents == "joined" and texts:
            return documents_of([join(texts, end_of_text)], subject, self.stride, None, self.path)
        return documents_of(texts, subject, self.stride, end_of_text, self.path)

    def _texts(self) -> Iterator[Iterable[str]]:
        bad = BadRows()
        for file in find(self.path, "path"):
            if not holds_rows(file):
                yield read_text(file, 0, None, self.errors)
                continue
            for number, line in enumerate(read_lines(file, 0, None), 1):
                text = text_of_row(line, self.field, self.errors, f"{file}, row {number}") if line.strip() else ""
                if isinstance(text, BadRow):
                    bad.add(text)
                else:
                    yield divided(text)
        if bad.count:
            raise bad.error()
