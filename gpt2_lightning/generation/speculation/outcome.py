"""What became of drafted tokens."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class DraftOutcome:
    """What became of the draft at a token."""

    accepted: bool
    """Whether the token had been drafted, and so was chosen in the same pass as the token before it."""
    rejected: int = 0
    """Tokens of the draft that were discarded because the choice at this place was another token."""


@dataclass(frozen=True)
class Acceptance:
    """Outcomes of one or several texts, added up."""

    tokens: int
    """Generated tokens."""
    accepted: int
    """Of these, the tokens that had been drafted."""
    drafted: int
    """Drafted tokens that were verified."""

    @classmethod
    def of(cls, outcomes: Iterable[DraftOutcome | None]) -> Self:
        """Add up the outcomes at tokens; None stands for a token without speculation."""
        found = [outcome or DraftOutcome(accepted=False) for outcome in outcomes]
        accepted = sum(outcome.accepted for outcome in found)
        return cls(len(found), accepted, accepted + sum(outcome.rejected for outcome in found))

    @property
    def rate(self) -> float:
        """Share of the drafted tokens that were accepted; 0 if none were drafted."""
        return self.accepted / max(1, self.drafted)

    @property
    def tokens_per_step(self) -> float:
        """Tokens of a text per pass of the model, on average; 1 without speculation."""
        return self.tokens / max(1, self.tokens - self.accepted)

    def __str__(self) -> str:
        accepted = f"{self.accepted:,} of {self.drafted:,} drafted tokens accepted ({self.rate:.0%})"
        return f"speculation: {self.tokens_per_step:.2f} tokens a step, {accepted}"
