"""Mutated files of every parser give a result or a UserError; `python -m tests.fuzz` runs more of them."""

from __future__ import annotations

import pytest

from tests.fuzz.parsers import PARSERS
from tests.fuzz.runner import fuzz


@pytest.mark.parametrize("name", PARSERS)
def test_mutated_files_are_read_or_refused(name: str) -> None:
    assert fuzz(name, count=25, seed=0).failures == []


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_many_mutated_files_are_read_or_refused(name: str) -> None:
    assert fuzz(name, count=400, seed=1).failures == []
