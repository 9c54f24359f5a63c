"""Standard output and error whose reader may leave, or whose disk may be full."""

from __future__ import annotations

import io
import logging
import os
import sys
from typing import Any


class _Stream(io.FileIO):
    """Standard output or error, which discards all output once writing has failed.

    Args:
        descriptor: the stream's file descriptor.
        required: name of the stream in the error to raise; None to continue without output.
    """

    def __init__(self, descriptor: int, required: str | None) -> None:
        super().__init__(descriptor, "w", closefd=False)
        self._required = required

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            discard(self.fileno())
            if self._required is None:
                return len(data)
            error.filename = self._required
            raise


def guard_output(required: bool) -> None:
    """Let the program continue when the reader of a pipe has left, or the disk of a redirected output is full.

    Args:
        required: whether the result is printed, rather than written to files: an error on standard output is then
            raised, as an `OSError` that names it. Messages on standard error are never required.
    """
    sys.stdout = _guarded(sys.stdout, "standard output" if required else None)
    sys.stderr = _guarded(sys.stderr, None)


def _guarded(stream: Any, required: str | None) -> Any:
    buffer = getattr(stream, "buffer", None)
    if type(stream) is not io.TextIOWrapper or type(getattr(buffer, "raw", buffer)) is not io.FileIO:
        return stream  # replaced by another program, such as a notebook, or a console of Windows
    stream.flush()
    raw = _Stream(stream.fileno(), required)
    return io.TextIOWrapper(
        raw if isinstance(buffer, io.FileIO) else io.BufferedWriter(raw),  # with PYTHONUNBUFFERED there is no buffer
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def discard(descriptor: int) -> None:
    """Redirect a file descriptor to the null device."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, descriptor)
    os.close(null)


def raise_logging_errors() -> None:
    """Let errors of writing a log message propagate; by default, logging prints a traceback for each and continues."""

    def handle(self: logging.Handler, record: logging.LogRecord) -> None:
        raise  # called by logging in its `except` block

    logging.Handler.handleError = handle  # type: ignore[method-assign]  # of all handlers, including Hydra's
