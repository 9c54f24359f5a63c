"""The fork server during its imports."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import re
import signal
import subprocess
import sys
from multiprocessing import forkserver as server
from pathlib import Path

import pytest

from gpt2_lightning.app.launch import forkserver

pytestmark = pytest.mark.skipif(forkserver.METHOD != "forkserver", reason="only Linux has a fork server")

IN_A_MASK = 1 << signal.SIGINT - 1 | 1 << signal.SIGTERM - 1


def test_signals_that_stop_are_blocked_in_the_server_and_not_here_or_in_its_children() -> None:
    forkserver.preload()
    assert not blocked(Path("/proc/self/status")) & IN_A_MASK
    pid = server._forkserver._forkserver_pid  # type: ignore[attr-defined]  # private
    assert blocked(Path(f"/proc/{pid}/status")) & IN_A_MASK == IN_A_MASK
    context = multiprocessing.get_context("forkserver")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=enter, args=(sending,))
    process.start()
    assert not receiving.recv() & IN_A_MASK
    process.join()


def test_a_process_that_was_interrupted_before_it_began_ends_without_a_trace(capfd: pytest.CaptureFixture[str]) -> None:
    forkserver.preload()
    process = multiprocessing.get_context("forkserver").Process(target=enter_interrupted)
    process.start()
    process.join()
    assert process.exitcode == 130
    assert capfd.readouterr().err == ""


def test_the_server_does_not_outlive_a_program_that_ends_during_its_imports() -> None:
    program = f"""
from multiprocessing import forkserver as server
from {forkserver.__name__} import preload
preload()
print(server._forkserver._forkserver_pid, flush=True)
raise SystemExit(143)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        command = Path(f"/proc/{int(started.stdout.readline())}/cmdline")
        assert started.wait() == 143
        assert not command.exists() or command.read_bytes() == b""  # of a process that has not been waited for


def enter_interrupted() -> None:
    signal.raise_signal(signal.SIGINT)  # blocked, and thus pending
    forkserver.enter({})


def enter(connection: multiprocessing.connection.Connection) -> None:
    forkserver.enter({})
    connection.send(blocked(Path("/proc/self/status")))


def blocked(status: Path) -> int:
    """The mask of blocked signals of a process, bit n - 1 for signal n."""
    mask = re.search(r"SigBlk:\s*(\w+)", status.read_text())
    assert mask is not None
    return int(mask[1], 16)
