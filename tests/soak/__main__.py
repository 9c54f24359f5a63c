"""Fault injection: `python -m tests.soak minutes=60 seed=1 output=soak.md`.

Commands run under signals, errors of system calls, damaged files and a clock that jumps; they are restarted until they
complete, and their results are compared with those of undisturbed runs. A table is written as it goes. The records of
`output` are kept beside it as JSON lines: the same command continues them.

    minutes=1            how long to begin new runs
    seed=0               of all faults
    output=              file of the table; without it, the table is printed alone
    number=              a single disturbed run, to reproduce it
    only=                part of the names of the scenarios, such as only=train
    workers=2            commands at a time
    folder=              where to work; runs with a broken promise are kept there
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

from gpt2_lightning import atomic
from tests.soak import shim, table

_SECONDS_OF_LAST_RUNS = 600


@dataclass
class Settings:
    """The command line."""

    minutes: float = 1.0
    seed: int = 0
    output: str = ""
    number: int = -1
    only: str = ""
    workers: int = 2
    folder: str = ""

    @classmethod
    def parse(cls, arguments: list[str]) -> Settings:
        """Read `key=value` arguments."""
        values = dict(argument.partition("=")[::2] for argument in arguments)
        types = {name: type(value) for name, value in asdict(cls()).items()}
        if unknown := values.keys() - types.keys():
            sys.exit(f"error: unknown {', '.join(sorted(unknown))}\n{__doc__}")
        return cls(**{name: types[name](value) for name, value in values.items()})


def main() -> int:
    """Run the soak; return 1 if a promise was broken."""
    settings = Settings.parse(sys.argv[1:])
    folder = Path(settings.folder or tempfile.mkdtemp(prefix="soak-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    output = Path(settings.output).absolute() if settings.output else folder / "soak.md"
    records = output.with_suffix(".jsonl")
    if settings.number >= 0:
        records = folder / f"number-{settings.number}.jsonl"
    library = shim.compile_shim(folder)
    has_strace = library is not None and _strace_works()
    remarks = [] if library else ["No C compiler: faults at system calls were left out."]
    remarks += [] if has_strace else ["No strace that can trace: its faults were left out."]
    print(f"soak in {folder}, records in {records}", *remarks, sep="\n", flush=True)

    signal.signal(signal.SIGTERM, _exit)
    begin = time.monotonic()
    before = _minutes_before(records)
    workers = [
        _worker(settings, index, folder, records, library, has_strace)
        for index in range(1 if settings.number >= 0 else settings.workers)
    ]
    try:
        while True:
            running = [worker for worker in workers if worker.poll() is None]
            minutes = before + (time.monotonic() - begin) / 60
            found = table.read(records)
            if found:
                atomic.write_text(output, table.markdown(found, settings.seed, minutes, remarks), durable=False)
                atomic.write_text(records.with_suffix(".minutes"), f"{minutes:.2f}\n", durable=False)
            if not running:
                break
            time.sleep(2)
    finally:
        for worker in workers:
            with contextlib.suppress(ProcessLookupError):
                worker.terminate()
            worker.wait()
    text = table.markdown(found, settings.seed, minutes, remarks)
    print(text)
    broken = [record for record in found if record["violations"]]
    for record in broken:
        for violation in record["violations"]:
            print(f"number {record['number']}, {record['scenario']}: {violation['kind']}: {violation['text']}")
        print(f"  after {record['faults']}")
        print(f"  python -m tests.soak seed={settings.seed} number={record['number']} only='{settings.only}'")
    failed = [worker.returncode for worker in workers if worker.returncode]
    if failed:
        print(f"error: a worker ended with code {failed[0]}", file=sys.stderr)
    if broken:
        print(f"kept: {folder}")
    elif not failed and not settings.folder:
        shutil.rmtree(folder, ignore_errors=True)
    return 1 if broken or failed or not found else 0


def _worker(
    settings: Settings, index: int, folder: Path, records: Path, library: Path | None, has_strace: bool
) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if library:
        environment["SOAK_SHIM"] = str(library)
    arguments = [str(index), str(settings.workers), str(folder / f"worker-{index}"), str(records), str(int(has_strace))]
    arguments += [str(settings.minutes), str(settings.seed), str(settings.number), settings.only]
    root = Path(__file__).parents[2]
    return subprocess.Popen([sys.executable, "-m", "tests.soak.worker", *arguments], env=environment, cwd=root)


def _strace_works() -> bool:
    command = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", os.devnull, "-e", "trace=rename", sys.executable, "-c", ""]
    try:
        return subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _minutes_before(records: Path) -> float:
    try:
        return float(records.with_suffix(".minutes").read_text()) if records.exists() else 0.0
    except (OSError, ValueError):
        return 0.0


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
