"""Start of processes from a fork server, which imports all modules once; the imports take seconds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Mapping

from gpt2_lightning.app.output.streams import guard_output
from gpt2_lightning.process_folder import process_folder

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""Start method: Windows has no fork, and on macOS a fork may crash after these imports."""
_PRELOADED = (
    "gpt2_lightning.app.launch.launcher",
    "gpt2_lightning.app.commands.train",
    "gpt2_lightning.app.commands.finetune",
)
_AT_IMPORT = dict(os.environ)
"""In a forked process, the environment of the server."""


def preload(more: Iterable[str] = ()) -> None:
    """Set the modules that the fork server imports when it starts.

    Args:
        more: modules in addition to those of this package.
    """
    if METHOD == "forkserver":
        process_folder()
        multiprocessing.get_context(METHOD).set_forkserver_preload([*_PRELOADED, *more])


def enter(environment: Mapping[str, str]) -> None:
    """Adopt the parent's environment, and stop when the parent ends. Must be called first in a new process.

    Args:
        environment: environment of the parent, which may have changed since the server started. Variables set for
            this process only are kept.
    """
    given = {name: value for name, value in os.environ.items() if _AT_IMPORT.get(name) != value}
    os.environ.clear()
    os.environ.update({**environment, **given})
    guard_output(required=False)
    threading.Thread(target=_stop_with_the_parent, daemon=True).start()


def _stop_with_the_parent() -> None:
    """Send SIGTERM to this process when its parent ends, so that it saves a checkpoint and stops."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a child process"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
