"""A corpus as token shards, made once: by several processes, on several machines, and with interruptions.

The corpus is divided into pieces in the same way everywhere. A piece becomes at most two shards, and then a report that
says that they are whole. When all reports are there, `meta.json` gathers them, and the folder is ready.
"""

from __future__ import annotations

import concurrent.futures.process
import contextlib
import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.atomic import make_durable, write_text
from gpt2_lightning.data.corpus import Corpus, Piece
from gpt2_lightning.data.shards.encode import (
    REPORTS,
    SHOWN,
    SPLITS,
    clear_up,
    encode_piece,
    has_reports,
    is_whole,
    report_file,
    shard_name,
)
from gpt2_lightning.errors import UserError
from gpt2_lightning.tokenizers import Tokenizer, tokenizer_from_text
from gpt2_lightning.tokenizers.saved import FILE as TOKENIZER
from gpt2_lightning.tokenizers.saved import write_tokenizer

META = "meta.json"
SETTINGS = "settings.json"
"""What the folder is for; written first, so that other settings are told apart."""
FORMAT = 1
_IN_THIS_PROCESS = 4 * 2**20
"""Bytes of text that are encoded sooner than other processes start."""

Advance = Callable[[int], None]
"""Called with the bytes of text that were encoded since the last call."""


@dataclass(frozen=True)
class Prepared:
    """What a call left behind."""

    folder: Path
    missing: int
    """Pieces that are still to be prepared, by other machines; 0 when the folder is ready."""
    was_ready: bool
    """Whether there was nothing to do."""


@dataclass(frozen=True)
class _Work:
    """What every piece's worker needs."""

    corpus: Corpus
    tokenizer: Tokenizer
    source: str
    folder: Path


def folder_of(corpus: Corpus, tokenizer: Tokenizer, cache_dir: Path) -> Path:
    """Where the shards of a corpus and a tokenizer belong, unless the user names a folder."""
    return cache_dir / "tokens" / _identity(corpus.fingerprint(cache_dir), tokenizer)[:24]


def prepare(
    corpus: Corpus,
    tokenizer: Tokenizer,
    folder: Path,
    cache_dir: Path,
    workers: int | None = None,
    start: Callable[[int], Advance] = lambda total: lambda done: None,
) -> Prepared:
    """Encode what is not encoded yet.

    Args:
        corpus: the documents, and which share of them is this machine's.
        tokenizer: what makes the ids.
        folder: where the shards go.
        cache_dir: where digests of large files are remembered.
        workers: processes; None for one per core, and for this process alone where there is little to do.
        start: called with all bytes of text that are to be encoded, for a progress bar.

    Raises:
        UserError: if the folder is for something else, the text cannot be read or encoded, rows are bad, or the disk is
            full. What is whole is kept.
    """
    source = corpus.fingerprint(cache_dir)
    _claim(folder, corpus, tokenizer, source)
    if _is_ready(folder, source):
        return Prepared(folder, missing=0, was_ready=True)
    (folder / META).unlink(missing_ok=True)
    pieces = list(enumerate(corpus.pieces(whole_documents=not tokenizer.cuts_at_spaces)))
    ours = [(n, p) for n, p in pieces if corpus.shard is None or n % corpus.num_shards == corpus.shard]
    todo = [(n, p) for n, p in ours if not is_whole(folder, n, source)]
    work = _Work(corpus, tokenizer, source, folder)
    try:
        _encode_all(work, todo, workers, start(sum(piece.size for _, piece in todo)))
        missing = sum(not is_whole(folder, n, source) for n, _ in pieces)
        if not missing:
            _finish(work, len(pieces))
    except OSError as error:
        raise _cannot_write(error, work, todo) from None
    return Prepared(folder, missing, was_ready=not todo and not missing)


def count_done(folder: Path) -> int:
    """Pieces that are done."""
    return len(list((folder / REPORTS).glob("*.json")))


def _identity(source: str, tokenizer: Tokenizer) -> str:
    return hashlib.sha256(f"{FORMAT} {source} {tokenizer.hash()}".encode()).hexdigest()


def _claim(folder: Path, corpus: Corpus, tokenizer: Tokenizer, source: str) -> None:
    """Note what the folder is for, or compare it with what was noted."""
    wanted = {
        "format": FORMAT,
        "source": source,
        "tokenizer": {"kind": tokenizer.kind, "vocab_size": tokenizer.vocab_size, "hash": tokenizer.hash()},
        "corpus": {"kind": type(corpus).__name__, **corpus.settings()},
    }
    file = folder / SETTINGS
    try:
        # Looked at first, since another machine may claim the folder just now.
        known = (TOKENIZER, SETTINGS, REPORTS)
        others = folder.exists() and any(f.name[0] != "." and f.name not in known for f in folder.iterdir())
        if file.exists() and not (folder / META).exists() and not has_reports(folder):
            file.unlink()  # nothing came of it
        if not file.exists():
            if others:
                raise UserError(f"the folder {folder} holds other things than token shards; name another with output=")
            write_tokenizer(tokenizer, folder / TOKENIZER)
            write_text(file, json.dumps(wanted, indent=2) + "\n")
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be written: {error.strerror}; name another with output=") from None
    except ValueError:
        raise UserError(f"{file} is damaged; delete the folder, or name another with output=") from None
    if differing := list(_differences(found, json.loads(json.dumps(wanted)))):
        listed = "\n  ".join(differing)
        raise UserError(
            f"the folder {folder} holds shards made with other settings:\n  {listed}\n"
            "name another folder with output=, or delete this one"
        )


