"""The end of the program."""

from __future__ import annotations

import signal
import subprocess
import sys

ENDING = """
import signal, weakref
from gpt2_lightning.app.output.exits import exiting_at_interrupt

kept = set
weakref.finalize(kept, signal.raise_signal, signal.SIGINT)  # called while the interpreter ends
with exiting_at_interrupt():
    print("done", flush=True)
"""


def test_a_ctrl_c_while_the_interpreter_ends_prints_no_trace() -> None:
    ended = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stdout, ended.stderr) == (-signal.SIGINT, "done\n", "")
