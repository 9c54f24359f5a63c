"""One disturbed run: a command under faults, restarted until it completes, and compared with an undisturbed one."""

from __future__ import annotations

import random
import re
import shutil
import signal
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.soak import outcomes
from tests.soak.faults import UNDISTURBED, Damage, Fault, choose
from tests.soak.outcomes import Violation
from tests.soak.references import Reference, printed_weights
from tests.soak.scenarios import Scenario
from tests.soak.starts import End, Starter

_SECONDS, _MOST_SECONDS = 60.0, 300.0
_TIMES_AS_LONG = 20
_DELETIONS = 4
_OF_LIBRARIES = re.compile(r"torchinductor_.*|[a-z0-9_]{8}")
"""A folder of torch's compiler, which undisturbed commands leave as well; the file by which Python's `tempfile` tries a
folder, for a process that is killed before the next system call removes it."""
_STARTING = re.compile(
    r"Fatal Python error: init_import_site"
    r"|Traceback \(most recent call last\):\n(?:"
    r"  File \"(?!\S*/gpt2_lightning/(?!(?:app/)?(?:__\w+__|early_interrupts)\.py))[^\"]+\".*\n(?:    .*\n)*"
    r")*KeyboardInterrupt"
)
"""Trace of an interpreter that is interrupted before `early_interrupts` has run, the first import of a program."""
_SHARED_MEMORY = Path("/dev/shm")
_UNNAMED_SEMAPHORE = re.compile(r"sem\.[A-Za-z0-9]{6}")
"""A file that the C library renames to that of a semaphore, for a process that is killed before."""


@dataclass
class Record:
    """What one disturbed run showed, for the table."""

    number: int
    scenario: str
    faults: list[dict[str, Any]] = field(default_factory=list)
    starts: int = 0
    seconds: float = 0.0
    violations: list[dict[str, str]] = field(default_factory=list)


