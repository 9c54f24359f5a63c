"""Processes forked from a server that has imported everything, which takes seconds, once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Mapping

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
    """Set what the server imports, before it starts.

    Args:
        more: modules besides those of this package.
    """
    if METHOD == "forkserver":
        multiprocessing.get_context(METHOD).set_forkserver_preload([*_PRELOADED, *more])


def enter(environment: Mapping[str, str]) -> None:
    """Take over the parent's environment, and stop when the parent ends; to be called first in a new process.

    Args:
        environment: environment of the parent, which may have changed since the server was started. Variables that
            were set for this process alone are kept.
    """
    given = {name: value for name, value in os.environ.items() if _AT_IMPORT.get(name) != value}
    os.environ.clear()
    os.environ.update({**environment, **given})
    threading.Thread(target=_stop_with_the_parent, daemon=True).start()


def _stop_with_the_parent() -> None:
    """Send SIGTERM to this process when its parent ends, so that it saves and stops."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this is a child process"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
