"""Queue of writes, which one thread can carry out while training continues."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any


class WriteQueue:
    """Carry out writes in their order: at once, or on a thread between `start` and `stop`.

    After a write of the thread has failed, those behind it are left out, and the next call of `check`, `wait` or `stop`
    raises its error.
    """

    def __init__(self) -> None:
        self._thread: ThreadPoolExecutor | None = None
        self._last: Future[None] | None = None

    @property
    def in_background(self) -> bool:
        """Whether writes are left to the thread."""
        return self._thread is not None

    def start(self) -> None:
        """Leave the following writes to a thread."""
        self._thread = self._thread or ThreadPoolExecutor(1, "checkpoints")

    def add(self, write: Callable[..., Any], *arguments: Any) -> None:
        """Add a write to the end of the queue.

        Args:
            write: function that writes. What it reads must not change before `wait` returns.
            arguments: its arguments.
        """
        if self._thread is None:
            write(*arguments)
        else:
            self._last = self._thread.submit(_write_after, self._last, write, *arguments)

    def check(self) -> None:
        """Raise the error of a write that has failed; do not wait for others."""
        if self._last is not None and self._last.done():
            self.wait()

    def wait(self) -> None:
        """Wait until the queue is empty, and raise the error of a write that has failed."""
        if self._last is not None:
            concurrent.futures.wait([self._last])  # a signal may interrupt it, and the queue is as before
            last, self._last = self._last, None
            last.result()

    def stop(self) -> None:
        """Wait until the queue is empty, end the thread, and raise the error of a write that has failed."""
        try:
            self.wait()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
                self._thread = None


def _write_after(previous: Future[None] | None, write: Callable[..., Any], *arguments: Any) -> None:
    """Write unless the write before has failed."""
    if previous is not None:
        previous.result()
    write(*arguments)
