"""Atomic replacement of output files and folders given by the user."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from gpt2_lightning import atomic
from gpt2_lightning.errors import UserError


@contextlib.contextmanager
def replacing(target: Path, key: str) -> Iterator[Path]:
    """`atomic.replacing`, with OS errors reported as user errors.

    Args:
        target: file or folder to create or replace.
        key: key of the setting with the path, for messages.

    Raises:
        UserError: if the target cannot be replaced, or a file cannot be read inside the context.
    """
    try:
        with atomic.replacing(target) as temporary:
            try:
                yield temporary
            except UserError as error:  # names the target, as the temporary file is removed
                raise UserError(str(error).replace(str(temporary), str(target))) from None
    except OSError as error:
        raise UserError(f"{key}: {_explain(error, target)}") from None


def recover(target: Path) -> None:
    """Restore a folder whose replacement was interrupted by SIGKILL between its two renames."""
    name = re.compile(rf"\.{re.escape(target.name)}\.\d+(@[^@]+)?\.old")
    for old in [file for file in target.parent.glob(".*.old") if name.fullmatch(file.name)]:
        if target.exists():
            atomic.remove(old)
        else:
            old.rename(target)
            print(f"{target} was restored: a command was killed before it had replaced it")


def _explain(error: OSError, target: Path) -> str:
    """Describe an error of writing the target or of reading another file."""
    temporary = atomic.temporary_name(target)
    where = temporary if error.filename is None else Path(os.fsdecode(error.filename))
    is_ours = where == target or where.is_relative_to(temporary) or temporary.is_relative_to(where)
    if error.errno is None or not is_ours:  # libraries raise OSError without errno for invalid content
        return f"{target} was not written, since something could not be read: {error}"
    return f"{target} cannot be written: {error.strerror}; free or change the folder"
