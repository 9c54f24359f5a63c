"""Imported first by the programs, so that Ctrl-C during their other imports ends them without a stack trace.

The signal ends the process until `app.output.exits.exiting_at_interrupt` handles it. A shell that ignores it for a
background job is obeyed.
"""

import signal

if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