def _differences(found: Any, wanted: Any, path: str = "") -> Iterator[str]:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in {**found, **wanted}:
            yield from _differences(found.get(key), wanted.get(key), f"{path}.{key}" if path else key)
    elif found != wanted:
        yield f"{path}: {found} there, {wanted} now"


def _is_ready(folder: Path, source: str) -> bool:
    """Whether the folder was finished, and all of it is still there."""
    try:
        pieces = int(json.loads((folder / META).read_text(encoding="utf-8"))["pieces"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return all(is_whole(folder, number, source) for number in range(pieces))


def _encode_all(work: _Work, todo: list[tuple[int, Piece]], workers: int | None, advance: Advance) -> None:
    total = sum(piece.size for _, piece in todo)
    count = min(workers or (1 if total <= _IN_THIS_PROCESS else _cores()), len(todo))
    bad = []
    for piece, report in _in_processes(work, todo, count) if count > 1 else _here(work, todo):
        advance(piece.size)
        if "bad_rows" in report:
            bad.append(report)
    if bad:
        bad_rows = sum(report["bad_rows"] for report in bad)
        shown = [row for report in sorted(bad, key=lambda report: report["piece"]) for row in report["shown"]]
        more = f"\n  and {bad_rows - SHOWN} more" if bad_rows > SHOWN else ""
        listed = "\n  ".join(shown[:SHOWN])
        raise UserError(
            f"{bad_rows} rows are no documents; mend them, leave them out or name another data.field:\n  {listed}{more}"
        )


def _here(work: _Work, todo: list[tuple[int, Piece]]) -> Iterator[tuple[Piece, dict[str, Any]]]:
    for number, piece in todo:
        yield piece, encode_piece(work.corpus, piece, number, work.tokenizer, work.source, work.folder)


def _in_processes(work: _Work, todo: list[tuple[int, Piece]], workers: int) -> Iterator[tuple[Piece, dict[str, Any]]]:
    plain = (work.corpus, work.tokenizer.to_text(), work.source, work.folder)
    # Not forked: torch may have started threads in this process.
    context = multiprocessing.get_context("spawn")
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=plain)
    try:
        with _interrupts_held_back():
            running = {pool.submit(_encode_in_worker, number, piece): piece for number, piece in todo}
        for done in concurrent.futures.as_completed(running):
            yield running[done], done.result()
    except concurrent.futures.process.BrokenProcessPool:
        raise UserError(
            "a worker process was killed, perhaps for want of memory; start again with fewer workers=, "
            "what is whole is kept"
        ) from None
    except BaseException:
        for process in list((pool._processes or {}).values()):
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """New processes inherit this: Ctrl-C, which reaches all of a terminal, is not to end one that is just starting."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_work: _Work
"""A worker process's own."""


def _start_worker(corpus: Corpus, tokenizer: str, source: str, folder: Path) -> None:
    global _work
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's, which ends its workers
    _work = _Work(corpus, tokenizer_from_text(tokenizer), source, folder)
    signal.signal(signal.SIGTERM, _end_worker)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_worker(number: int, frame: Any) -> None:
    """End at once and leave nothing half-written. The pool would catch an exception and wait for its locks again."""
    clear_up(_work.folder, str(os.getpid()))
    os._exit(128 + number)


def _end_with_parent() -> None:
    """A worker of a killed parent would wait for its next piece for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a worker"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)


def _encode_in_worker(number: int, piece: Piece) -> dict[str, Any]:
    return encode_piece(_work.corpus, piece, number, _work.tokenizer, _work.source, _work.folder)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _finish(work: _Work, pieces: int) -> None:
    """Gather the reports; the folder is ready with this."""
    reports = [json.loads(report_file(work.folder, n).read_text(encoding="utf-8")) for n in range(pieces)]
    parts = {
        split: {
            key: sum(report[split][key] for report in reports if split in report)
            for key in ("tokens", "documents", "text_bytes")
        }
        | {"shards": {report["piece"]: report[split]["checksum"] for report in reports if split in report}}
        for split in ("train", "val")
    }
    for split, name in (("train", "training"), ("val", "validation")):
        if not parts[split]["tokens"]:
            documents = parts["train"]["documents"] + parts["val"]["documents"]
            raise UserError(
                f"the {name} part is empty: the corpus has {documents:,} documents, and "
                f"val_fraction={work.corpus.val_fraction} leaves none for it; change data.val_fraction"
            )
    clear_up(work.folder)
    for shard in [shard_name(split, n) for split in SPLITS for n in parts[split]["shards"]]:
        make_durable(work.folder / shard)
    settings = json.loads((work.folder / SETTINGS).read_text(encoding="utf-8"))
    empty = sum(report["empty_documents"] for report in reports)
    meta = {**settings, "pieces": pieces, **parts, "empty_documents": empty}
    write_text(work.folder / META, json.dumps(meta, indent=2) + "\n")


def _cannot_write(error: OSError, work: _Work, todo: list[tuple[int, Piece]]) -> UserError:
    folder = work.folder
    left = [(n, p) for n, p in todo if not is_whole(folder, n, work.source)]
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
