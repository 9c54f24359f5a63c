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
from tests.soak.faults import UNDISTURBED, Damage, Extent, Fault, Tools, choose
from tests.soak.outcomes import Violation
from tests.soak.scenarios import BASE, INPUTS, SCENARIOS, Scenario, make_inputs
from tests.soak.starts import End, Starter

_LIMIT = 60.0
_WEIGHTS = re.compile(r"weights: SHA-256 ([0-9a-f]{64})")
_DELETIONS = 4
_TORCHS = "torchinductor_"
"""Folder of torch's compiler, which undisturbed commands leave as well."""


@dataclass(frozen=True)
class Reference:
    """An undisturbed run of a scenario."""

    extent: Extent
    results: dict[str, str]
    weights: list[str]
    """Hashes that it printed."""


@dataclass
class Record:
    """What one disturbed run showed, for the table."""

    number: int
    scenario: str
    faults: list[dict[str, Any]] = field(default_factory=list)
    starts: int = 0
    seconds: float = 0.0
    violations: list[dict[str, str]] = field(default_factory=list)


class Soak:
    """Disturbed runs in a folder of one worker.

    Args:
        folder: of the worker.
        seed: of all faults.
        tools: of this machine.
        only: part of the name of a scenario; others are left out.
    """

    def __init__(self, folder: Path, seed: int, tools: Tools, only: str = "") -> None:
        self.folder, self.seed, self.tools = folder, seed, tools
        self.scenarios = [scenario for scenario in SCENARIOS if only in scenario.name]
        self._references: dict[str, Reference] = {}
        self._inputs = folder / INPUTS
        shutil.rmtree(self._inputs, ignore_errors=True)  # perhaps half of them, of a soak that was killed

    def run(self, number: int) -> Record:
        """Make the disturbed run of a number; its folder is kept if a promise was broken."""
        chance = random.Random(f"{self.seed}/{number}")
        scenario = chance.choices(self.scenarios, [one.weight for one in self.scenarios])[0]
        reference = self._reference(scenario)
        record, begin = Record(number, scenario.name), time.monotonic()
        starter = self._starter(f"run-{number}")
        scenario.prepare(starter.place, self._inputs)
        log = Path(starter.folder, "log.txt")
        faults = choose(chance, scenario, reference.extent, self.tools)
        end = None
        for fault in faults:
            end = self._disturb(scenario, fault, chance, starter, record, reference, log)
            if end.code == 0 or end.hang:
                break
        if end is None or not end.hang:
            self._conclude(scenario, starter, record, reference, end, chance, log)
        record.seconds = round(time.monotonic() - begin, 2)
        if record.violations:
            _note(log, *(f"{one['kind']}: {one['text']}" for one in record.violations))
        else:
            shutil.rmtree(starter.folder)
        return record

    def _disturb(
        self,
        scenario: Scenario,
        fault: Fault,
        chance: random.Random,
        starter: Starter,
        record: Record,
        reference: Reference,
        log: Path,
    ) -> End:
        damage = Damage.do(chance, fault.damage, starter.place, scenario) if fault.damage else None
        end = self._start(scenario, fault, chance, starter, record, reference, log, damage)
        refusals = 0
        while damage is not None:
            refused = end.code == 2
            damage.end(refused)
            again = refused and not damage.is_answers and refusals < _DELETIONS
            if not again:
                break
            refusals += 1
            end = self._start(scenario, UNDISTURBED, chance, starter, record, reference, log, damage)
            if end.code == 0:
                break
        return end

    def _start(
        self,
        scenario: Scenario,
        fault: Fault,
        chance: random.Random,
        starter: Starter,
        record: Record,
        reference: Reference,
        log: Path,
        damage: Damage | None = None,
    ) -> End:
        limit = max(_LIMIT, 20 * reference.extent.seconds)
        end = starter.run(scenario, fault, chance, limit)
        record.starts += 1
        place = str(damage.file.relative_to(starter.place)) if damage else end.place
        if fault is not UNDISTURBED:
            struck = damage is not None if fault.damage else end.struck
            record.faults.append({"kind": fault.kind, "struck": struck, "place": place, "code": end.code})
        _note(log, f"start {record.starts}: {fault}", f"at {place}, code {end.code}, {end.seconds:.1f} s", end.output)
        found = _broken(fault, end, reference, damage)
        record.violations += [asdict(violation) for violation in found]
        return end

    def _conclude(
        self,
        scenario: Scenario,
        starter: Starter,
        record: Record,
        reference: Reference,
        end: End | None,
        chance: random.Random,
        log: Path,
    ) -> None:
        """Let the command complete, and compare."""
        if end is None or end.code != 0:
            end = self._start(scenario, UNDISTURBED, chance, starter, record, reference, log)
        if end.hang:
            return
        found: list[Violation] = []
        if end.code != 0:
            found.append(
                Violation("unreadable", f"an undisturbed restart ended with code {end.code}: {_last(end.output)}")
            )
        else:
            found += outcomes.compare(reference.results, outcomes.collect(starter.place, scenario.results))
            found += outcomes.leftovers(starter.place)
            temporary = [file.name for file in (starter.folder / "tmp").iterdir()]
            found += [Violation("strays", f"temporary {name}") for name in temporary if not name.startswith(_TORCHS)]
            printed = _WEIGHTS.findall(end.output)
            if not set(printed) <= set(reference.weights):
                found.append(Violation("unequal", f"the printed weights are {printed}, not {reference.weights}"))
        shared = Path("/dev/shm")
        for file in shared.iterdir() if shared.is_mount() and self.owns_shared_memory else []:
            found.append(Violation("strays", f"/dev/shm/{file.name}"))
            file.unlink()
        record.violations += [asdict(violation) for violation in found]

    owns_shared_memory = False
    """Whether nothing else uses /dev/shm."""

    def _reference(self, scenario: Scenario) -> Reference:
        if scenario.name not in self._references:
            if not self._inputs.exists():
                make_inputs(self._inputs)
                base = self._undisturbed(BASE)
                shutil.move(base.place / "run", self._inputs / "base")
                shutil.rmtree(base.folder)
            begin = time.monotonic()
            starter = self._undisturbed(scenario)
            extent = Extent(time.monotonic() - begin, self._last.calls)
            results = outcomes.collect(starter.place, scenario.results)
            self._references[scenario.name] = Reference(extent, results, _WEIGHTS.findall(self._last.output))
            shutil.rmtree(starter.folder)
        return self._references[scenario.name]

    def _undisturbed(self, scenario: Scenario) -> Starter:
        starter = self._starter("reference")
        scenario.prepare(starter.place, self._inputs)
        self._last = starter.run(scenario, UNDISTURBED, random.Random(0), 300)
        if self._last.code != 0:
            raise RuntimeError(f"{scenario.name} fails without faults: {self._last}")
        return starter

    def _starter(self, name: str) -> Starter:
        folder = self.folder / name
        shutil.rmtree(folder, ignore_errors=True)
        home = self.folder / "home"
        home.mkdir(parents=True, exist_ok=True)
        return Starter(folder, home, self.tools.shim)


