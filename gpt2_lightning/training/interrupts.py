"""Handling of Ctrl-C, SIGTERM and SIGHUP, that of a closed terminal: stop at the end of the step."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from types import FrameType
from typing import Any

from gpt2_lightning.training import distributed

_SECONDS_OF_ECHO = 2.0
_latest: int | None = None


def latest_signal() -> int | None:
    """Number of the latest signal that a `SignalWatch` of this process has recorded; None if there is none."""
    return _latest


class Interrupted(Exception):
    """Raised when training stops after a signal.

    Args:
        signal_number: number of the signal.
        saved: whether a checkpoint was saved before.
    """

    def __init__(self, signal_number: int, saved: bool) -> None:
        super().__init__(signal.Signals(signal_number).name)
        self.signal_number = signal_number
        self.saved = saved

    @property
    def exit_code(self) -> int:
        """Exit code by the shell's convention: 130 after Ctrl-C, 143 after SIGTERM, 129 after SIGHUP."""
        return 128 + self.signal_number


class SignalWatch:
    """Record the first signal; raise `Interrupted` at the second.

    With several ranks, a process may receive the same Ctrl-C twice, from the terminal and from its launcher: a second
    signal within two seconds is ignored.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._received_at = 0.0
        self._previous: dict[int, Any] = {}

    def start(self) -> None:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:  # as by nohup
                    self._previous[number] = signal.signal(number, self._handle)

    def stop(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        global _latest
        now, _latest = time.monotonic(), number
        if self.received is not None:
            if distributed.world_size() > 1 and now - self._received_at < _SECONDS_OF_ECHO:
                return
            raise Interrupted(number, saved=False)
        self.received, self._received_at = number, now
        if distributed.is_rank_zero():
            # Inside a signal handler, only an unbuffered write is safe.
            with contextlib.suppress(OSError):  # nobody reads it
                os.write(2, b"\nstopping after this step; the same again stops at once\n")
