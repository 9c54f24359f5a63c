"""Ctrl-C while a program imports its modules."""

import signal


def end_without_trace() -> None:
    """Let Ctrl-C end the process without a stack trace, until `output.exits.exiting_at_interrupt` handles it.

    Called before the other imports of a program. A signal that is ignored, as in a shell's background job, stays so.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
