"""Mutated files of every parser give a result or a UserError; `python -m tests.fuzz` runs more of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import runner
from tests.fuzz.parsers import PARSERS, Parser
from tests.fuzz.runner import fuzz


@pytest.mark.parametrize("name", PARSERS)
def test_mutated_files_are_read_or_refused(name: str) -> None:
    assert fuzz(name, count=25, seed=0).failures == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_many_mutated_files_are_read_or_refused(name: str) -> None:
    assert fuzz(name, count=400, seed=1).failures == []


def _fails_on_change(failure: Callable[[], object]) -> Parser:
    def read(place: Path) -> None:
        if (place / "a.txt").read_bytes() != b"valid":
            failure()

    return Parser(lambda place: bool((place / "a.txt").write_bytes(b"valid")) or None, read)


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (lambda: time.sleep(60), "no result within 0.5 s"),
        (lambda: os._exit(3), "the process ended with 3"),
        (lambda: bytearray(b"x" * 2**26), "memory grew by"),
        (lambda: [][0], "IndexError: list index out of range"),
    ],
    ids=["stalls", "exits", "grows", "raises"],
)
def test_each_failing_input_is_counted_once(
    monkeypatch: pytest.MonkeyPatch, failure: Callable[[], object], message: str
) -> None:
    monkeypatch.setitem(PARSERS, "planted", _fails_on_change(failure))
    monkeypatch.setattr(runner, "SECONDS", 0.5)
    monkeypatch.setattr(runner, "GROWTH", 2**25)
    report = fuzz("planted", count=4, seed=0)
    assert len(report.failures) + report.valid == 4
    assert len(report.failures) >= 3  # a mutation may change nothing
    for failed in report.failures:
        assert message in failed
        assert failed.startswith("planted ")
        assert " of seed 0: " in failed
