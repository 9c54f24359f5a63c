"""Corpora of text files."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from gpt2_lightning.data.corpora import text_files
from gpt2_lightning.data.corpora.byte_streams import MAX_RATIO, content_bytes, open_bytes
from gpt2_lightning.data.corpora.find_files import find, holds_rows, is_compressed
from gpt2_lightning.data.corpora.json_rows import text_of_row
from gpt2_lightning.data.corpus import BadRow, Corpus, Piece, Segment, Split, split_of
from gpt2_lightning.data.shards.digests import digest
from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import PathText, PositiveInt

_PIECES = 256
_SMALLEST_PIECE, _LARGEST_PIECE = 2**18, 2**30


@dataclass(frozen=True)
class ByteRange:
    """A range of bytes of a file."""

    file: Path
    place: int
    """Index of the first document in the corpus."""
    start: int
    stop: int | None
    """Offset after the last byte; None for the end of a compressed file, whose length is unknown."""
    split: Split | None
    """None if the split is determined per row."""
    rows: int | None = None
    """Maximum number of rows; None for all."""
    first_row: int = 0
    ends_document: bool = True
    """Whether a text file's document ends with the range; rows are always complete documents."""

    @property
    def size(self) -> int:
        return (self.file.stat().st_size if self.stop is None else self.stop) - self.start


@dataclass(frozen=True)
class TextPiece:
    """Byte ranges that are encoded together."""

    ranges: tuple[ByteRange, ...]

    @property
    def size(self) -> int:
        return sum(part.size for part in self.ranges)


