"""What drafts tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class Drafter(Protocol):
    """Drafts the next tokens of the texts of a batch, and learns from the texts how many are worth it."""

    def propose(self, texts: Sequence[list[int]], limits: Sequence[int]) -> list[list[int]]:
        """Draft tokens.

        Args:
            texts: ids of each text so far, with its prompt; since the last call tokens were added, and nothing else
                has changed.
            limits: largest number of drafted tokens of each text.

        Returns:
            Drafted ids of each text; none where a draft would not pay.
        """
        ...

    def keep(self, rows: Sequence[int]) -> None:
        """Keep the texts of these rows, in this order."""
        ...
