"""Checkpoint files, written so that a crash leaves the old one or the new one, and read without running any code."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from gpt2_lightning.errors import UserError

_PICKLE_START = b"\x80"


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Write under a temporary name in the same folder, flush to disk, rename.

    Raises:
        UserError: if the file cannot be written; nothing is left behind.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _replacing(path) as temporary, temporary.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        _sync_folder(path.parent)
    except (OSError, RuntimeError) as error:
        # torch's writer wraps what the file said in an exception of its own.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise UserError(
            f"the checkpoint {path} cannot be written: {cause.strerror}; free or change the folder"
        ) from None


def link(existing: Path, path: Path) -> None:
    """Give a checkpoint a second name, without a second copy where the file system can do that.

    Raises:
        UserError: if neither works; what had the name is left.
    """
    try:
        with _replacing(path) as temporary:
            try:
                os.link(existing, temporary)
            except OSError:
                shutil.copyfile(existing, temporary)
    except OSError as error:
        raise UserError(
            f"the checkpoint {path} cannot be written: {error.strerror}; free or change the folder"
        ) from None


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A temporary name in the same folder, renamed to path in the end; nothing of it is left after an exception."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def read(path: Path) -> dict[str, Any]:
    """Read tensors and plain values onto the CPU.

    Raises:
        UserError: if the file is missing, cut off, no checkpoint, or would run code (it is refused unread).
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}; check the path")
    size = path.stat().st_size
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of foreign pickles; the errors below say more
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _holds_objects(path, error):
            raise UserError(_damaged(path, size)) from None
        raise UserError(
            f"the checkpoint {path} holds something other than tensors and plain values, which could run code when "
            "it is loaded; it was refused and nothing of it was run. Use a checkpoint that this program wrote"
        ) from None
    except PermissionError as error:
        raise UserError(f"the checkpoint {path} cannot be read: {error.strerror}") from None
    except Exception:  # damaged bytes raise whatever they happen to look like
        raise UserError(_damaged(path, size)) from None
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path} holds a {type(checkpoint).__name__} and not a checkpoint; check the path")
    return checkpoint


def may_be_one(path: Path) -> bool:
    """Whether a file is of the kind that `write` writes, told by its table of contents alone."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def _holds_objects(path: Path, error: pickle.UnpicklingError) -> bool:
    """Whether torch stopped at a type that it does not allow, or at an instruction of a later pickle protocol."""
    with path.open("rb") as file:
        is_bare_pickle = file.read(1) == _PICKLE_START
    return is_bare_pickle or "GLOBAL" in str(error)


def _damaged(path: Path, size: int) -> str:
    return (
        f"the checkpoint {path} ({size:,} bytes) is damaged or cut off, perhaps by a full disk or an interrupted copy; "
        "use another one from the same folder, or copy it again"
    )


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
