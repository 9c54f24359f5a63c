"""Faults, chosen at random from a seed."""

from __future__ import annotations

import errno
import os
import random
import shutil
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak.scenarios import INPUTS, Scenario
from tests.soak.shim import Action, Operation, Strike

_SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
_DAY = 86_400


@dataclass(frozen=True)
class Timed:
    """A signal at a time.

    Args:
        after: seconds after the start.
        number: the signal.
        target: `program`, `group`, or `process` for one of its ranks or workers.
    """

    after: float
    number: signal.Signals
    target: str


@dataclass(frozen=True)
class Fault:
    """What disturbs one start of a command.

    Args:
        kind: row of the table.
        strike: what the shim does.
        timed: a signal that is sent from outside.
        inject: injection of strace.
        damage: `flipped` or `truncated`, for a checkpoint before the start.
        fresh: whether the program is started by a new interpreter, and not forked.
    """

    kind: str
    strike: Strike = field(default_factory=Strike)
    timed: Timed | None = None
    inject: str | None = None
    damage: str | None = None
    fresh: bool = False

    @property
    def signal(self) -> int | None:
        """The signal that it sends, if any."""
        return int(self.timed.number) if self.timed else self.strike.signal or None

    @property
    def error(self) -> str | None:
        """Text of the error that it causes, if any."""
        return os.strerror(self.strike.error) if self.strike.error else None


UNDISTURBED = Fault("none")


@dataclass(frozen=True)
class Extent:
    """What an undisturbed start takes.

    Args:
        seconds: duration, forked.
        calls: system calls that change files, by kind.
    """

    seconds: float
    calls: Mapping[Operation, int]
    fresh_seconds: float = 6.0
    """More in a new interpreter."""


@dataclass(frozen=True)
class Tools:
    """What this machine has for faults at system calls."""

    shim: Path | None
    strace: bool


def choose(chance: random.Random, scenario: Scenario, extent: Extent, tools: Tools) -> list[Fault]:
    """Choose one to three faults for successive starts."""
    kinds = [_timed] * 5 + [_clock] * bool(tools.shim) + [_damaged]
    kinds += [_at_call] * 5 * bool(tools.shim) + [_error] * 4 * bool(tools.shim) + [_strace] * tools.strace
    faults: list[Fault] = []
    for _ in range(chance.choice((1, 1, 2, 2, 3))):
        make = chance.choice(kinds)
        if make is _damaged and not faults:  # a checkpoint must have been written
            late = chance.uniform(0.5, 1) * extent.seconds
            faults.append(Fault("SIGKILL to program", timed=Timed(late, signal.SIGKILL, "program")))
        faults.append(make(chance, scenario, extent))
    return faults


def _timed(chance: random.Random, scenario: Scenario, extent: Extent) -> Fault:
    number = chance.choice(_SIGNALS)
    target = chance.choice(["program", "group", "process"] if scenario.processes else ["program", "group"])
    if target == "process" and number == signal.SIGINT:
        number = signal.SIGTERM  # a terminal sends SIGINT to all
    fresh = chance.random() < 0.12
    after = chance.uniform(0, extent.seconds + fresh * extent.fresh_seconds)
    to = {"program": "program", "group": "group", "process": "one process"}[target]
    return Fault(f"{number.name} to {to}", timed=Timed(after, number, target), fresh=fresh)


def _at_call(chance: random.Random, scenario: Scenario, extent: Extent) -> Fault:
    number = chance.choice(_SIGNALS)
    torn = number == signal.SIGKILL and chance.random() < 0.4
    changes = Operation.SYNC | Operation.RENAME | Operation.CREATE | Operation.REMOVE  # rarer than writes
    operations = Operation.WRITE if torn else chance.choice((Operation.ANY, changes))
    strike = Strike(
        Action.TORN if torn else Action.SIGNAL,
        _call(chance, extent, operations),
        operations,
        signal=number,
        group=chance.random() < 0.5,
    )
    return Fault("SIGKILL in a torn write" if torn else f"{number.name} at a system call", strike)


