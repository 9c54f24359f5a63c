"""Text files as a corpus."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gpt2_lightning.data.corpora import text_files
from gpt2_lightning.data.corpus import BadRow, Corpus, Piece, Segment, Split, split_of
from gpt2_lightning.data.shards.digests import digest
from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import PathText

_PIECES = 256
_SMALLEST_PIECE, _LARGEST_PIECE = 2**18, 2**30


@dataclass(frozen=True)
class Stretch:
    """Some bytes of a file."""

    file: Path
    place: int
    """Of the first document, in the corpus."""
    start: int
    stop: int | None
    """None for the end of a compressed file, whose length is not known."""
    split: Split | None
    """None where each row goes to its own."""
    rows: int | None = None
    """Take only this many rows."""
    first_row: int = 0
    ends_document: bool = True
    """Whether a text ends here; rows always do."""

    @property
    def size(self) -> int:
        return (self.file.stat().st_size if self.stop is None else self.stop) - self.start


@dataclass(frozen=True)
class TextPiece:
    """Stretches that are encoded together."""

    stretches: tuple[Stretch, ...]

    @property
    def size(self) -> int:
        return sum(stretch.size for stretch in self.stretches)


@dataclass(frozen=True, kw_only=True)
class TextCorpus(Corpus):
    """Text files, each of them a document, and JSON Lines files, each row of them one.

    A byte-order mark is dropped, and the line ends of Windows become those of everyone else. Files ending in `.gz` and
    `.zst` are decompressed while they are read.
    """

    path: PathText
    """A file, a folder, a pattern such as `books/**/*.txt`; `embedded:NAME` is a folder of the package."""
    val_path: PathText | None = None
    """Text that only validates; null to take a part of `path`."""
    field: str = "text"
    """Where a row of a `.jsonl` file has its text."""
    errors: text_files.Errors = "strict"
    """What to do with bytes that are no UTF-8: stop, or `replace` them with U+FFFD."""

    def files(self) -> list[Path]:
        """The files of `path`."""
        return text_files.find(self.path, "data.path")

    def val_files(self) -> list[Path]:
        """The files of `val_path`."""
        return text_files.find(self.val_path, "data.val_path") if self.val_path else []

    @property
    def several_documents(self) -> bool:
        files = self.files()
        return len(files) > 1 or text_files.holds_rows(files[0])

    def fingerprint(self, cache_dir: Path) -> str:
        parts = [[[f.name, digest(f, cache_dir)] for f in files] for files in (self.files(), self.val_files())]
        return hashlib.sha256(json.dumps([self.settings(), parts]).encode()).hexdigest()

    def pieces(self, whole_documents: bool) -> list[Piece]:
        """About 256 pieces of equal size, which leaves every file its place in the order."""
        wholes = self._wholes()
        target = min(max(sum(stretch.size for stretch in wholes) // _PIECES, _SMALLEST_PIECE), _LARGEST_PIECE)
        pieces: list[Piece] = []
        collected: list[Stretch] = []
        size = 0
        for stretch in (part for whole in wholes for part in _divided(whole, target, whole_documents)):
            collected.append(stretch)
            size += stretch.size
            if size >= target:
                pieces.append(TextPiece(tuple(collected)))
                collected, size = [], 0
        return [*pieces, TextPiece(tuple(collected))] if collected else pieces

    def read(self, piece: TextPiece) -> Iterator[Segment | BadRow]:
        for stretch in piece.stretches:
            yield from self._rows(stretch) if text_files.holds_rows(stretch.file) else self._text(stretch)

    def _wholes(self) -> list[Stretch]:
        """Every file, or its two parts, in order."""
        training = self._limited(self.files(), None if self.val_path is None else "train")
        few = not any(s.rows is not None or text_files.holds_rows(s.file) for s in training)
        few = few and len(training) * self.val_fraction < 1
        if self.val_path is not None:
            return training + self._limited(self.val_files(), "val")
        if few:
            return [part for stretch in training for part in self._head_and_tail(stretch)]
        return [
            s if text_files.holds_rows(s.file) else replace(s, split=split_of(s.place, self.val_fraction))
            for s in training
        ]

    def _limited(self, files: list[Path], split: Split | None) -> list[Stretch]:
        left = math.inf if self.limit is None else self.limit
        stretches = []
        for place, file in enumerate(files):
            if left <= 0:
                break
            if (size := file.stat().st_size) == 0:
                raise UserError(f"{file} is empty; name a file with text in it")
            rows = None
            if not text_files.holds_rows(file):
                left -= 1
            elif self.limit is not None:
                rows = _count_rows(file, int(left))
                left -= rows
            stop = None if text_files.is_compressed(file) else size
            stretches.append(Stretch(file, place, 0, stop, split, rows))
        return stretches

    def _head_and_tail(self, whole: Stretch) -> tuple[Stretch, Stretch]:
        size = text_files.content_bytes(whole.file)
        cut = text_files.character_start(whole.file, int(size * (1 - self.val_fraction)))
        if not 0 < cut < size:
            raise UserError(
                f"{whole.file} has {size} bytes; with val_fraction={self.val_fraction} its training or its "
                "validation part is empty; use a longer text"
            )
        head = replace(whole, stop=cut, split="train", ends_document=False)
        return head, replace(whole, start=cut, stop=size, split="val")

    def _text(self, stretch: Stretch) -> Iterator[Segment]:
        assert stretch.split is not None, "decided when the pieces were made"
        texts = text_files.read_text(stretch.file, stretch.start, stretch.stop, self.errors)
        previous, blank = "", True
        for text in texts:
            if previous:
                yield Segment(previous, stretch.split, ends_document=False)
            previous, blank = text, blank and not text.strip()
        if blank and stretch.start == 0:
            raise UserError(f"{stretch.file} is empty; name a file with text in it")
        yield Segment(previous, stretch.split, stretch.ends_document)

    def _rows(self, stretch: Stretch) -> Iterator[Segment | BadRow]:
        taken = 0
        lines = text_files.read_lines(stretch.file, stretch.start, stretch.stop)
        for number, line in enumerate(lines, start=stretch.first_row):
            if taken == stretch.rows:
                return
            if not line.strip():
                continue
            taken += 1
            text = text_files.text_of_row(line, self.field, self.errors, f"{stretch.file}, row {number + 1}")
            split = stretch.split or split_of(stretch.place + number, self.val_fraction)
            yield text if isinstance(text, BadRow) else Segment(text, split)


def _count_rows(file: Path, at_most: int) -> int:
    count = 0
    for line in text_files.read_lines(file, 0, None):
        count += bool(line.strip())
        if count == at_most:
            break
    return count


def _divided(whole: Stretch, target: int, whole_documents: bool) -> Iterator[Stretch]:
    """Parts of about the target's size, where the file can be read from the middle and its text be cut."""
    rows = text_files.holds_rows(whole.file)
    if whole.stop is None or whole.rows is not None or text_files.is_compressed(whole.file):
        yield whole
        return
    if whole_documents and not rows:
        yield whole
        return
    start, first_row = whole.start, whole.first_row
    while whole.stop - start > target * 3 // 2:
        if rows:
            cut, lines = _end_of_line(whole.file, start, start + target, whole.stop)
        else:
            cut, lines = text_files.next_cut(whole.file, start + target, whole.stop), 0
        if cut == whole.stop:
            break
        yield replace(whole, start=start, stop=cut, first_row=first_row, ends_document=False)
        start, first_row = cut, first_row + lines
    yield replace(whole, start=start, first_row=first_row)


def _end_of_line(file: Path, start: int, wanted: int, stop: int) -> tuple[int, int]:
    """The end of the line that the byte at `wanted` belongs to, and the number of lines from start to there."""
    lines, at = 0, start
    with text_files.open_bytes(file) as content:
        content.seek(start)
        while at < wanted:
            block = content.read(min(2**20, wanted - at))
            lines += block.count(b"\n")
            at += len(block)
        rest = content.readline()
    return min(at + len(rest), stop), lines + 1
