"""Whole programs in processes of their own, without the seconds that each would take to import torch.

A server imports what programs need, once, and forks itself for each of them. A fork takes the environment, the folder,
the session and the files of its program. It then begins as a script does, and ends as the interpreter ends one. The
server computes nothing, so that torch has no threads in it that a fork would lose.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NoReturn

_ROOT = Path(__file__).parent.parent
_ENVIRONMENT = dict(os.environ)
"""Before a test changes it."""
_PRELOADED = [
    *(
        f"gpt2_lightning.app.{name}"
        for name in ("main", "commands.training.train", "launch.launcher", "commands.generation.generate")
    ),
    *("torch.distributed.launcher.api", "pydantic.type_adapter", "matplotlib.backends.backend_agg"),
]
_NEW_NETWORK, _NEW_USER = 0x40000000, 0x10000000


@dataclass(frozen=True)
class _Start:
    """What a program starts with."""

    verb: str
    arguments: tuple[str, ...]
    output: Path
    folder: Path
    environment: Mapping[str, str]
    enter: Callable[[], None] | None

    def become(self) -> NoReturn:
        """Be the program, in a fork of the server, which blocks SIGINT."""
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ.clear()
        os.environ.update(self.environment)
        os.chdir(self.folder)
        tempfile.tempdir = None  # the server has asked for its own
        # A terminal that a leader of a session opens is from then on the one of its signals.
        said = os.open(self.output, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        for number in (0, 1, 2) if os.isatty(said) else (1, 2):
            os.dup2(said, number)
        os.close(said)
        sys.stdin, sys.stdout = os.fdopen(0, closefd=False), os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", buffering=1, errors="backslashreplace", closefd=False)
        sys.argv = [str(_ROOT / f"{self.verb}.py"), *self.arguments]
        if self.enter is not None:
            self.enter()
        from gpt2_lightning.app.main import main
        from gpt2_lightning.app.output.exits import exiting_at_interrupt

        with exiting_at_interrupt():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
            main(self.verb)


@dataclass
class Program:
    """A program that was started."""

    pid: int
    file: Path
    """For what it says, on standard output and as errors."""
    returncode: int | None = None
    """None while it runs; minus the signal that ended it."""

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _ask(self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int:
        """Its exit code, when it has ended.

        Raises:
            AssertionError: if it has not after so many seconds.
        """
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            assert time.monotonic() < deadline, f"it has not ended; it said: {self.output()}"
            time.sleep(0.01)
        return code

    def wait_until(self, there: Callable[[], object], timeout: float) -> None:
        """Wait for something that it does.

        Raises:
            AssertionError: if that is not there after so many seconds, or when it ends.
        """
        deadline = time.monotonic() + timeout
        while not there():
            assert time.monotonic() < deadline, f"that did not come; it said: {self.output()}"
            assert self.poll() is None, f"it has ended with {self.returncode}; it said: {self.output()}"
            time.sleep(0.01)

    def output(self) -> str:
        """What it has said so far, to a file and not a terminal."""
        return self.file.read_text(encoding="utf-8") if self.file.is_file() else ""

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


@contextlib.contextmanager
def running(
    verb: str,
    *arguments: str,
    output: Path,
    environment: Mapping[str, str] | None = None,
    enter: Callable[[], None] | None = None,
) -> Iterator[Program]:
    """A program that runs in the current folder; in the end it is killed, with all that it has started.

    Args:
        verb: of the program.
        arguments: its command line.
        output: a file for what it says, or a terminal, which it then has for its input as well.
        environment: all of its variables; None for those that are set here and now.
        enter: what its process does before it begins, a function of this module.
    """
    variables = dict(os.environ) if environment is None else environment
    pid = _ask(_Start(verb, arguments, output, Path.cwd(), variables, enter))
    assert pid is not None
    program = Program(pid, output)
    try:
        yield program
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        program.wait(timeout=60)


def join_network(name: str) -> None:
    """Be in the network namespace that `ip netns` knows by this name."""
    with Path("/run/netns", name).open() as file:
        _require(ctypes.CDLL(None, use_errno=True).setns(file.fileno(), _NEW_NETWORK))


def leave_network() -> None:
    """Be without any network."""
    _require(ctypes.CDLL(None, use_errno=True).unshare(_NEW_USER | _NEW_NETWORK))


def _require(result: int) -> None:
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _ask(what: _Start | int) -> int | None:
    """Start a program, which gives its process id; or ask for the exit code of one, None while it runs."""
    server = _server()
    server.send(what)
    return server.recv()


@functools.cache
def _server() -> Connection:
    here, there = Pipe()
    command = [sys.executable, "-c", f"from tests.programs import serve; serve({there.fileno()})"]
    process = subprocess.Popen(
        command,
        cwd=_ROOT,
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        pass_fds=[there.fileno()],
        start_new_session=True,
    )
    there.close()

    def stop() -> None:
        here.close()
        process.wait()

    atexit.register(stop)
    return here


def serve(fd: int) -> None:
    """Be the server, until the other end of a pipe is closed; or, in a fork of it, a program."""
    sys.path[0] = str(_ROOT)
    for name in _PRELOADED:
        importlib.import_module(name)
    gc.freeze()  # the end of a program takes a second less without these objects
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])  # until a fork can say that it was interrupted
    with Connection(fd) as connection:
        start = _next_start(connection)
    if start is not None:
        start.become()


def _next_start(connection: Connection) -> _Start | None:
    """What a fork is to become; in the server itself None, when nobody asks any more."""
    while True:
        try:
            what = connection.recv()
        except EOFError:
            return None
        if isinstance(what, int):
            pid, status = os.waitpid(what, os.WNOHANG)
            connection.send(os.waitstatus_to_exitcode(status) if pid else None)
        elif pid := os.fork():
            connection.send(pid)
        else:
            return what
