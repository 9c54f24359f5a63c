"""Paths in messages."""

from __future__ import annotations

from pathlib import Path


def display_path(path: Path) -> str:
    """Return a path relative to the working folder if it lies below it, otherwise the absolute path."""
    absolute = path.absolute()
    return str(absolute.relative_to(Path.cwd())) if absolute.is_relative_to(Path.cwd()) else str(absolute)
