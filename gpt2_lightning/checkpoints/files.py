"""Checkpoint files: written atomically, and read as tensors and plain values, without running code."""

from __future__ import annotations

import contextlib
import os
import pickle
import shutil
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from gpt2_lightning import atomic
from gpt2_lightning.checkpoints.integrity import require_intact, require_plain
from gpt2_lightning.errors import UserError

_PICKLE_START = b"\x80"
_OTHER_FORMATS = {
    b"GGUF": "a GGUF file of llama.cpp",
    (20240326).to_bytes(4, "little"): "a model of llm.c",
    (20240520).to_bytes(4, "little"): "token ids of llm.c",
    (20240328).to_bytes(4, "little"): "a tokenizer of llm.c",
    b"\x89HDF": "an HDF5 file, as Keras writes",
}
"""Formats of other programs by the first four bytes of a file."""


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint atomically, and wait until it is on the disk.

    Raises:
        UserError: if the file cannot be written; a previous file of this name is kept.
    """
    try:
        with atomic.open_binary(path) as file:
            torch.save(checkpoint, file)
    except (OSError, RuntimeError) as error:
        # torch's writer raises an exception of its own, with that of the file as its context.
        cause = error if isinstance(error, OSError) else error.__context__
        if not isinstance(cause, OSError):
            raise
        raise UserError(
            f"the checkpoint {path} cannot be written: {cause.strerror}; free or change the folder"
        ) from None


def link(existing: Path, path: Path) -> None:
    """Give a checkpoint a second name: a hard link where the file system has these, else a copy.

    Raises:
        UserError: if neither is possible; a previous file of this name is kept.
    """
    try:
        with atomic.replacing(path, durable=False) as temporary:
            try:
                os.link(existing, temporary)
            except OSError:
                shutil.copyfile(existing, temporary)
    except OSError as error:
        raise UserError(
            f"the checkpoint {path} cannot be written: {error.strerror}; free or change the folder"
        ) from None


def read(path: Path) -> dict[str, Any]:
    """Read the tensors and plain values of a checkpoint onto the CPU.

    Raises:
        UserError: if the file is missing, truncated, damaged, not a checkpoint, would run code or contains more than
            its size allows (which is refused).
    """
    if not path.is_file():
        raise UserError(f"there is no checkpoint {path}; check the path")
    size = path.stat().st_size
    if other := _other_format(path):
        raise UserError(
            f"{path} is {other}, which is not read; name the Hugging Face folder of the model, with model.safetensors "
            "and config.json, from which it was made or to which that program exports"
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of foreign pickles; the errors below are more specific
            require_intact(path)
            checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except pickle.UnpicklingError as error:
        if not _holds_objects(path, error):
            raise UserError(_damaged(path, size)) from None
        raise UserError(
            f"the checkpoint {path} holds something other than tensors and plain values, which could run code when "
            "it is loaded; it was refused and nothing of it was run. Use a checkpoint that this program wrote"
        ) from None
    except PermissionError as error:
        raise UserError(f"the checkpoint {path} cannot be read: {error.strerror}") from None
    except Exception:  # damaged bytes raise exceptions of any kind
        raise UserError(_damaged(path, size)) from None
    if not isinstance(checkpoint, dict):
        raise UserError(f"{path} holds a {type(checkpoint).__name__} and not a checkpoint; check the path")
    require_plain(checkpoint, path)
    return checkpoint


def is_checkpoint_file(path: Path) -> bool:
    """Whether a file has the format of `write`, by its table of contents."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.endswith("/data.pkl") for name in archive.namelist())


def _other_format(path: Path) -> str | None:
    with contextlib.suppress(OSError), path.open("rb") as file:
        return _OTHER_FORMATS.get(file.read(4))
    return None


def _holds_objects(path: Path, error: pickle.UnpicklingError) -> bool:
    """Whether torch refused a type, or an opcode of a later pickle protocol."""
    with path.open("rb") as file:
        is_bare_pickle = file.read(1) == _PICKLE_START
    return is_bare_pickle or "GLOBAL" in str(error)


def _damaged(path: Path, size: int) -> str:
    return (
        f"the checkpoint {path} ({size:,} bytes) is damaged or cut off, perhaps by a full disk or an interrupted copy; "
        "use another one from the same folder, or copy it again"
    )