@dataclass(frozen=True, kw_only=True)
class TextCorpus(Corpus):
    """Corpus of text files, one document each, and JSON Lines files, one document per row.

    A byte-order mark is removed, and `\\r\\n` is replaced by `\\n`. `.gz` and `.zst` files are decompressed while
    reading.
    """

    path: PathText
    """A file, a folder, a pattern such as `books/**/*.txt`, or `embedded:NAME`, a folder of the package."""
    val_path: PathText | None = None
    """Validation text; null to hold out a part of `path`."""
    field: str = "text"
    """Field of the text in a row of a `.jsonl` file."""
    errors: text_files.Errors = "strict"
    """Handling of bytes that are not UTF-8: `strict` stops, `replace` replaces them with U+FFFD."""
    max_ratio: PositiveInt = MAX_RATIO
    """Maximum ratio of decompressed to compressed size of a `.gz` or `.zst` file of more than 256 MiB of text, a limit
    to what a small file can occupy."""

    def files(self) -> list[Path]:
        """Files of `path`."""
        return find(self.path, "data.path")

    def val_files(self) -> list[Path]:
        """Files of `val_path`."""
        return find(self.val_path, "data.val_path") if self.val_path else []

    @property
    def several_documents(self) -> bool:
        files = self.files()
        return len(files) > 1 or holds_rows(files[0])

    def fingerprint(self, cache_dir: Path) -> str:
        files = self.files()
        parts = [[[f.name, digest(f, cache_dir)] for f in part] for part in (files, self.val_files())]
        if self._divides_each(files) and len(files[: self.limit]) > 1:
            parts.append([["heads end documents"]])  # earlier versions joined them, and their shards must not be reused
        return hashlib.sha256(json.dumps([self.settings(), parts]).encode()).hexdigest()

    def pieces(self, whole_documents: bool) -> list[Piece]:
        """Divide the files into about 256 pieces of equal size, in the order of the files."""
        wholes = self._wholes()
        target = min(max(sum(part.size for part in wholes) // _PIECES, _SMALLEST_PIECE), _LARGEST_PIECE)
        pieces: list[Piece] = []
        collected: list[ByteRange] = []
        size = 0
        for part in (part for whole in wholes for part in _divided(whole, target, whole_documents)):
            collected.append(part)
            size += part.size
            if size >= target:
                pieces.append(TextPiece(tuple(collected)))
                collected, size = [], 0
        return [*pieces, TextPiece(tuple(collected))] if collected else pieces

    def read(self, piece: TextPiece) -> Iterator[Segment | BadRow]:
        for part in piece.ranges:
            yield from self._rows(part) if holds_rows(part.file) else self._text(part)

    def _wholes(self) -> list[ByteRange]:
        """Return every file, or its training and validation parts, in order."""
        files = self.files()
        training = self._limited(files, None if self.val_path is None else "train")
        if self.val_path is not None:
            return training + self._limited(self.val_files(), "val")
        if self._divides_each(files):
            return [part for whole in training for part in self._head_and_tail(whole, is_only=len(training) == 1)]
        return [s if holds_rows(s.file) else replace(s, split=split_of(s.place, self.val_fraction)) for s in training]

    def _divides_each(self, files: list[Path]) -> bool:
        """Whether the last part of each file validates, because of so few files not one would."""
        taken = files[: self.limit]
        return self.val_path is None and len(taken) * self.val_fraction < 1 and not any(map(holds_rows, taken))

    def _limited(self, files: list[Path], split: Split | None) -> list[ByteRange]:
        left = math.inf if self.limit is None else self.limit
        ranges = []
        for place, file in enumerate(files):
            if left <= 0:
                break
            if (size := file.stat().st_size) == 0:
                raise UserError(f"{file} is empty; name a file with text in it")
            rows = None
            if not holds_rows(file):
                left -= 1
            elif self.limit is not None:
                rows = _count_rows(file, int(left), self.max_ratio)
                left -= rows
            stop = None if is_compressed(file) else size
            ranges.append(ByteRange(file, place, 0, stop, split, rows))
        return ranges

    def _head_and_tail(self, whole: ByteRange, is_only: bool) -> tuple[ByteRange, ByteRange]:
        """Divide a file into its training and its validation part.

        The head of one of several files is a document, since the head of another follows, and it ends with a word. An
        only file is divided as nanoGPT does.
        """
        size = content_bytes(whole.file, self.max_ratio)
        cut = text_files.character_start(whole.file, int(size * (1 - self.val_fraction)))
        if not is_only:
            cut = text_files.word_end(whole.file, cut, size)
        if not 0 < cut < size:
            raise UserError(
                f"{whole.file} has {size} bytes; with val_fraction={self.val_fraction} its training or its "
                "validation part is empty; use a longer text"
            )
        head = replace(whole, stop=cut, split="train", ends_document=not is_only)
        return head, replace(whole, start=cut, stop=size, split="val")

    def _text(self, part: ByteRange) -> Iterator[Segment]:
        assert part.split is not None, "decided when the pieces were made"
        texts = text_files.read_text(part.file, part.start, part.stop, self.errors, self.max_ratio)
        previous, blank = "", True
        for text in texts:
            if previous:
                yield Segment(previous, part.split, ends_document=False)
            previous, blank = text, blank and not text.strip()
        if blank and part.start == 0:
            raise UserError(f"{part.file} is empty; name a file with text in it")
        yield Segment(previous, part.split, part.ends_document)

    def _rows(self, part: ByteRange) -> Iterator[Segment | BadRow]:
        taken = 0
        lines = text_files.read_lines(part.file, part.start, part.stop, self.max_ratio)
        for number, line in enumerate(lines, start=part.first_row):
            if taken == part.rows:
                return
            if not line.strip():
                continue
            taken += 1
            text = text_of_row(line, self.field, self.errors, f"{part.file}, row {number + 1}")
            split = part.split or split_of(part.place + number, self.val_fraction)
            if isinstance(text, BadRow):
                yield text
                continue
            *chunks, last = text_files.divided(text)
            for chunk in chunks:
                yield Segment(chunk, split, ends_document=False)
            yield Segment(last, split)


def _count_rows(file: Path, at_most: int, max_ratio: int) -> int:
    count = 0
    for line in text_files.read_lines(file, 0, None, max_ratio):
        count += bool(line.strip())
        if count == at_most:
            break
    return count


def _divided(whole: ByteRange, target: int, whole_documents: bool) -> Iterator[ByteRange]:
    """Divide a file into ranges of about the target size, if it is seekable and its text may be cut."""
    rows = holds_rows(whole.file)
    if whole.stop is None or whole.rows is not None or is_compressed(whole.file):
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
    """Return the end of the line that contains the byte at `wanted`, and the number of lines from `start` to it."""
    lines, at = 0, start
    with open_bytes(file) as content:
        content.seek(start)
        while at < wanted:
            block = content.read(min(2**20, wanted - at))
            lines += block.count(b"\n")
            at += len(block)
        rest = content.readline()
    return min(at + len(rest), stop), lines + 1
