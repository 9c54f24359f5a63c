"""Reading of whole files that others may have made: regular files of bounded size only."""

from __future__ import annotations

import stat
from pathlib import Path

from gpt2_lightning.errors import UserError

MOST_BYTES = 2**26
"""Default size limit; the largest published tokenizers have half as much."""


def require_regular(file: Path) -> None:
    """Check that a path leads to a regular file, since reading a device or a pipe may never end.

    Raises:
        UserError: if it does not.
        OSError: if there is no such file.
    """
    if not stat.S_ISREG(file.stat().st_mode):
        kind = "a folder" if file.is_dir() else "a device, pipe or socket"
        raise UserError(f"{file} is {kind}; name a regular file")


def read_whole(file: Path, most: int = MOST_BYTES) -> bytes:
    """Read a regular file.

    Args:
        file: path of the file.
        most: size limit in bytes.

    Raises:
        UserError: if it is not a regular file, is larger than the limit, or cannot be read.
    """
    try:
        require_regular(file)
        with file.open("rb") as content:
            read = content.read(most + 1)
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}; check the path and its permissions") from None
    if len(read) > most:
        raise UserError(f"{file} has more than {most:,} bytes, too many for a file of this kind; check the path")
    return read
