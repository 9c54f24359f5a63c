"""Programs on a pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import pty
import select
import time
from collections.abc import Iterator
from pathlib import Path

from tests.programs import Program, running

LIMIT = 60.0


class Terminal:
    """A program on a pseudo-terminal, which Ctrl-C and Ctrl-D reach as they reach one in a window."""

    def __init__(self, program: Program, fd: int) -> None:
        self.program, self.fd, self.seen = program, fd, ""

    def type(self, keys: str) -> None:
        os.write(self.fd, keys.encode())

    def ctrl_c(self) -> None:
        """After a while: readline sees a signal that comes before it waits for a key with the next key only."""
        time.sleep(0.3)
        self.type("\x03")

    def until(self, text: str) -> str:
        """All that appears up to and with a text."""
        deadline = time.monotonic() + LIMIT
        while text not in self.seen:
            assert time.monotonic() < deadline, f"{text!r} did not appear in {self.seen!r}"
            if select.select([self.fd], [], [], 0.1)[0]:
                self.seen += os.read(self.fd, 4096).decode(errors="replace")
        before, _, self.seen = self.seen.partition(text)
        return before + text


@contextlib.contextmanager
def on_a_terminal(verb: str, *arguments: str) -> Iterator[Terminal]:
    """Run a program, which must have ended well by itself in the end."""
    fd, inside = pty.openpty()
    try:
        with running(verb, *arguments, output=Path(os.ttyname(inside))) as program:
            yield Terminal(program, fd)
            assert program.wait(LIMIT) == 0
    finally:
        os.close(inside)
        os.close(fd)