def _call(chance: random.Random, extent: Extent, operations: Operation) -> int:
    """One of the calls of a start, by a draw that does not depend on their number."""
    return 1 + int(chance.random() * sum(count for kind, count in extent.calls.items() if kind in operations))


def _error(chance: random.Random, scenario: Scenario, extent: Extent) -> Fault:
    kind = chance.choice(("ENOSPC", "ENOSPC", "EIO", "short writes"))
    if kind == "short writes":
        return Fault(kind, Strike(Action.SHORT_WRITES, _call(chance, extent, Operation.WRITE), Operation.WRITE))
    if kind == "ENOSPC":  # until the next start
        operations, action, number = Operation.WRITE | Operation.CREATE, Action.ERROR_FROM_THERE, errno.ENOSPC
    else:
        operations, number = Operation.WRITE | Operation.SYNC, errno.EIO
        action = chance.choice((Action.ERROR_ONCE, Action.ERROR_FROM_THERE))
    return Fault(kind, Strike(action, _call(chance, extent, operations), operations, error=number))


def _strace(chance: random.Random, scenario: Scenario, extent: Extent) -> Fault:
    call, most = chance.choice([("rename", 8), ("fsync", 8), ("mkdir", 3), ("unlink", 4), ("write", 80)])
    when = chance.randint(1, most)
    if chance.random() < 0.4 and call in ("rename", "fsync"):
        return Fault("strace: EIO", inject=f"{call}:error=EIO:when={when}", fresh=True)
    return Fault("strace: SIGKILL", inject=f"{call}:signal=SIGKILL:when={when}", fresh=True)


def _clock(chance: random.Random, scenario: Scenario, extent: Extent) -> Fault:
    offset = chance.choice((_DAY, -_DAY, 3_600, -3_600, -5))
    strike = Strike(clock_offset=offset, clock_delay=chance.uniform(0, extent.seconds))
    killed = Timed(chance.uniform(0, extent.seconds), signal.SIGKILL, "program") if chance.random() < 0.5 else None
    return Fault("clock jump", strike, timed=killed)


def _damaged(chance: random.Random, scenario: Scenario, extent: Extent) -> Fault:
    kind = chance.choice(("flipped", "truncated"))
    return Fault("flipped byte" if kind == "flipped" else "truncated file", damage=kind)


@dataclass
class Damage:
    """A file that was damaged, and its content before and after."""

    file: Path
    before: Path
    after: bytes
    is_input: bool

    @classmethod
    def do(cls, chance: random.Random, kind: str, place: Path, scenario: Scenario) -> Damage | None:
        """Damage a checkpoint, or truncate answers; None where there is none yet."""
        patterns = [f"{scenario.results}/**/*.ckpt"] + ["answers.jsonl"] * (kind == "truncated")
        files = [file for pattern in patterns for file in place.glob(pattern)]
        files = files or list((place / INPUTS).rglob("*.ckpt"))
        files = sorted(file for file in files if not file.name.startswith(".") and file.stat().st_size)
        if not files:
            return None
        file = chance.choice(files)
        before = place.parent / f"before-{file.name}"
        shutil.copy(file, before)
        content = bytearray(file.read_bytes())
        position = chance.randrange(len(content))
        if kind == "truncated":
            del content[position:]
        else:
            content[position] ^= 1 << chance.randrange(8)
        with file.open("r+b") as same:  # hard links share the damage
            same.write(content)
            same.truncate()
        return cls(file, before, bytes(content), file.is_relative_to(place / INPUTS))

    @property
    def is_answers(self) -> bool:
        return self.file.suffix == ".jsonl"

    def end(self, refused: bool) -> None:
        """Do what a user would: copy an input again; delete a refused checkpoint with its hard links."""
        if self.is_answers or not self.file.exists() or self.file.read_bytes() != self.after:
            return  # the command has replaced it
        number = self.file.stat().st_ino
        if self.is_input or not refused:
            with self.file.open("r+b") as same:
                same.write(self.before.read_bytes())
                same.truncate()
        else:
            for file in self.file.parent.glob("*.ckpt"):
                if file.stat().st_ino == number:
                    file.unlink()
