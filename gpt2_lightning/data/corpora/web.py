"""Corpora of text from the web: downloaded once, then read as text files."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gpt2_lightning.atomic import write_text
from gpt2_lightning.data.corpora import gutenberg
from gpt2_lightning.data.corpora.download import Progress, download
from gpt2_lightning.data.corpora.text import TextCorpus
from gpt2_lightning.data.corpus import CorpusSettings
from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import relation


@dataclass(frozen=True, kw_only=True)
class Remote(CorpusSettings, ABC):
    """A corpus that is downloaded before use."""

    @abstractmethod
    def fetch(self, cache_dir: Path, progress: Progress) -> TextCorpus:
        """Download the missing files and return the corpus of local text files.

        Args:
            cache_dir: cache folder; files are stored in its subfolder `downloads`.
            progress: see `download`.

        Raises:
            UserError: if a file cannot be downloaded.
        """

    def _at(self, path: Path) -> TextCorpus:
        """Return a corpus of local text files with the settings of this corpus."""
        names = [f.name for f in dataclasses.fields(CorpusSettings)]
        return TextCorpus(path=str(path), **{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class WebText(Remote):
    """Text files, one document each, and JSON Lines files, one document per row, by their addresses."""

    files: dict[str, list[str]]
    """Addresses of each file by its local name, the preferred mirror first."""
    sha256: dict[str, str] = field(default_factory=dict)
    """SHA-256 of files by local name, in hexadecimal; optional."""

    @relation
    def _checksums_name_files(self) -> Iterator[str]:
        for name in self.sha256:
            if name not in self.files:
                yield f"sha256.{name}: there is no file of this name; there are {', '.join(self.files)}"

    def fetch(self, cache_dir: Path, progress: Progress) -> TextCorpus:
        key = hashlib.sha256(json.dumps([self.files, self.sha256], sort_keys=True).encode()).hexdigest()[:12]
        folder = cache_dir / "downloads" / key
        for name, urls in self.files.items():
            download(urls, folder / name, self.sha256.get(name), progress)
        return self._at(folder / next(iter(self.files)) if len(self.files) == 1 else folder)


@dataclass(frozen=True, kw_only=True)
class GutenbergBooks(Remote):
    """Books of Project Gutenberg, one document each, without header, license and credits."""

    books: list[int]
    """Ebook numbers."""

    @relation
    def _books_differ(self) -> Iterator[str]:
        if twice := sorted({number for number in self.books if self.books.count(number) > 1}):
            yield f"books: {', '.join(map(str, twice))} is there more than once"

    def fetch(self, cache_dir: Path, progress: Progress) -> TextCorpus:
        books = self.books[: self.limit]
        key = hashlib.sha256(json.dumps(books).encode()).hexdigest()[:12]
        folder = cache_dir / "downloads" / f"gutenberg-{key}"
        for place, number in enumerate(books):
            target = folder / f"{place:04d}-{number}.txt"
            if target.exists():
                continue
            original = download(
                gutenberg.urls(number), cache_dir / "downloads" / "gutenberg" / f"pg{number}.txt", progress=progress
            )
            try:
                text = gutenberg.strip_boilerplate(original.read_text(encoding="utf-8"))
            except (UserError, UnicodeDecodeError) as error:
                raise UserError(f"{original}: {error}") from None
            write_text(target, text + "\n")
        return self._at(folder)
