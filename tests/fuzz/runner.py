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
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

from gpt2_lightning.errors import UserError
from tests.fuzz.mutators import mutated
from tests.fuzz.parsers import PARSERS

STARTUP_SECONDS = 120
SECONDS = 30
"""Limit of one input."""
GROWTH = 2**30
"""Limit of the growth of a process's peak memory, in bytes."""
ADDRESS_SPACE = 2**34
"""Limit of a worker's virtual memory, in bytes, to protect the machine."""
_READY = "ready"


@dataclass
class Report:
    """Outcomes of the inputs of a parser."""

    valid: int = 0
    refused: int = 0
    growth: int = 0
    """Largest growth of peak memory, in bytes."""
    seconds: float = 0.0
    slowest: float = 0.0
    """Longest duration of an input, in seconds."""
    failures: list[str] = field(default_factory=list)


def fuzz(name: str, count: int, seed: int, show: Callable[[Report], object] = lambda report: None) -> Report:
    """Read `count` mutations of a parser's files.

    Args:
        name: key of `PARSERS`.
        count: number of inputs.
        seed: input n is the same for every `count`.
        show: called with the report so far after each input.
    """
    report, number = Report(), 0
    with tempfile.TemporaryDirectory() as temporary:  # of this process, as a worker may be killed
        while number < count:
            folder = Path(temporary, str(number))
            for outcome, growth, seconds in _outcomes(name, folder, number, count, seed):
                report.valid += outcome == "valid"
                report.refused += outcome == "refused"
                report.growth, report.slowest = max(report.growth, growth), max(report.slowest, seconds)
                report.seconds += seconds
                if outcome not in ("valid", "refused"):
                    report.failures.append(f"{name} {number} of seed {seed}: {outcome}")
                number += 1
                show(report)
            shutil.rmtree(folder)
    return report


def reproduce(name: str, number: int, seed: int) -> None:
    """Read a single input in this process, with the traceback of its failure."""
    with tempfile.TemporaryDirectory() as temporary:
        original, place = _made(name, Path(temporary, "files"))
        with _changed_file(original, place, random.Random(f"{seed} {name} {number}")):
            try:
                PARSERS[name].read(place)
            except UserError as error:
                print(f"refused: {error}")


def _outcomes(name: str, folder: Path, first: int, count: int, seed: int) -> Iterator[tuple[str, int, float]]:
    """Yield the outcomes of inputs, until all are read or one ends the worker or exceeds a limit.

    Each outcome is a word or a failure, the growth of peak memory in bytes, and the duration in seconds.
    """
    here, there = multiprocessing.Pipe(duplex=False)
    arguments = (name, folder, first, count, seed, there)
    process = multiprocessing.get_context("fork").Process(target=_read_all, args=arguments)
    process.start()
    there.close()
    is_ready = False
    try:
        is_ready = here.poll(STARTUP_SECONDS) and here.recv() == _READY
        for _ in range(first, count):
            start = time.monotonic()
            if not here.poll(SECONDS):
                yield f"no result within {SECONDS} s", 0, time.monotonic() - start
                return
            outcome, growth = here.recv()
            if growth > GROWTH:
                yield f"memory grew by {growth:,} bytes ({outcome})", growth, time.monotonic() - start
                return
            yield outcome, growth, time.monotonic() - start
    except EOFError:
        process.join()
        if not is_ready:
            raise RuntimeError(f"the valid files of {name} cannot be read") from None
        yield f"the process ended with {process.exitcode}", 0, 0.0
    finally:
        process.kill()
        process.join()
        here.close()


def _read_all(name: str, folder: Path, first: int, count: int, seed: int, answers: Connection) -> None:
    warnings.simplefilter("ignore")
    original, place = _made(name, folder)
    PARSERS[name].read(place)
    before = _peak()
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    answers.send(_READY)
    for number in range(first, count):
        with _changed_file(original, place, random.Random(f"{seed} {name} {number}")):
            answers.send((_outcome(name, place), _peak() - before))


def _made(name: str, folder: Path) -> tuple[Path, Path]:
    original, place = folder / "original", folder / "place"
    original.mkdir(parents=True)
    PARSERS[name].make(original)
    shutil.copytree(original, place)
    return original, place


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
