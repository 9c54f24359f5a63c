"""Several processes behind one port, one for each GPU."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any

from gpt2_lightning.errors import UserError

_SECONDS_TO_END = 10
"""Until a worker is killed, beyond the seconds that its answers have."""


def run_workers(
    target: Callable[..., None], arguments: tuple[Any, ...], count: int, reserved: socket.socket, grace: int
) -> None:
    """Run a function in several processes until SIGTERM, Ctrl-C or the end of one of them.

    Args:
        target: the function, which is called with the number of the worker and the arguments. It serves on a socket of
            its own that is bound to the same port.
        arguments: the others.
        count: number of workers.
        reserved: a socket that is bound to the port and does not listen, so that no other program takes the port.
        grace: seconds that the answers have to end.

    Raises:
        UserError: if a worker ended by itself.
        KeyboardInterrupt: after Ctrl-C.
    """
    context = multiprocessing.get_context("spawn")
    workers: list[BaseProcess] = [
        context.Process(target=_worker, args=(target, number, *arguments), name=f"worker-{number}")
        for number in range(count)
    ]
    received: list[int] = []
    awake, waker = os.pipe()

    def stop(number: int, frame: Any) -> None:
        received.append(number)
        os.write(waker, b"x")

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        for worker in workers:
            worker.start()
        wait([awake, *(worker.sentinel for worker in workers)])
        failed = [worker for worker in workers if worker.exitcode is not None] if not received else []
        for worker in workers:
            if worker.exitcode is None:
                worker.terminate()
        for worker in workers:
            worker.join(grace + _SECONDS_TO_END)
            if worker.exitcode is None:
                worker.kill()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        reserved.close()
        os.close(awake)
        os.close(waker)
    if failed:
        raise UserError(f"{failed[0].name} ended with code {failed[0].exitcode}; see its messages above")
    if signal.SIGINT in received:
        raise KeyboardInterrupt


def _worker(target: Callable[..., None], number: int, *arguments: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # of the terminal, which the parent handles
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        target(number, *arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
