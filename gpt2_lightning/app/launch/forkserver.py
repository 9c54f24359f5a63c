"""Processes that begin where one has imported everything, which takes seconds once and not for each of them."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterable, Mapping

METHOD = "forkserver" if sys.platform == "linux" else "spawn"
"""How they are started. Windows has no forks, and on macOS one may not survive what was imported."""
_PRELOADED = (
    "gpt2_lightning.app.launch.launcher",
    "gpt2_lightning.app.commands.train",
    "gpt2_lightning.app.commands.finetune",
)
_AT_IMPORT = dict(os.environ)
"""In a process that was forked, the environment of the one that it comes from."""


def preload(more: Iterable[str] = ()) -> None:
    """Say, before the first process is started, what to import; `more` are modules besides this program's own."""
    if METHOD == "forkserver":
        multiprocessing.get_context(METHOD).set_forkserver_preload([*_PRELOADED, *more])


def begin(environment: Mapping[str, str]) -> None:
    """To be called first in a new process, which from then on stops when its parent is gone.

    Args:
        environment: the parent's, which may have changed since the first process was started. What this process was
            given besides is kept.
    """
    given = {name: value for name, value in os.environ.items() if _AT_IMPORT.get(name) != value}
    os.environ.clear()
    os.environ.update({**environment, **given})
    threading.Thread(target=_stop_with_the_parent, daemon=True).start()


def _stop_with_the_parent() -> None:
    """Nobody would read what becomes of this process, and the next one goes on with what it has saved."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "this process was started by another"
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
