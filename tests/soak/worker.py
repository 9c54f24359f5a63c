"""One of the processes of a soak: disturbed runs one after the other, each a line of the records."""

from __future__ import annotations

import ctypes
import json
import os
import random
import signal
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from tests.soak import table
from tests.soak.disturbed import Disturbed, Record
from tests.soak.faults import Tools
from tests.soak.references import References
from tests.soak.scenarios import SCENARIOS

_PARENT_DEATH, _NEW_MOUNTS, _PRIVATE, _RECURSIVE = 1, 0x20000, 1 << 18, 1 << 14
_MOST_FAILURES = 3


@dataclass(frozen=True)
class Worker:
    """A worker, which makes the runs whose numbers have its remainder.

    Args:
        folder: for its files.
        records: file to which it appends.
        tools: of this machine.
        seed: of all faults.
        minutes: how long to begin new runs.
        first: number of its first run.
        step: distance of its numbers; 0 for the first one alone.
        only: part of the names of the scenarios.
    """

    folder: Path
    records: Path
    tools: Tools
    seed: int
    minutes: float
    first: int
    step: int
    only: str

    def run(self) -> None:
        """Make disturbed runs until the time is over; the main function of a process.

        Raises:
            RuntimeError: if several in a row cannot be made.
        """
        signal.signal(signal.SIGINT, _pass)  # and not SIG_IGN, which programs would inherit
        signal.signal(signal.SIGTERM, _exit)
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PARENT_DEATH, signal.SIGTERM)
        owns_shared_memory = _own_shared_memory(libc)
        os.environ["OMP_NUM_THREADS"] = "1"
        if self.tools.shim:
            os.environ["LD_PRELOAD"] = str(self.tools.shim)  # of the fork server, which is not started yet
        references = References(self.folder, self.tools)
        done = {record["number"] for record in table.read(self.records) if record["starts"]} if self.step else set()
        deadline = time.monotonic() + 60 * self.minutes
        number, failures = self.first, 0
        while time.monotonic() < deadline:
            if number not in done:
                record = self._disturbed(number, references, owns_shared_memory)
                failures = failures + 1 if record.starts == 0 else 0
                with self.records.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(record)) + "\n")
                if failures == _MOST_FAILURES:
                    raise RuntimeError(f"{failures} runs in a row cannot be made")
            if not self.step:
                break
            number += self.step

    def _disturbed(self, number: int, references: References, owns_shared_memory: bool) -> Record:
        chance = random.Random(f"{self.seed}/{number}")
        scenarios = [scenario for scenario in SCENARIOS if self.only in scenario.name]
        scenario = chance.choices(scenarios, [one.weight for one in scenarios])[0]
        record = Record(number, scenario.name)
        try:
            reference, starter = references.of(scenario), references.starter(scenario, f"run-{number}")
            Disturbed(scenario, reference, starter, chance, record, owns_shared_memory).run()
        except Exception:  # of this tool, or of a command that fails without faults
            record.violations.append({"fault": "none", "kind": "unreadable", "text": traceback.format_exc()})
        if record.violations:
            print(f"number {number}, {scenario.name}: {record.violations}"[:1000], flush=True)
        return record


def _own_shared_memory(libc: ctypes.CDLL) -> bool:
    """Mount a /dev/shm of this worker alone, where that is permitted."""
    if libc.unshare(_NEW_MOUNTS) != 0 or libc.mount(b"none", b"/", None, _PRIVATE | _RECURSIVE, None) != 0:
        return False
    return bool(libc.mount(b"soak", b"/dev/shm", b"tmpfs", 0, None) == 0)


def _pass(number: int, frame: FrameType | None) -> None:
    """The main process ends its workers."""


def _exit(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # the parent's death sends a second one
    sys.exit(128 + number)
