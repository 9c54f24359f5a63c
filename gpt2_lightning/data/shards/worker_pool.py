"""Pool of worker processes that encode pieces. Workers are spawned, ignore SIGINT, and terminate with their parent."""

from __future__ import annotations

import concurrent.futures.process
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from gpt2_lightning.data.corpus import Corpus, Piece
from gpt2_lightning.data.shards.encode import PieceEncoder
from gpt2_lightning.data.shards.reports import clear_up
from gpt2_lightning.errors import UserError
from gpt2_lightning.process_folder import process_folder
from gpt2_lightning.tokenizers import tokenizer_from_text


def encode_in_processes(
    encoder: PieceEncoder, pieces: Iterable[tuple[int, Piece]], workers: int
) -> Iterator[tuple[Piece, dict[str, Any]]]:
    """Encode pieces in parallel.

    Args:
        encoder: encoder of this process; each worker creates its own.
        pieces: pieces with their numbers.
        workers: number of processes.

    Yields:
        Each piece with its report, in the order of completion.

    Raises:
        UserError: if a worker was killed, or a piece cannot be read or encoded.
    """
    arguments = (encoder.corpus, encoder.tokenizer.to_text(), encoder.source, encoder.folder)
    # Not fork, since torch may have started threads in this process.
    context = multiprocessing.get_context("spawn")
    process_folder()  # names the semaphores of the pool
    pool = concurrent.futures.ProcessPoolExecutor(workers, context, initializer=_start_worker, initargs=arguments)
    try:
        with _blocked_interrupts():
            running = {pool.submit(_encode, number, piece): piece for number, piece in pieces}
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
def _blocked_interrupts() -> Iterator[None]:
    """Block SIGINT in this process and in those it starts: Ctrl-C is sent to all processes of a terminal, and would
    terminate a worker before it ignores the signal."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_encoder: PieceEncoder
"""Encoder of a worker process; tasks of an executor can share state only through a global."""


def _start_worker(corpus: Corpus, tokenizer: str, source: str, folder: Path) -> None:
    global _encoder
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C and terminates its workers
    _encoder = PieceEncoder(corpus, tokenizer_from_text(tokenizer), source, folder)
    signal.signal(signal.SIGTERM, _end_worker)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _encode(number: int, piece: Piece) -> dict[str, Any]:
    return _encoder.encode(number, piece)


def _end_worker(number: int, frame: Any) -> None:
    """Delete the temporary files of this process and exit immediately, since the executor would catch an exception and
    wait for its locks again."""
    clear_up(_encoder.folder, f"{os.getpid()}@*")
    os._exit(128 + number)


def _end_with_parent() -> None:
    """Terminate when the parent dies, since a worker would otherwise wait for its next piece forever."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "called in a worker"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
