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
from dataclasses import asdict
from pathlib import Path
from types import FrameType

_PARENT_DEATH, _NEW_MOUNTS, _PRIVATE, _RECURSIVE = 1, 0x20000, 1 << 18, 1 << 14


def main(arguments: list[str]) -> None:
    """Make the disturbed runs of this worker until the time is over."""
    index, workers, folder, records, has_strace, minutes, seed, number, only = arguments
    signal.signal(signal.SIGTERM, _exit)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PARENT_DEATH, signal.SIGTERM)
    owns_shared_memory = _own_shared_memory(libc)
    library = os.environ.pop("SOAK_SHIM", None)
    if library:
        os.environ["LD_PRELOAD"] = library  # of the fork server, which is not started yet
    from tests.soak.disturbed import Disturbed, Record
    from tests.soak.faults import Tools
    from tests.soak.references import References
    from tests.soak.scenarios import SCENARIOS

    tools = Tools(Path(library) if library else None, has_strace == "1")
    references = References(Path(folder), tools)
    scenarios = [scenario for scenario in SCENARIOS if only in scenario.name]
    done = _numbers(Path(records))
    deadline = time.monotonic() + 60 * float(minutes)
    place = int(index)
    while time.monotonic() < deadline:
        if int(number) < 0 and place in done:
            place += int(workers)
            continue
        this = place if int(number) < 0 else int(number)
        chance = random.Random(f"{seed}/{this}")
        scenario = chance.choices(scenarios, [one.weight for one in scenarios])[0]
        record = Record(this, scenario.name)
        try:
            reference, starter = references.of(scenario), references.starter(scenario, f"run-{this}")
            Disturbed(scenario, reference, starter, chance, record, owns_shared_memory).run()
        except Exception:  # of this tool, or of a command that fails without faults
            record.violations.append({"fault": "none", "kind": "unreadable", "text": traceback.format_exc()})
        with Path(records).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(record)) + "\n")
        if record.violations:
            print(f"number {record.number}, {record.scenario}: {record.violations}", flush=True)
        if int(number) >= 0:
            break
        place += int(workers)


def _numbers(records: Path) -> set[int]:
    from tests.soak import table

    return {record["number"] for record in table.read(records)}


def _own_shared_memory(libc: ctypes.CDLL) -> bool:
    """Mount a /dev/shm of this worker alone, where that is permitted."""
    if libc.unshare(_NEW_MOUNTS) != 0 or libc.mount(b"none", b"/", None, _PRIVATE | _RECURSIVE, None) != 0:
        return False
    return bool(libc.mount(b"soak", b"/dev/shm", b"tmpfs", 0, None) == 0)


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except Exception:
        traceback.print_exc()
        sys.exit(1)
