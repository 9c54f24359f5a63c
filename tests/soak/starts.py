"""Starts of programs under a fault, with a watchdog."""

from __future__ import annotations

import contextlib
import functools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.soak import shim
from tests.soak.faults import Fault, Tools
from tests.soak.scenarios import ROOT, Scenario
from tests.soak.shim import Count, Operation

SECONDS_TO_STOP = 15.0
"""Within which a program must end after SIGTERM or SIGINT, and its processes after it."""
_INJECTED = ("INJECTED", "killed by SIGKILL")


@dataclass
class End:
    """How one start of a command ended."""

    code: int
    seconds: float
    output: str
    struck: bool
    place: str
    """Where the fault struck."""
    hang: str | None = None
    processes: list[str] = field(default_factory=list)
    """Command lines of processes that outlived it."""
    calls: dict[Operation, int] = field(default_factory=dict)


class _Program(Protocol):
    pid: int

    def poll(self) -> int | None: ...


@dataclass(frozen=True)
class Starter:
    """Starts commands in a working folder.

    Args:
        folder: of one disturbed run, with the files of the starts; the commands work in its subfolder `work`.
        home: home folder, with the caches of libraries.
        tools: of this machine.
    """

    folder: Path
    home: Path
    tools: Tools

    @property
    def place(self) -> Path:
        """Working folder of the command."""
        return self.folder / "work"

    @property
    def temporary(self) -> Path:
        """Folder of the command's temporary files."""
        return self.folder / "tmp"

    def run(self, scenario: Scenario, fault: Fault, chance: random.Random, limit: float) -> End:
        """Start a command under a fault, and wait for its end.

        Args:
            scenario: the command.
            fault: its disturbance.
            chance: for the choice of a process.
            limit: seconds after which a start without a signal hangs.
        """
        control, output = self.folder / "control", self.folder / "output.txt"
        self.temporary.mkdir(exist_ok=True)
        os.chdir(self.place)
        fault.strike.write(control, self.place)
        self._trace.unlink(missing_ok=True)
        begin = time.monotonic()
        with self._started(scenario, fault, control, output) as program:
            sent, hang = _watch(program, fault, control, chance, begin, limit)
            seconds = time.monotonic() - begin
            code = program.poll()
            processes = [] if hang else _survivors(program.pid, control)
        count = Count.read(control)
        text = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
        trace = self._trace.read_text(errors="replace") if fault.inject and self._trace.exists() else ""
        injected = any(mark in trace for mark in _INJECTED)
        is_clock = bool(fault.strike.clock_offset)
        struck = sent is not None or count.struck > 0 or injected or is_clock
        where = count.place or (f"{fault.inject}" if injected else f"after {sent:.2f} s" if sent is not None else "")
        return End(
            -signal.SIGKILL if code is None else code, seconds, text, struck, where, hang, processes, count.calls
        )

    @property
    def _trace(self) -> Path:
        return self.folder / "strace.txt"

    @contextlib.contextmanager
    def _started(self, scenario: Scenario, fault: Fault, control: Path, output: Path) -> Iterator[_Program]:
        environment = self._environment(control)
        if not fault.fresh:
            from tests import programs

            enter = functools.partial(shim.arm, control if self.tools.shim else None)
            with programs.running(
                scenario.verb, *scenario.arguments, output=output, environment=environment, enter=enter
            ) as program:
                yield program
            return
        command = [sys.executable, "-m", "gpt2_lightning", scenario.verb, *scenario.arguments]
        if fault.inject:
            call = fault.inject.partition(":")[0]
            fast = [] if "signal=" in fault.inject else ["--seccomp-bpf"]  # which injects errors alone
            traced = ["strace", "-f", "-qq", *fast, "-o", str(self._trace), "-e", f"trace={call}"]
            command = [*traced, "-e", f"inject={fault.inject}", *command]
        with output.open("wb") as file:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True
            )
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def _environment(self, control: Path) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "VIRTUAL_ENV") if name in os.environ}
        preloaded = {"LD_PRELOAD": str(self.tools.shim)} if self.tools.shim else {}
        return {
            **kept,
            **preloaded,
            shim.CONTROL: str(control),
            "HOME": str(self.home),
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(self.temporary),
            "OMP_NUM_THREADS": "1",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTHONFAULTHANDLER": "1",
            "COLUMNS": "160",
        }


def _watch(
    program: _Program, fault: Fault, control: Path, chance: random.Random, begin: float, limit: float
) -> tuple[float | None, str | None]:
    """Wait for the end; return when a timed signal was sent, and the description of a hang."""
    sent: float | None = None
    deadline, what = begin + limit, f"no end within {limit:.0f} s"
    while program.poll() is None:
        now = time.monotonic()
        if now > deadline:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGABRT)  # Python then prints where its threads are
            time.sleep(1)
            return sent, what
        if fault.timed and sent is None and now - begin >= fault.timed.after:
            target = _target(program.pid, fault.timed.target, chance)
            if target is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(target, fault.timed.number)
                sent = now - begin
                if fault.signal != signal.SIGKILL and fault.timed.target != "process":  # which may be a tracker
                    deadline = min(deadline, now + SECONDS_TO_STOP)
                    what = f"no end within {SECONDS_TO_STOP:.0f} s of {fault.timed.number.name}"
        elif fault.strike.signal in (signal.SIGTERM, signal.SIGINT) and sent is None and Count.read(control).struck:
            sent, deadline = now - begin, min(deadline, now + SECONDS_TO_STOP)
            what = f"no end within {SECONDS_TO_STOP:.0f} s of signal {fault.strike.signal}"
        time.sleep(0.01)
    return sent, None


def _target(leader: int, target: str, chance: random.Random) -> int | None:
    """The process id to signal, negative for a group; None while there is no such process."""
    if target == "program":
        return leader
    if target == "group":
        return -leader
    parents = {pid: parent for pid, (parent, session) in _processes().items() if session == leader}
    leaves = [pid for pid in parents if pid not in parents.values() and "resource_tracker" not in _command(pid)]
    return chance.choice(sorted(leaves)) if set(leaves) - {leader} else None


def _survivors(leader: int, control: Path) -> list[str]:
    """Processes that remain some time after the end of a program; they are killed."""
    deadline = time.monotonic() + SECONDS_TO_STOP
    while left := _family(leader, control):
        if time.monotonic() > deadline:
            found = [_command(pid) for pid in left]
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            return found
        time.sleep(0.02)
    return []


def _family(leader: int, control: Path) -> list[int]:
    marker = f"{shim.CONTROL}={control}\0".encode()
    return [
        pid
        for pid, (_, session) in _processes().items()
        if pid not in (leader, os.getpid()) and (session == leader or marker in _read(pid, "environ"))
    ]


def _processes() -> dict[int, tuple[int, int]]:
    """Parents and sessions of all running processes."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (stat := _read(int(folder.name), "stat")):
            state, parent, _, session = stat.rpartition(b")")[2].split()[:4]
            if state not in (b"Z", b"X"):
                found[int(folder.name)] = (int(parent), int(session))
    return found


def _read(pid: int, name: str) -> bytes:
    try:
        return Path("/proc", str(pid), name).read_bytes()
    except OSError:
        return b""


def _command(pid: int) -> str:
    return _read(pid, "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()
