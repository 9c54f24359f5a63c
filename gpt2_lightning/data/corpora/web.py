"""Text from the web as a corpus: downloaded once, and text files from then on."""

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
    """A corpus that has to be fetched first."""

    @abstractmethod
    def fetch(self, cache_dir: Path, progress: Progress) -> TextCorpus:
        """The corpus at hand; what is there already is not fetched again.

        Args:
            cache_dir: downloads go to `downloads` in it.
            progress: see `download`.

        Raises:
            UserError: if a file cannot be had.
        """

    def _at(self, path: Path) -> TextCorpus:
        """Text files with the settings of this corpus."""
        names = [f.name for f in dataclasses.fields(CorpusSettings)]
        return TextCorpus(path=str(path), **{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class WebText(Remote):
    """Text files, each of them a document, and JSON Lines files, each row of them one."""

    files: dict[str, list[str]]
    """Addresses of each file, the preferred mirror first, under the name that it is to have here."""
    sha256: dict[str, str] = field(default_factory=dict)
    """Checksums of files, where they are published."""

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
    """Books of Project Gutenberg, each a document, without what is wrapped around them."""

    books: list[int]
    """Ebook numbers, in order."""

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