def _broken(fault: Fault, end: End, reference: Reference, damage: Damage | None) -> Iterator[Violation]:
    """Promises that the end of one start breaks."""
    if end.hang:
        yield Violation("hangs", end.hang)
        return
    for command in end.processes:
        yield Violation("strays", f"process: {command}")
    if "Traceback (most recent call last)" in end.output and end.code != -signal.SIGKILL:
        yield Violation("messages", f"a stack trace, code {end.code}: {_last(end.output)}")
    if fault is UNDISTURBED or not end.struck or end.code == 0:
        if fault is not UNDISTURBED and end.code != 0 and not (end.code == 2 and damage):
            yield Violation("messages", f"code {end.code} though nothing was disturbed: {_last(end.output)}")
        return
    if fault.error and (end.code < 0 or fault.error not in end.output):
        yield Violation("messages", f"code {end.code} without '{fault.error}': {_last(end.output)}")
    is_direct = not (fault.timed and fault.timed.target == "process")
    if is_direct and fault.signal and end.code not in _codes_of(fault.signal):
        yield Violation("messages", f"code {end.code} after signal {fault.signal}: {_last(end.output)}")


def _codes_of(number: int) -> set[int]:
    """Exit codes after a signal: the shell's, that of the system, and 1 where a rank or worker received it."""
    return {0, 1, -number, 128 + number}


def _last(output: str) -> str:
    return " | ".join(output.strip().splitlines()[-4:])[-400:]


def _note(log: Path, *lines: str) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
