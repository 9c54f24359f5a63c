"""A file or folder that takes the place of another only when it is whole and verified."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from gpt2_lightning.errors import UserError


@contextlib.contextmanager
def replacing(target: Path, key: str) -> Iterator[Path]:
    """A name beside the target, which takes its place in the end; after an exception nothing has changed.

    Args:
        target: what is replaced, or made.
        key: the setting that names it, for messages.

    Raises:
        UserError: if the target cannot be replaced, or a file cannot be read meanwhile.
    """
    temporary, old = (target.with_name(f".{target.name}.{os.getpid()}.{kind}") for kind in ("tmp", "old"))
    try:
        yield temporary
        _flush(temporary)
        if target.is_dir():
            target.rename(old)
        temporary.replace(target)
    except BaseException as error:
        if old.exists() and not target.exists():
            old.rename(target)
        if isinstance(error, OSError):
            raise UserError(f"{key}: {_told(error, target, temporary)}") from None
        raise
    finally:
        _remove(temporary)
        if target.exists():
            _remove(old)


def mend(target: Path) -> None:
    """Finish what a process did not that was killed while it replaced a folder: its content is found again."""
    name = re.compile(rf"\.{re.escape(target.name)}\.\d+\.old")
    for old in [file for file in target.parent.glob(".*.old") if name.fullmatch(file.name)]:
        if target.exists():
            _remove(old)
        else:
            old.rename(target)
            print(f"{target} is what it was before a command was killed that was to replace it")


def _told(error: OSError, target: Path, temporary: Path) -> str:
    """What went wrong, in writing the target or in reading anything."""
    where = temporary if error.filename is None else Path(os.fsdecode(error.filename))
    is_ours = where == target or where.is_relative_to(temporary) or temporary.is_relative_to(where)
    if error.errno is None or not is_ours:  # libraries raise the first kind for what they cannot make sense of
        return f"{target} was not written, since something could not be read: {error}"
    return f"{target} cannot be written: {error.strerror}; free or change the folder"


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
