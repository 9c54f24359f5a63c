"""Preparation of a corpus as token shards: parallel, distributed over machines, and resumable.

The division of a corpus into pieces is the same on all machines. A piece is encoded as at most two shards and then a
report, which marks them as complete. When all reports exist, they are collected in `meta.json`, and the folder is
ready.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.data.corpus import BadRows, Corpus, Piece
from gpt2_lightning.data.shards.encode import PieceEncoder
from gpt2_lightning.data.shards.folder import META, claim, finish, is_ready
from gpt2_lightning.data.shards.reports import is_whole
from gpt2_lightning.data.shards.worker_pool import encode_in_processes
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import Tokenizer

_IN_THIS_PROCESS = 4 * 2**20
"""Bytes of text below which starting worker processes takes longer than encoding."""

Advance = Callable[[int], None]
"""Progress callback; takes the bytes of text encoded since the last call."""


@dataclass(frozen=True)
class Prepared:
    """Result of preparing a corpus."""

    folder: Path
    missing: int
    """Number of pieces not yet prepared by other machines; 0 if the folder is ready."""
    was_ready: bool
    """Whether the folder was ready before the call."""


def prepare(
    corpus: Corpus,
    tokenizer: Tokenizer,
    folder: Path,
    cache_dir: Path,
    workers: int | None = None,
    start: Callable[[int], Advance] = lambda total: lambda done: None,
) -> Prepared:
    """Encode the pieces that are not encoded yet.

    Args:
        corpus: the corpus, with the settings `shard` and `num_shards` of this machine.
        tokenizer: encodes the text.
        folder: folder of the shards.
        cache_dir: cache folder for the digests of large files.
        workers: number of processes; None for one per core, or only this process for little text.
        start: called with the total bytes of text to encode, for a progress bar.

    Raises:
        UserError: if the folder contains something else, the text cannot be read or encoded, rows are bad, or the disk
            is full. Complete pieces are kept.
    """
    source = corpus.fingerprint(cache_dir)
    claim(folder, corpus, tokenizer, source)
    if is_ready(folder, source):
        return Prepared(folder, missing=0, was_ready=True)
    (folder / META).unlink(missing_ok=True)
    pieces = list(enumerate(corpus.pieces(whole_documents=not tokenizer.cuts_at_spaces)))
    ours = [(n, p) for n, p in pieces if corpus.shard is None or n % corpus.num_shards == corpus.shard]
    todo = [(n, p) for n, p in ours if not is_whole(folder, n, source)]
    total = sum(piece.size for _, piece in todo)
    encoder = PieceEncoder(corpus, tokenizer, source, folder)
    try:
        _encode_all(encoder, todo, min(workers or _workers_for(total), len(todo)), start(total))
        missing = sum(not is_whole(folder, n, source) for n, _ in pieces)
        if not missing:
            finish(folder, len(pieces), corpus.val_fraction)
    except MemoryError:
        raise UserError(
            "memory is exhausted: encoding a text without spaces takes 30 bytes for each of its characters; divide it "
            "into lines, or start again with fewer workers=, what is whole is kept"
        ) from None
    except OSError as error:
        raise _write_error(error, encoder, todo) from None
    return Prepared(folder, missing, was_ready=not todo and not missing)


def _workers_for(total: int) -> int:
    """Return the default number of workers: 1 for little text, otherwise the number of usable cores."""
    if total <= _IN_THIS_PROCESS:
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _encode_all(encoder: PieceEncoder, todo: list[tuple[int, Piece]], workers: int, advance: Advance) -> None:
    bad = []
    encoded = encode_in_processes(encoder, todo, workers) if workers > 1 else _encode_here(encoder, todo)
    for piece, report in encoded:
        advance(piece.size)
        if "bad_rows" in report:
            bad.append(report)
    if bad:
        raise _bad_rows_error(bad)


def _encode_here(encoder: PieceEncoder, todo: list[tuple[int, Piece]]) -> Iterator[tuple[Piece, dict[str, Any]]]:
    for number, piece in todo:
        yield piece, encoder.encode(number, piece)


def _bad_rows_error(reports: list[dict[str, Any]]) -> UserError:
    in_order = sorted(reports, key=lambda report: report["piece"])
    return BadRows(
        sum(report["bad_rows"] for report in reports), [row for report in in_order for row in report["shown"]]
    ).error()


def _write_error(error: OSError, encoder: PieceEncoder, todo: list[tuple[int, Piece]]) -> UserError:
    folder = encoder.folder
    left = [(n, p) for n, p in todo if not is_whole(folder, n, encoder.source)]
    needed = sum(piece.size for _, piece in left) / 2e6
    reason = error.strerror or str(error)
    if error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        free = shutil.disk_usage(folder).free / 1e6
        reason += f": {len(left)} pieces need about {needed:,.1f} MB"
        if error.errno == errno.ENOSPC:
            reason += f", {free:,.1f} MB are free"
    return UserError(
        f"the token shards in {folder} cannot be written: {reason}; make room or name another folder, "
        "then start again: what is whole is kept"
    )
