"""SHA-256 of files; those of large files are cached with size and modification time."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

from gpt2_lightning.atomic import write_text
from gpt2_lightning.errors import UserError
from gpt2_lightning.regular_files import require_regular

_REMEMBERED_FROM = 16 * 2**20
"""Size in bytes below which files are always read, since a change within the clock's resolution is not detectable."""


def digest(file: Path, cache_dir: Path, skip: int = 0) -> str:
    """Return the SHA-256 of a file in hexadecimal.

    Args:
        file: any file.
        cache_dir: cache folder for the digests of large files.
        skip: number of bytes at the start to exclude.

    Raises:
        UserError: if the file cannot be read, or is a device or a pipe.
    """
    try:
        require_regular(file)
        return _digest(file, cache_dir, skip)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}; check the path and its permissions") from None


def _digest(file: Path, cache_dir: Path, skip: int) -> str:
    if file.stat().st_size < _REMEMBERED_FROM:
        return _read(file, skip)
    memory, identity = memory_of(file, skip, cache_dir, "digests")
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        remembered = json.loads(memory.read_text(encoding="utf-8"))
        if remembered["identity"] == identity:
            return remembered["sha256"]
    found = _read(file, skip)
    with contextlib.suppress(OSError):  # the cache is optional
        write_text(memory, json.dumps({"identity": identity, "sha256": found}))
    return found


def memory_of(file: Path, start: int, cache_dir: Path, what: str) -> tuple[Path, list[str | int]]:
    """Return the path of a cache entry about a file, and the file's identity that validates the entry.

    Args:
        file: any file.
        start: offset of the first byte.
        cache_dir: cache folder.
        what: name of the cached quantity.
    """
    state = file.stat()
    place: list[str | int] = [str(file.resolve()), start]
    name = hashlib.sha256(json.dumps(place).encode()).hexdigest()[:32]
    return cache_dir / what / f"{name}.json", [*place, state.st_size, state.st_mtime_ns, state.st_ino]


def _read(file: Path, skip: int) -> str:
    with file.open("rb") as content:
        content.seek(skip)
        return hashlib.file_digest(content, "sha256").hexdigest()
