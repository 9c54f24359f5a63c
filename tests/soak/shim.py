"""Faults at system calls, by a C library that is compiled on the fly and preloaded; see shim.c."""

from __future__ import annotations

import ctypes
import enum
import faulthandler
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

_SOURCE = Path(__file__).with_name("shim.c")
CONTROL = "SOAK_CONTROL"
"""Environment variable with the path of the control file, for programs that are not forks."""


class Action(enum.IntEnum):
    """What happens at the chosen call."""

    NOTHING = 0
    SIGNAL = 1
    TORN = 2
    """Half of a write, then the signal."""
    ERROR_ONCE = 3
    ERROR_FROM_THERE = 4
    SHORT_WRITES = 5
    """This write and all later ones write half of their bytes, which is legal."""


class Operation(enum.IntFlag):
    """Kinds of system calls that change files."""

    WRITE = 1
    SYNC = 2
    RENAME = 4
    CREATE = 8
    REMOVE = 16
    ANY = 31


@dataclass(frozen=True)
class Strike:
    """Settings of the shim for one start of a program.

    Args:
        action: what happens.
        first: number of the call, counted from 1 over all processes of the program.
        operations: kinds of calls that are counted.
        signal: number of the signal.
        group: whether the signal is sent to the process group.
        error: errno.
        clock_offset: seconds that the clock of the time of day jumps by.
        clock_delay: seconds after the start at which it jumps.
    """

    action: Action = Action.NOTHING
    first: int = 1
    operations: Operation = Operation.ANY
    signal: int = 0
    group: bool = False
    error: int = 0
    clock_offset: int = 0
    clock_delay: float = 0.0

    def write(self, control: Path, folder: Path) -> None:
        """Write the control file of a program whose files are below a folder."""
        values = _Control(0, 0, self.first, self.action, self.operations, self.signal, self.group, self.error)
        values.jump_at = time.monotonic_ns() + round(self.clock_delay * 1e9)
        values.offset = self.clock_offset
        values.folder = os.fsencode(f"{folder}/")
        control.write_bytes(bytes(values))


@dataclass(frozen=True)
class Count:
    """What the shim counted in one start of a program."""

    calls: dict[Operation, int]
    struck: int
    place: str
    """The first call that was struck: its name and file."""

    @classmethod
    def read(cls, control: Path) -> Count:
        found = _Control.from_buffer_copy(control.read_bytes())
        kinds = (Operation.WRITE, Operation.SYNC, Operation.RENAME, Operation.CREATE, Operation.REMOVE)
        return cls(dict(zip(kinds, found.of_operation, strict=True)), found.struck, os.fsdecode(found.place))


class _Control(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_long) for name in ("calls", "struck", "first", "action", "operations", "signal", "group")),
        *((name, ctypes.c_long) for name in ("error", "jump_at", "offset")),
        ("of_operation", ctypes.c_long * 5),
        ("folder", ctypes.c_char * 1024),
        ("place", ctypes.c_char * 1024),
    )


def compile_shim(folder: Path) -> Path | None:
    """Compile the library; None where there is no C compiler, or no Linux."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    library = folder / "shim.so"
    if compiler is None or not Path("/proc/self/fd").is_dir():
        return None
    command = [compiler, "-shared", "-fPIC", "-O2", "-w", "-o", str(library), str(_SOURCE), "-ldl"]
    return library if subprocess.run(command, capture_output=True).returncode == 0 else None


def arm(control: Path | None) -> None:
    """Arm the library in a fork of a process that has preloaded it; SIGABRT prints stacks, for hangs."""
    faulthandler.enable()
    if control is not None:
        ctypes.CDLL(None).soak_arm(os.fsencode(control))
