"""Exception for user errors, and formatting of values in messages."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from itertools import islice
from typing import Any

_MOST_LISTED = 20


class UserError(Exception):
    """User error, shown without a stack trace; exit code 2.

    The message states what is wrong, where, and how to correct it.
    """


def shortened(value: Any, length: int = 60) -> str:
    """Return the `repr` of a value, truncated to `length` characters."""
    shown = repr(value)
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"


def listed(names: Collection[str]) -> str:
    """Format up to twenty names, separated by commas; `none` for an empty collection."""
    more = [f"and {len(names) - _MOST_LISTED} more"] if len(names) > _MOST_LISTED else []
    return ", ".join([*(shortened(name, 40) for name in islice(names, _MOST_LISTED)), *more]) or "none"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return `; did you mean …?` with the known name nearest to `name`, or "" if none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
