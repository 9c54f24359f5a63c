"""Encoding of pieces of a corpus as shards."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gpt2_lightning.atomic import write_text
from gpt2_lightning.data.corpus import BadRow, BadRows, Corpus, Piece, Segment, Split
from gpt2_lightning.data.shards.format import ShardWriter, writing
from gpt2_lightning.data.shards.reports import is_whole, report_file, shard_name
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import Tokenizer

_LONGEST_WHOLE = 2**28


@dataclass(frozen=True)
class PieceEncoder:
    """Encoder of pieces; writes their shards and reports.

    Args:
        corpus: corpus of the pieces.
        tokenizer: encodes the text.
        source: fingerprint of the corpus, written to each shard.
        folder: folder of the shards.
    """

    corpus: Corpus
    tokenizer: Tokenizer
    source: str
    folder: Path

    def encode(self, number: int, piece: Piece) -> dict[str, Any]:
        """Write the shards of a piece, then its report, which marks them as complete.

        Returns:
            The report: number of the piece; tokens, documents and bytes of text of each shard; number of empty
            documents, which are omitted; numbers of the characters that the tokenizer lacks, if there are
            any, as `unknown`. For bad rows, their number and the first ten as `bad_rows` and `shown`;
            in this case nothing was written.

        Raises:
            UserError: if the text cannot be read or encoded.
            OSError: if the shards cannot be written; no incomplete file has the name of a shard.
        """
        file = report_file(self.folder, number)
        try:
            report = {"piece": number, **self._write_shards(number, piece)}
            write_text(file, json.dumps(report), durable=False)
        except _BadPiece as bad:
            return {"piece": number, "bad_rows": bad.rows.count, "shown": bad.rows.shown}
        except FileNotFoundError:
            # Another process encoded the same piece, and deleted all temporary files after the last piece was complete.
            if not is_whole(self.folder, number, self.source):
                raise
            report = json.loads(file.read_text(encoding="utf-8"))
        return report

    def _write_shards(self, number: int, piece: Piece) -> dict[str, Any]:
        shards: dict[Split, ShardWriter] = {}
        bad = BadRows()
        empty = 0
        self.tokenizer.unknown_counts.clear()
        with contextlib.ExitStack() as files:
            for segment in _fitted(self.corpus.read(piece), self.tokenizer):
                if isinstance(segment, BadRow):
                    bad.add(segment)
                elif not segment.text:
                    empty += segment.ends_document
                elif not bad.count:
                    if segment.split not in shards:
                        file = self.folder / shard_name(segment.split, number)
                        shards[segment.split] = files.enter_context(writing(file, self.tokenizer, self.source))
                    _add(shards[segment.split], segment, self.tokenizer)
            if bad.count:
                raise _BadPiece(bad)
        counts = {
            split: {
                "tokens": shard.tokens,
                "documents": shard.documents,
                "text_bytes": shard.text_bytes,
                "checksum": shard.checksum.hexdigest(),
            }
            for split, shard in shards.items()
        }
        report: dict[str, Any] = {"empty_documents": empty, **dict(sorted(counts.items()))}
        if unknown := dict(sorted(self.tokenizer.unknown_counts.items())):
            report["unknown"] = unknown
            self.tokenizer.unknown_counts.clear()
        return report


class _BadPiece(Exception):
    """Bad rows of a piece; raised inside `writing`, so that no shard is created."""

    def __init__(self, rows: BadRows) -> None:
        self.rows = rows


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
    """Join the segments of each document, for a tokenizer that requires whole documents."""
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