class Disturbed:
    """One disturbed run.

    Args:
        scenario: its command.
        reference: an undisturbed run of it.
        starter: of the command, in a folder of this run.
        chance: for all choices.
        record: to fill in.
        owns_shared_memory: whether nothing else uses /dev/shm.
    """

    def __init__(
        self,
        scenario: Scenario,
        reference: Reference,
        starter: Starter,
        chance: random.Random,
        record: Record,
        owns_shared_memory: bool,
    ) -> None:
        self.scenario, self.reference, self.starter = scenario, reference, starter
        self.chance, self.record, self.owns_shared_memory = chance, record, owns_shared_memory
        self._log = starter.folder / "log.txt"

    def run(self) -> None:
        """Make the run, and compare its results; its folder is kept if a promise was broken."""
        begin = time.monotonic()
        faults = choose(self.chance, self.scenario, self.reference.extent, self.starter.tools)
        for fault in faults:
            end = self._disturb(fault)
            if self._is_complete(end) or end.hang:
                break
        if not self._is_complete(end) and not end.hang:
            end = self._start(UNDISTURBED)
        if not end.hang:
            self._break(*self._compared(end))
        self.record.seconds = round(time.monotonic() - begin, 2)
        if self.record.violations:
            self._note(*(f"{one['kind']}: {one['text']}" for one in self.record.violations))
        else:
            shutil.rmtree(self.starter.folder)

    def _disturb(self, fault: Fault) -> End:
        """Start the command under a fault; after a damage, also without the files that it refuses."""
        if fault.damage is None:
            return self._start(fault)
        damage = Damage.do(self.chance, fault.damage, self.starter.place, self.scenario)
        end = self._start(fault, damage)
        for _ in range(_DELETIONS):
            if damage is None or damage.is_answers:
                break
            refused = end.code == _refusal(self.scenario)
            damage.end(refused)
            if not refused:
                break
            end = self._start(UNDISTURBED, damage)
        return end

    def _start(self, fault: Fault, damage: Damage | None = None) -> End:
        limit = min(max(_SECONDS, _TIMES_AS_LONG * self.reference.extent.seconds), _MOST_SECONDS)
        end = self.starter.run(self.scenario, fault, self.chance, limit)
        self.record.starts += 1
        place = str(damage.file.relative_to(self.starter.place)) if damage else end.place
        if fault is not UNDISTURBED:
            struck = damage is not None if fault.damage else end.struck
            self.record.faults.append({"kind": fault.kind, "struck": struck, "place": place, "code": end.code})
        self._note(
            f"start {self.record.starts}: {fault}", f"at {place}, code {end.code}, {end.seconds:.1f} s", end.output
        )
        self._break(*_broken(self.scenario, fault, end, damage))
        return end

    def _is_complete(self, end: End) -> bool:
        """Whether a command has completed, perhaps struck while the interpreter ended: `auto` would begin a new run."""
        if end.code == 0 or not self.scenario.results.startswith("runs/"):
            return end.code == 0
        return self.reference.results == outcomes.collect(self.starter.place, self.scenario.results)

    def _compared(self, end: End) -> Iterator[Violation]:
        """Broken promises of a command that has completed, or cannot."""
        if self._is_complete(end):
            results = outcomes.collect(self.starter.place, self.scenario.results)
            yield from outcomes.compare(self.reference.results, results)
            yield from outcomes.leftovers(self.starter.place)
            for file in self.starter.temporary.iterdir():
                if not _OF_LIBRARIES.fullmatch(file.name):
                    yield Violation("strays", f"temporary {file.name}")
            if not set(printed := printed_weights(end.output)) <= set(self.reference.weights):
                yield Violation("unequal", f"the printed weights are {printed}, not {self.reference.weights}")
        else:
            yield Violation("unreadable", f"code {end.code} of an undisturbed restart: {_last(end.output)}")
        for file in _SHARED_MEMORY.iterdir() if self.owns_shared_memory else []:
            if not _UNNAMED_SEMAPHORE.fullmatch(file.name):
                yield Violation("strays", str(file))
            file.unlink()

    def _break(self, *violations: Violation) -> None:
        """Record broken promises, each with the last fault that struck."""
        struck = [fault["kind"] for fault in self.record.faults if fault["struck"]]
        last = struck[-1] if struck else "none"
        self.record.violations += [{"fault": last, **asdict(violation)} for violation in violations]

    def _note(self, *lines: str) -> None:
        with self._log.open("a", encoding="utf-8") as file:
            file.writelines(f"{line}\n" for line in lines)


def _broken(scenario: Scenario, fault: Fault, end: End, damage: Damage | None) -> Iterator[Violation]:
    """Promises that the end of one start breaks."""
    if end.hang:
        yield Violation("hangs", end.hang)
        return
    for command in end.processes:
        yield Violation("strays", f"process: {command}")
    has_trace = "Traceback (most recent call last)" in end.output and not _STARTING.search(end.output)
    if has_trace and end.code != -signal.SIGKILL:
        yield Violation("messages", f"a stack trace, code {end.code}: {_last(end.output)}")
    if end.code == 0 or fault is UNDISTURBED:
        return
    if not end.struck:
        if not (end.code == _refusal(scenario) and damage):
            yield Violation("messages", f"code {end.code}, though nothing was disturbed: {_last(end.output)}")
        return
    if fault.error and (end.code < 0 or fault.error not in end.output):
        yield Violation("messages", f"code {end.code} without '{fault.error}': {_last(end.output)}")
    is_direct = fault.timed.target != "process" if fault.timed else fault.strike.group or not scenario.processes
    if fault.signal and is_direct and end.code not in _codes_of(fault.signal):
        yield Violation("messages", f"code {end.code} after signal {fault.signal}: {_last(end.output)}")


def _refusal(scenario: Scenario) -> int:
    """Exit code where a file is refused: of a sweep, that of runs that have not ended."""
    return 1 if "-m" in scenario.arguments else 2


def _codes_of(number: int) -> set[int]:
    """Exit codes after a signal: the system's, the shell's, and 1 where a rank or worker received it."""
    return {1, -number, 128 + number}


def _last(output: str) -> str:
    return " | ".join(output.strip().splitlines()[-4:])[-400:]
