"""Start of processes from a fork server, which imports all modules once; the imports take seconds."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Mapping

from gpt2_lightning.app.launch.end_with_parent import PARENT
from gpt2_lightning.app.output.exits import INTERRUPTED
from gpt2_lightning.app.output.streams import guard_output
from gpt2_lightning.process_folder import process_folder

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""Start method: Windows has no fork, and on macOS a fork may crash after these imports."""
_PRELOADED = (
    "gpt2_lightning.app.launch.end_with_parent",
    "gpt2_lightning.app.launch.launcher",
    "gpt2_lightning.app.commands.training.train",
    "gpt2_lightning.app.commands.training.finetune",
)
_STOPPING = {signal.SIGINT, signal.SIGTERM}
"""Signals that are blocked in the server."""
_AT_IMPORT = dict(os.environ)
"""In a forked process, the environment of the server."""


def preload(more: Iterable[str] = ()) -> None:
    """Start the fork server, which imports the modules of this package, unless it is running.

    SIGINT and SIGTERM are blocked in it; `enter` unblocks them. A Ctrl-C during these imports would print a trace, and
    a server that ends before its processes makes them appear to have ended. It ends with its parent.

    Args:
        more: modules in addition to those of this package.
    """
    if METHOD == "forkserver":
        from multiprocessing import forkserver, resource_tracker

        process_folder()
        multiprocessing.get_context(METHOD).set_forkserver_preload([*_PRELOADED, *more])
        resource_tracker.ensure_running()  # the server starts it otherwise, which unblocks them
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOPPING)
        os.environ[PARENT] = str(os.getpid())
        try:
            forkserver.ensure_running()
        finally:
            del os.environ[PARENT]
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def kill() -> None:
    """Kill the fork server of this process, which may still have to start processes that nothing waits for."""
    if METHOD == "forkserver":
        from multiprocessing import forkserver

        # Private, and without a public equivalent.
        pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]  # see above
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def enter(environment: Mapping[str, str]) -> None:
    """Adopt the parent's environment, and stop when the parent ends. Must be called first in a new process.

    Args:
        environment: environment of the parent, which may have changed since the server started. Variables set for
            this process only are kept.
    """
    if METHOD == "forkserver":
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPPING)
        except KeyboardInterrupt:  # of a Ctrl-C during the imports
            os._exit(INTERRUPTED)
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
