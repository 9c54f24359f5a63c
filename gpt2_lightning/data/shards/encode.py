"""One piece of a corpus, from text to shards: what a worker of `prepare` does."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gpt2_lightning.atomic import write_text
from gpt2_lightning.data.corpus import BadRow, Corpus, Piece, Segment, Split
from gpt2_lightning.data.shards.format import ShardWriter, read_header, writing
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import Tokenizer

SHOWN = 10
"""Bad rows that a message lists; the others are counted."""
REPORTS = "pieces"
"""Folder of the reports of finished pieces, inside that of the shards."""
_LONGEST_WHOLE = 2**28
SPLITS: tuple[Split, ...] = ("train", "val")


def shard_name(split: Split, number: int) -> str:
    """File name of what a piece holds for training or validation."""
    return f"{split}-{number:05d}.bin"


def report_file(folder: Path, number: int) -> Path:
    """Where a finished piece says what it holds."""
    return folder / REPORTS / f"{number:05d}.json"


def encode_piece(
    corpus: Corpus, piece: Piece, number: int, tokenizer: Tokenizer, source: str, folder: Path
) -> dict[str, Any]:
    """Write the shards of a piece and then its report, which says that they are whole.

    Returns:
        The report: number of the piece, tokens, documents and bytes of text of each shard, and how many empty documents
        were left out. Where rows are bad, their number and the first ten, as `bad_rows` and `shown`; then nothing was
        written.

    Raises:
        UserError: if the text cannot be read or encoded.
        OSError: if the shards cannot be written; nothing half-written has a shard's name.
    """
    file = report_file(folder, number)
    try:
        report = {"piece": number, **_write_shards(corpus, piece, number, tokenizer, source, folder)}
        write_text(file, json.dumps(report), durable=False)
    except _BadRows as bad:
        return {"piece": number, "bad_rows": bad.count, "shown": bad.shown}
    except FileNotFoundError:
        # Another process made the same piece, and cleared up when all of them were there.
        if not is_whole(folder, number, source):
            raise
        report = json.loads(file.read_text(encoding="utf-8"))
    return report


def has_reports(folder: Path) -> bool:
    """Whether any piece is done."""
    return any((folder / REPORTS).glob("*.json"))


def is_whole(folder: Path, number: int, source: str) -> bool:
    """Whether a piece is done: it has a report, and each of its shards is there, the right one and not cut off."""
    try:
        report = json.loads(report_file(folder, number).read_text(encoding="utf-8"))
        for split in [split for split in SPLITS if split in report]:
            header = read_header(folder / shard_name(split, number))
            if header.source != source or header.checksum != report[split]["checksum"]:
                return False
    except (OSError, ValueError, KeyError, TypeError, UserError):
        return False
    return True


def clear_up(folder: Path, process: str = "*") -> None:
    """Take away what a process, or any, left half-written. No other process needs it once all pieces are whole."""
    for temporary in (*folder.glob(f".*.bin.{process}.tmp"), *(folder / REPORTS).glob(f".*.{process}.tmp")):
        with contextlib.suppress(OSError):
            temporary.unlink()


class _BadRows(Exception):
    """Leaves the block that would give the shards their names."""

    def __init__(self) -> None:
        self.count, self.shown = 0, list[str]()

    def add(self, row: BadRow) -> None:
        self.count += 1
        if self.count <= SHOWN:
            self.shown.append(f"{row.where}: {row.reason}")


def _write_shards(
    corpus: Corpus, piece: Piece, number: int, tokenizer: Tokenizer, source: str, folder: Path
) -> dict[str, Any]:
    shards: dict[Split, ShardWriter] = {}
    bad = _BadRows()
    empty = 0
    with contextlib.ExitStack() as files:
        for segment in _fitted(corpus.read(piece), tokenizer):
            if isinstance(segment, BadRow):
                bad.add(segment)
            elif not segment.text:
                empty += segment.ends_document
            elif not bad.count:
                if segment.split not in shards:
                    file = folder / shard_name(segment.split, number)
                    shards[segment.split] = files.enter_context(writing(file, tokenizer, source))
                _add(shards[segment.split], segment, tokenizer)
        if bad.count:
            raise bad
    counts = {
        split: {
            "tokens": shard.tokens,
            "documents": shard.documents,
            "text_bytes": shard.text_bytes,
            "checksum": shard.checksum.hexdigest(),
        }
        for split, shard in shards.items()
    }
    return {"empty_documents": empty, **dict(sorted(counts.items()))}


def _add(shard: ShardWriter, segment: Segment, tokenizer: Tokenizer) -> None:
    try:
        shard.add(tokenizer.encode(segment.text))
    except UserError as error:
        part = "training" if segment.split == "train" else "validation"
        raise UserError(f"in the {part} part of the text: {error}") from None
    shard.text_bytes += len(segment.text if segment.text.isascii() else segment.text.encode(errors="surrogatepass"))
    if segment.ends_document:
        shard.documents += 1
        if tokenizer.end_of_text is not None:
            shard.add(np.array([tokenizer.end_of_text], dtype=tokenizer.dtype))


def _fitted(segments: Iterator[Segment | BadRow], tokenizer: Tokenizer) -> Iterator[Segment | BadRow]:
    """Whole documents, for a tokenizer that may not see parts of them."""
    if tokenizer.cuts_at_spaces:
        yield from segments
        return
    parts: list[str] = []
    split: Split = "train"
    for segment in segments:
        if isinstance(segment, BadRow):
            yield segment
            continue
        split = segment.split
        parts.append(segment.text)
        if sum(map(len, parts)) > _LONGEST_WHOLE:
            raise UserError(
                f"a document has more than {_LONGEST_WHOLE:,} characters, and a {tokenizer.kind} tokenizer must see "
                "documents whole; divide it, or use tokenizer=gpt2 or bpe"
            )
        if segment.ends_document:
            yield Segment("".join(parts), segment.split)
            parts = []
    if parts:
        yield Segment("".join(parts), split, ends_document=False)
