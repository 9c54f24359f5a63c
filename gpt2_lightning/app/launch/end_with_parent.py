"""End of the fork server with its parent; the server imports this module first, which takes effect at once.

Otherwise the server would notice the end of its parent only after the other imports, which take seconds.
"""

from __future__ import annotations

import ctypes
import os
import signal

PARENT = "GPT2_LIGHTNING_FORKSERVER_PARENT"
"""Environment variable with the parent's process id, for a parent that ends before this module is imported."""
_PR_SET_PDEATHSIG = 1

if PARENT in os.environ:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != int(os.environ[PARENT]):
        os._exit(0)
