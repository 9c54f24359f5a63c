"""Records, the unvalidated rows of a file, and the collection of bad rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from gpt2_lightning.errors import shortened

_SHOWN = 10


@dataclass(frozen=True)
class Record:
    """Values of a row by column, with its place in the file."""

    place: str
    """File and line, or file and row, numbered from 1."""
    values: dict[str, Any]


class BadRow(Exception):
    """Raised with the reason why a record is not a valid row."""


@dataclass
class BadRows:
    """Bad rows of the tables: their number, and the first ten."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, place: str, reason: object) -> None:
        self.count += 1
        if len(self.first) < _SHOWN:
            self.first.append(f"{place}: {reason}")

    def __str__(self) -> str:
        """Return the count, followed by a line for each of the first ten."""
        title = "1 bad row:" if self.count == 1 else f"{self.count} bad rows:"
        rest = self.count - len(self.first)
        more = [f"and {rest} more"] if rest else []
        return "\n  ".join([title, *self.first, *more])


def text_of(values: dict[str, Any], column: str) -> str:
    """Return the text in a column.

    Raises:
        BadRow: if the value is missing, blank or not a string.
    """
    value = values.get(column)
    if value is None:
        raise BadRow(f"{column} is missing")
    return checked_text(value, column)


def checked_text(value: Any, name: str) -> str:
    """Return a value after checking that it is a non-blank string.

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
