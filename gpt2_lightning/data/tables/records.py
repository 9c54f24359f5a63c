"""A record is a row as its file has it, not yet looked at. What is wrong with rows is collected here."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

_SHOWN = 10
_NAMED = 20


@dataclass(frozen=True)
class Record:
    """Values by column, and where they stand."""

    place: str
    """File and line, or file and row, counted from 1."""
    values: dict[str, Any]


class BadRow(Exception):
    """Why a record cannot be a row."""


@dataclass
class BadRows:
    """All bad rows of the tables: every one counted, the first ten kept to be shown."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, place: str, reason: object) -> None:
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(f"{place}: {reason}")

    def __str__(self) -> str:
        """The count, and a line for each that was kept."""
        title = "1 bad row:" if self.count == 1 else f"{self.count} bad rows:"
        rest = self.count - len(self.first)
        more = [f"and {rest} more"] if rest else []
        return "\n  ".join([title, *self.first, *more])


def text_of(values: dict[str, Any], column: str) -> str:
    """The text in a column.

    Raises:
        BadRow: if there is none, it is blank, or it is no text.
    """
    value = values.get(column)
    if value is None:
        raise BadRow(f"{column} is missing")
    return checked_text(value, column)


def checked_text(value: Any, name: str) -> str:
    """A value that must be text with something in it.

    Raises:
        BadRow: if it is not.
    """
    if not isinstance(value, str):
        raise BadRow(f"{name} is {shortened(value)} ({type(value).__name__}), and must be text")
    if not value.strip():
        raise BadRow(f"{name} is empty")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadRow(f"{name} holds half of a surrogate pair, which is no character") from None
    return value


def shortened(value: Any, length: int = 60) -> str:
    """A value as it may stand in a message."""
    shown = repr(value)
    return shown if len(shown) <= length else f"{shown[: length - 1]}…"


def listed(names: Collection[str]) -> str:
    """Names as they may stand in a message; `none` where there are none."""
    more = [f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else []
    return ", ".join([*(shortened(name, 40) for name in islice(names, _NAMED)), *more]) or "none"


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean …?` where a known name is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
