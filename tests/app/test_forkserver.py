"""The fork server during its imports."""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import re
import signal
import subprocess
import sys
import time
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


@pytest.mark.parametrize("seconds", [0.0, 2.0], ids=["at its start", "during its imports"])
def test_the_server_does_not_outlive_a_program_that_is_killed(seconds: float, tmp_path: Path) -> None:
    (tmp_path / "takes_long.py").write_text("import time; time.sleep(120)")
    program = f"""
import sys, time
from multiprocessing import forkserver as server
from {forkserver.__name__} import preload
sys.path.insert(0, {str(tmp_path)!r})
preload(["takes_long"])
print(server._forkserver._forkserver_pid, flush=True)
time.sleep(120)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as started:
        assert started.stdout is not None
        command = Path(f"/proc/{int(started.stdout.readline())}/cmdline")
        time.sleep(seconds)
        started.kill()
    end = time.monotonic() + 60
    while command.exists() and command.read_bytes():  # empty for a process that has not been waited for
        assert time.monotonic() < end
        time.sleep(0.02)


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
