"""Search for a small set of corrections with which both sides agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def smallest_set(candidates: Sequence[T], agrees: Callable[[Sequence[T]], bool]) -> list[T] | None:
    """Find a minimal set of candidates with which both sides agree.

    If one candidate is sufficient, the first such candidate is found. Otherwise the set is minimal in the sense that
    none of its members can be removed, which takes n more trials instead of 2^n for all sets.

    Args:
        candidates: possible corrections, the most plausible first.
        agrees: function that returns whether both sides agree with the given corrections, without side effects.

    Returns:
        The set; an empty list if both sides agree without corrections, None if they disagree with all of them.
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
