"""SHA-256 of files. Those of large files are remembered with their size and time of change."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from gpt2_lightning.atomic import write_text
from gpt2_lightning.errors import UserError

_REMEMBERED_FROM = 16 * 2**20
"""Smaller files are read each time, so that a change within the clock's resolution cannot go unnoticed."""


def digest(file: Path, cache_dir: Path, skip: int = 0) -> str:
    """SHA-256 of a file in hexadecimal.

    Args:
        file: any file.
        cache_dir: where digests of large files are remembered.
        skip: bytes at the start that do not count.

    Raises:
        UserError: if it cannot be read.
    """
    try:
        return _digest(file, cache_dir, skip)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}; check the path and its permissions") from None


def _digest(file: Path, cache_dir: Path, skip: int) -> str:
    if file.stat().st_size < _REMEMBERED_FROM:
        return _read(file, skip)
    memory, identity = memory_of(file, skip, cache_dir, "digests")
    with contextlib.suppress(OSError, ValueError):
        remembered = json.loads(memory.read_text(encoding="utf-8"))
        if remembered["identity"] == identity:
            return remembered["sha256"]
    found = _read(file, skip)
    with contextlib.suppress(OSError):  # it saves time, and nothing else
        write_text(memory, json.dumps({"identity": identity, "sha256": found}))
    return found


def memory_of(file: Path, start: int, cache_dir: Path, what: str) -> tuple[Path, list[str | int]]:
    """Where something about a file is remembered, and what has to be unchanged for it to hold.

    Args:
        file: any file.
        start: offset of the first byte.
        cache_dir: the folder of everything remembered.
        what: a name for the thing.
    """
    state = file.stat()
    place: list[str | int] = [str(file.resolve()), start]
    name = hashlib.sha256(json.dumps(place).encode()).hexdigest()[:32]
    return cache_dir / what / f"{name}.json", [*place, state.st_size, state.st_mtime_ns, state.st_ino]


def _read(file: Path, skip: int) -> str:
    with file.open("rb") as content:
        content.seek(skip)
        return hashlib.file_digest(content, "sha256").hexdigest()
