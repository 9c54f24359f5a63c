"""A file or folder that takes the place of another only when it is whole and verified."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from gpt2_lightning.errors import UserError


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A name beside the target, which takes its place in the end; after an exception nothing has changed.

    Raises:
        UserError: if the target cannot be replaced.
    """
    temporary, old = (target.with_name(f".{target.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    try:
        yield temporary
        _flush(temporary)
        if target.is_dir():
            target.rename(old)
        temporary.replace(target)
    except BaseException as error:
        if old.exists():
            old.rename(target)
        if isinstance(error, OSError):
            raise UserError(
                f"target: {target} cannot be written: {error.strerror}; free or change the folder"
            ) from None
        raise
    finally:
        _remove(temporary)
    _remove(old)


def _flush(path: Path) -> None:
    """Make the content durable before its name is."""
    for file in path.iterdir() if path.is_dir() else [path]:
        with file.open("rb+") as opened:
            os.fsync(opened.fileno())


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
