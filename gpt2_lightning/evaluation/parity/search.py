"""What of several things that may be corrected has to be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def smallest_set(candidates: Sequence[T], agrees: Callable[[Sequence[T]], bool]) -> list[T] | None:
    """The fewest of the candidates that make both sides agree when they are corrected, as far as one can see.

    A single one is found if it is enough; of several, a set that lacks none of its members is: n more trials find it,
    where all sets would be 2^n.

    Args:
        candidates: the most plausible first.
        agrees: whether both sides agree with these corrected; tried on copies, or taken back.

    Returns:
        An empty list where both agree as they are; None where they disagree with everything corrected.
    """
    if agrees([]):
        return []
    for candidate in candidates:
        if agrees([candidate]):
            return [candidate]
    if len(candidates) < 2 or not agrees(candidates):
        return None
    needed = list(candidates)
    for candidate in reversed(candidates):
        fewer = [other for other in needed if other is not candidate]
        if agrees(fewer):
            needed = fewer
    return needed
