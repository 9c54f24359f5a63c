"""Exit codes of the program, and exits with an error message instead of a stack trace."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import signal
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

USER_ERROR = 2
"""Exit code of a user error."""
SIGNAL_BASE = 128
"""Added to the number of a signal that stopped the program, as shells do."""
INTERRUPTED = SIGNAL_BASE + signal.SIGINT
"""Exit code after Ctrl-C."""
TERMINATED = SIGNAL_BASE + signal.SIGTERM
"""Exit code after SIGTERM."""
_SECONDS_TO_REPEAT = 0.01
"""Until the finalizer that a signal interrupted has ended."""
_MODULE = "<module>"
"""Name of the frame of an import."""
_received: list[int] = []
"""Signals that have raised an exception."""
_ON_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EPIPE)


class Failure(SystemExit):
    """Exit of the program after an error message was printed.

    Args:
        code: exit code.
        message: the error message.
    """

    def __init__(self, code: int, message: str) -> None:
        super().__init__(code)
        self.message = message


def fail(message: str, code: int = USER_ERROR) -> NoReturn:
    """Print an error message, without a stack trace, and exit."""
    print(f"error: {message}", file=sys.stderr)
    raise Failure(code, message)


@contextlib.contextmanager
def exiting_at_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the process at once, with one line and exit code 130, until `raise_at_interrupt` is called.

    For the imports at the start, which may print the trace of a `KeyboardInterrupt`, or lose it.
    """
    handlers = (signal.default_int_handler, signal.SIG_DFL, _interrupt)
    if signal.getsignal(signal.SIGINT) in handlers and _is_main_thread():
        signal.signal(signal.SIGINT, _exit)
    try:
        yield
    finally:
        _received.clear()
        raise_at_interrupt()
        # Last registered, first called: a Ctrl-C while the interpreter ends prints no traces of finalizers.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_DFL)


def raise_at_interrupt() -> None:
    """Let Ctrl-C raise `KeyboardInterrupt` again, so that files and processes are cleaned up."""
    if signal.getsignal(signal.SIGINT) is _exit and _is_main_thread():
        signal.signal(signal.SIGINT, _interrupt)


def _exit(number: int, frame: FrameType | None) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(2, b"error: stopped\n")
    os._exit(INTERRUPTED)


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def os_error_message(error: OSError) -> str:
    """Describe an error of the operating system: the file, the operation and the reason."""
    if error.filename is None:
        return error.strerror or str(error)
    operation = "written" if error.errno in _ON_WRITING else "read or written"
    return f"{os.fsdecode(error.filename)} cannot be {operation}: {error.strerror}"


@contextlib.contextmanager
def exiting_at_sigterm() -> Iterator[None]:
    """Context manager in which SIGTERM exits with 143 and, as Ctrl-C does, unwinds: temporary files are removed."""
    if not _is_main_thread():  # others cannot set handlers
        yield
        return
    before = signal.signal(signal.SIGTERM, _unwind)
    try:
        yield
    finally:
        _received.clear()
        signal.signal(signal.SIGTERM, before)


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    _received.append(number)
    raise SystemExit(SIGNAL_BASE + number)


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    _received.append(number)
    raise KeyboardInterrupt


@contextlib.contextmanager
def reporting_signals() -> Iterator[None]:
    """Exit with the code of the signal that stopped the program, whatever exception a library made of it.

    A signal during an import may become a `RuntimeError`, or be ignored by a library whose next import fails, and
    Lightning exits with 1 after a `KeyboardInterrupt`. In a finalizer, Python ignores exceptions; the signal is then
    sent again.
    """
    before = sys.unraisablehook

    def repeat(unraisable: Any) -> None:
        error = unraisable.exc_value
        code = None if error is None else _signal_code(error)
        if code is None:
            before(unraisable)
        else:
            threading.Timer(_SECONDS_TO_REPEAT, os.kill, (os.getpid(), code - SIGNAL_BASE)).start()

    sys.unraisablehook = repeat
    try:
        yield
    except BaseException as error:
        code = _signal_code(error) or _ignored_signal_code(error)
        if code is None or (isinstance(error, SystemExit) and error.code == code):
            raise
        fail("stopped at once; what was saved before is kept", code)
    finally:
        sys.unraisablehook = before


def _signal_code(error: BaseException) -> int | None:
    """Return the exit code of the signal in the chain of an exception; None if there is none."""
    code: int | None = None
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, KeyboardInterrupt):
            code = INTERRUPTED
        elif isinstance(link, SystemExit) and link.code == TERMINATED:
            code = TERMINATED
        link = link.__cause__ or link.__context__
    return code


def _ignored_signal_code(error: BaseException) -> int | None:
    """Return the exit code of a signal that a library has ignored, and that led to an error; None if there is none.

    After SIGTERM, nothing goes on; after Ctrl-C the program may, but not within an import.
    """
    frames = traceback.extract_tb(error.__traceback__)
    is_cause = signal.SIGTERM in _received or any(frame.name == _MODULE for frame in frames)
    return SIGNAL_BASE + _received[-1] if _received and is_cause and isinstance(error, Exception) else None


def fault_list(faults: list[str]) -> str:
    """Format the faults of a configuration as one message."""
    count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
    return f"{count} in the configuration\n" + "\n".join(f"  {fault}" for fault in faults)
