"""Standard output: closed pipes, and the width of files and pipes."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

from rich import get_console
from rich.console import Console

from gpt2_lightning.app.output.streams import discard


@contextlib.contextmanager
def until_the_reader_stops() -> Iterator[None]:
    """Context manager that ignores a closed pipe on standard output, as in … | head."""
    try:
        yield
        sys.stdout.flush()
    except (BrokenPipeError, SystemExit) as error:
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise  # rich turns a closed pipe into SystemExit
        discard(sys.stdout.fileno())


def wide_console(columns: int) -> Console:
    """Return the console of the terminal; for a file or a pipe, one that is at least `columns` wide."""
    console = get_console()
    return console if console.is_terminal else Console(width=max(console.width, columns))
