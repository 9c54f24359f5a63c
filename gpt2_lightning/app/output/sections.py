"""Reports of sections with text and tables, for the terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as DrawnTable
from rich.text import Text

DIFFERS = "≠"
"""Last cell of a row to highlight."""


@dataclass(frozen=True)
class Table:
    """A table with text cells."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Section:
    """A section: paragraphs, a table, and paragraphs below it."""

    title: str
    before: tuple[str, ...] = ()
    table: Table | None = None
    after: tuple[str, ...] = ()


def show(sections: Sequence[Section], console: Console) -> None:
    """Print a report."""
    for section in sections:
        console.print(Text(f"\n{section.title}", style="bold"))
        for line in section.before:
            console.print(Text(line))
        if section.table is not None:
            console.print(_drawn(section.table))
        for line in section.after:
            console.print(Text(line))


def markdown(title: str, sections: Sequence[Section]) -> str:
    """Format a report as Markdown."""
    parts = [f"# {title}"]
    for section in sections:
        parts += [f"## {section.title}", *section.before]
        if section.table is not None:
            lines = [section.table.header, ("---",) * len(section.table.header), *section.table.rows]
            parts.append("\n".join(f"| {' | '.join(map(_escaped, line))} |" for line in lines))
        parts += section.after
    return "\n\n".join(parts) + "\n"


def _drawn(table: Table) -> DrawnTable:
    drawn = DrawnTable(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for name in table.header:
        drawn.add_column(Text(name))
    for row in table.rows:
        drawn.add_row(*map(Text, row), style="yellow" if row[-1] == DIFFERS else "")
    return drawn


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")
