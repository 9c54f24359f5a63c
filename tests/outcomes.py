"""What a command did, and that it was refused."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str


def refused(outcome: Outcome, *fragments: str) -> None:
    """The command ended with code 2, no stack trace, and a message that holds all of the fragments."""
    assert outcome.code == 2, outcome
    assert "Traceback" not in outcome.err + outcome.out
    for fragment in fragments:
        assert fragment in outcome.err, outcome.err
