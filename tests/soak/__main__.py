"""Fault injection: `python -m tests.soak minutes=60 seed=1 output=soak.md`.

Commands run under signals, errors of system calls, damaged files and a clock that jumps; they are restarted until they
complete, and their results are compared with those of undisturbed runs. The table is written as it goes. The records
of `output` are kept beside it as JSON lines: the same command continues them.

    minutes=1            how long to begin new runs
    seed=0               of all faults
    output=              file of the table; without it, the table is only printed
    number=              a single disturbed run, to reproduce it
    only=                part of the names of the scenarios, such as only=train
    workers=2            commands at a time
    folder=              where to work; runs with a broken promise are kept there
"""

from __future__ import annotations

import multiprocessing
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
from tests.soak import table
from tests.soak.faults import Tools
from tests.soak.shim import compile_shim
from tests.soak.worker import Worker


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
            sys.exit(f"unknown: {', '.join(sorted(unknown))}\n\n{__doc__}")
        return cls(**{name: types[name](value) for name, value in values.items()})


@dataclass(frozen=True)
class Soak:
    """A soak with its files.

    Args:
        settings: the command line.
        folder: for all files of the workers.
        output: file of the table.
        records: one line for each disturbed run.
    """

    settings: Settings
    folder: Path
    output: Path
    records: Path

    def run(self) -> int:
        """Run the workers, and write the table as it goes; return 1 if a promise was broken."""
        tools, remarks = _tools(self.folder)
        print(f"soak in {self.folder}, records in {self.records}", *remarks, sep="\n", flush=True)
        context = multiprocessing.get_context("spawn")
        processes = [context.Process(target=worker.run) for worker in self._workers(tools)]
        begin, before = time.monotonic(), self._minutes_before()
        try:
            for process in processes:
                process.start()
            while any(process.is_alive() for process in processes):
                time.sleep(2)
                self._write(before + (time.monotonic() - begin) / 60, remarks)
        finally:
            for process in processes:
                process.terminate()
                process.join()
        text = self._write(before + (time.monotonic() - begin) / 60, remarks)
        print(f"\n{text}")
        failed = any(process.exitcode for process in processes)
        return self._conclude() or int(failed)

    def _workers(self, tools: Tools) -> list[Worker]:
        chosen = self.settings
        count, step = (chosen.workers, chosen.workers) if chosen.number < 0 else (1, 0)
        return [
            Worker(
                folder=self.folder / f"worker-{index}",
                records=self.records,
                tools=tools,
                seed=chosen.seed,
                minutes=chosen.minutes,
                first=max(chosen.number, 0) + index,
                step=step,
                only=chosen.only,
            )
            for index in range(count)
        ]

    def _write(self, minutes: float, remarks: list[str]) -> str:
        text = table.markdown(table.read(self.records), self.settings.seed, minutes, remarks)
        atomic.write_text(self.output, text, durable=False)
        atomic.write_text(self._minutes, f"{minutes:.2f}\n", durable=False)
        return text

    @property
    def _minutes(self) -> Path:
        return self.records.with_suffix(".minutes")

    def _minutes_before(self) -> float:
        return float(self._minutes.read_text()) if self.records.exists() and self._minutes.exists() else 0.0

    def _conclude(self) -> int:
        """Print broken promises and how to reproduce them; return the exit code."""
        records = table.read(self.records)
        broken = [record for record in records if record["violations"]]
        only = f" only='{self.settings.only}'" if self.settings.only else ""
        for record in broken:
            print(f"number {record['number']}, {record['scenario']}, after {record['faults']}:")
            for violation in record["violations"]:
                print(f"  {violation['kind']}: {violation['text']}")
            print(f"  again: python -m tests.soak seed={self.settings.seed} number={record['number']}{only}\n")
        if broken:
            print(f"their folders are kept in {self.folder}")
        elif not self.settings.folder:
            shutil.rmtree(self.folder)
        return int(bool(broken) or not records)


def main() -> int:
    """Run a soak."""
    settings = Settings.parse(sys.argv[1:])
    folder = Path(settings.folder or tempfile.mkdtemp(prefix="soak-")).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    output = Path(settings.output).absolute() if settings.output else folder / "soak.md"
    if settings.number >= 0:
        output = folder / f"number-{settings.number}.md"
        output.with_suffix(".jsonl").unlink(missing_ok=True)
    signal.signal(signal.SIGTERM, _exit)
    return Soak(settings, folder, output, output.with_suffix(".jsonl")).run()


def _tools(folder: Path) -> tuple[Tools, list[str]]:
    """What this machine has, and remarks about what it lacks."""
    library = compile_shim(folder)
    traces = ["strace", "-f", "-qq", "--seccomp-bpf", "-o", os.devnull, "-e", "trace=rename", sys.executable, "-c", ""]
    try:
        has_strace = subprocess.run(traces, capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        has_strace = False
    remarks = [] if library else ["No C compiler: faults at system calls and of the clock were left out."]
    remarks += [] if has_strace else ["No strace that can trace: its faults were left out."]
    return Tools(library, has_strace), remarks


def _exit(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
