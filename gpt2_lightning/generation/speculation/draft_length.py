"""How many tokens are drafted: as many as pay for their verification, by the acceptance so far."""

from __future__ import annotations

from collections.abc import Sequence

MOST = 24
"""Largest number of drafted tokens of a text."""
_PASS, _PASS_OF_BATCH = 0.8, 0.2
"""What a pass over several tokens costs more than a pass over one, whatever their number, for one text and for several.
The product of a weight with one vector is faster than that with two, in a layout of its own; see `inference.packed`."""
_TOKEN = 0.05
"""What each further token of a text costs. All are shares of a pass over one token, which on a CPU is the time to read
the weights from memory; GPUs verify tokens more cheaply."""


def best_length(accepted: Sequence[float], rows: int, drafting: float = 0.0) -> int:
    """The number of drafted tokens with which most tokens are generated in a given time.

    Args:
        accepted: for the 1st, 2nd, … drafted token, the expected number of texts in which it and those before it are
            accepted; non-increasing.
        rows: texts of the batch.
        drafting: cost of drafting one token of each text, as a share of a pass of the model over one token.

    Returns:
        The number, 0 to `MOST`; 0 where no draft pays.
    """
    best, most, tokens = 0, float(rows), float(rows)  # tokens in the time of a pass over one
    fixed = 1 + (_PASS if rows == 1 else _PASS_OF_BATCH)
    for length, expected in enumerate(accepted[:MOST], start=1):
        tokens += expected
        speed = tokens / (fixed + length * (_TOKEN * rows + drafting))
        if speed > most:
            best, most = length, speed
    return best


class AcceptanceRate:
    """Share of drafted tokens that were accepted, of the last ones above all.

    Args:
        rate: the assumption before any.
    """

    _ASSUMED, _LATEST = 4, 64
    """Tokens that the assumption counts for, and tokens after which an outcome is forgotten by a factor of e."""

    def __init__(self, rate: float) -> None:
        self.rate, self._count = rate, self._ASSUMED

    def add(self, accepted: bool) -> None:
        """Count an outcome."""
        self._count = min(self._count + 1, self._LATEST)
        self.rate += (accepted - self.rate) / self._count
