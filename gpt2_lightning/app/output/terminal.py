"""Standard output: a terminal of some width, a file, or a pipe whose reader may stop."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from rich import get_console
from rich.console import Console


@contextlib.contextmanager
def until_the_reader_stops() -> Iterator[None]:
    """Write to standard output; that the reader of a pipe has seen enough, as in … | head, is no fault."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise  # rich makes an exit of a closed pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def wide_console(columns: int) -> Console:
    """The terminal as wide as it is; for a file or a pipe, which nobody narrows, this many columns at least."""
    console = get_console()
    return console if console.is_terminal else Console(width=max(console.width, columns))
