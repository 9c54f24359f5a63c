"""Runs mutated files through a parser in a process of its own, with limits of time and memory."""

from __future__ import annotations

import contextlib
import multiprocessing
import random
import resource
import shutil
import tempfile
import time
import traceback
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from gpt2_lightning.errors import UserError
from tests.fuzz.mutators import mutated
from tests.fuzz.parsers import PARSERS

SECONDS = 30
"""Limit of one input."""
GROWTH = 2**30
"""Limit of the growth of a process's peak memory, in bytes."""


@dataclass
class Report:
    """Outcomes of the inputs of a parser."""

    valid: int = 0
    refused: int = 0
    growth: int = 0
    """Largest growth of peak memory, in bytes."""
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)


def fuzz(name: str, count: int, seed: int) -> Report:
    """Read `count` mutations of a parser's files."""
    report, first, start = Report(), 0, time.monotonic()
    while first < count:
        first = _worker(name, first, count, seed, report)
    report.seconds = time.monotonic() - start
    return report


def _worker(name: str, first: int, count: int, seed: int, report: Report) -> int:
    """Read inputs until all are read or one kills the process; return the number of the next input."""
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("fork").Process(target=_read_all, args=(name, first, count, seed, there))
    process.start()
    there.close()
    number = first
    with contextlib.suppress(EOFError):
        while number < count:
            if not here.poll(SECONDS):
                report.failures.append(f"{name} {number}: no answer within {SECONDS} s")
                process.kill()
                break
            outcome, growth = here.recv()
            report.growth = max(report.growth, growth)
            report.valid += outcome == "valid"
            report.refused += outcome == "refused"
            if outcome not in ("valid", "refused"):
                report.failures.append(f"{name} {number}: {outcome}")
            if growth > GROWTH:
                report.failures.append(f"{name} {number}: memory grew by {growth:,} bytes")
                process.kill()
                number += 1
                break
            number += 1
        process.join()
        return number
    process.join()
    if number == first and process.exitcode == 1:
        raise RuntimeError(f"the valid files of {name} cannot be read")
    if number < count:
        report.failures.append(f"{name} {number}: the process ended with {process.exitcode}")
    return number + 1


def _read_all(name: str, first: int, count: int, seed: int, answers: Connection) -> None:
    warnings.simplefilter("ignore")
    parser = PARSERS[name]
    with tempfile.TemporaryDirectory() as temporary:
        original, place = Path(temporary, "original"), Path(temporary, "place")
        original.mkdir()
        parser.make(original)
        shutil.copytree(original, place)
        parser.read(place)
        before = _peak()
        for number in range(first, count):
            with _changed_file(original, place, random.Random(f"{seed} {name} {number}")):
                answers.send((_outcome(name, place), _peak() - before))


@contextlib.contextmanager
def _changed_file(original: Path, place: Path, dice: random.Random) -> Iterator[None]:
    file = dice.choice(sorted(file for file in original.rglob("*") if file.is_file()))
    target = place / file.relative_to(original)
    target.write_bytes(mutated(file.read_bytes(), file.name, dice))
    yield
    target.write_bytes(file.read_bytes())


def _outcome(name: str, place: Path) -> str:
    try:
        PARSERS[name].read(place)
    except UserError as error:
        return "refused" if str(error).strip() else "a UserError without a message"
    except BaseException as error:  # panics of Rust libraries are no Exceptions
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:200]} ({last.filename}:{last.lineno})"
    return "valid"


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
