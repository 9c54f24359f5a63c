"""Files that have their name only once they are whole."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


@contextlib.contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[BinaryIO]:
    """A file to write, under a temporary name in the same folder, renamed in the end.

    After an exception nothing of it is left, and what had the name stays.

    Args:
        path: where it goes; its folder is made.
        durable: whether to wait until it is on the disk; else a power cut soon after may leave it damaged.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str, durable: bool = True) -> None:
    """Write a small file in one go; see `replacing`."""
    with replacing(path, durable) as file:
        file.write(text.encode())


def make_durable(path: Path) -> None:
    """Wait until a file, as it is, is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
