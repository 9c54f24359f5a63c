"""Integrity of checkpoint files: checksums of the archive, and plain contents no larger than the file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from torch import Tensor, strided

from gpt2_lightning.checkpoints.pickle_check import excess_of
from gpt2_lightning.errors import UserError, listed

_ARCHIVE_START = b"PK\x03\x04"
_PICKLE = "data.pkl"
_LEGACY_PICKLES = 5
"""Pickles at the start of a file that torch wrote before 1.6; the contents of the tensors follow."""
_MOST_VALUES = 1_000_000
_DEEPEST = 100
_ATTRIBUTES = {"_metadata"}
"""Attributes of containers: those of `nn.Module.state_dict`. Others could shadow a method."""


def require_intact(path: Path) -> None:
    """Check the CRC-32 of every member of a checkpoint's archive, which torch does not; other formats have none.

    Compressed and overlapping members, of which torch writes none, are refused: a small file could unpack to any size.
    Pickles that take more time or memory than their size explains are refused as well.

    Raises:
        UserError: stating what is refused.
        zipfile.BadZipFile: if the archive is damaged.
    """
    with path.open("rb") as file:
        if file.peek()[: len(_ARCHIVE_START)] != _ARCHIVE_START:
            for _ in range(_LEGACY_PICKLES):
                if file.peek():
                    _require_bounded(file, path)
            return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise _refusal(path, "its members are compressed")
        size, file_size = sum(member.file_size for member in members), path.stat().st_size
        if size > file_size:
            raise _refusal(path, f"its members declare {size:,} bytes, and the file has {file_size:,}")
        if (damaged := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"bad CRC-32 of {damaged}")
        for member in members:
            if member.filename.lower().endswith(_PICKLE):
                _require_bounded(io.BytesIO(archive.read(member)), path)


def require_plain(content: Any, path: Path) -> None:
    """Check that contents are ordinary tensors on the CPU in moderately nested containers, and no larger than the file.

    Sparse, quantized and meta tensors are refused, as well as views that repeat elements and containers that contain a
    container many times: a few bytes of these may stand for any amount of memory.

    Args:
        content: what `torch.load` returned.
        path: the file.

    Raises:
        UserError: stating what is refused.
    """
    storages = {}
    for name, value in _leaves(content, path):
        if not isinstance(value, Tensor):
            continue
        if value.layout is not strided or value.device.type != "cpu" or value.is_quantized or value.is_nested:
            kind = "quantized" if value.is_quantized else "nested" if value.is_nested else value.layout
            raise _refusal(path, f"{name} is a {kind} tensor on {value.device}, not a dense one on the CPU")
        storage = value.untyped_storage()
        if value.nbytes > storage.nbytes():
            raise _refusal(path, f"{name} repeats the elements of its storage")
        storages[storage.data_ptr()] = storage.nbytes()
    size, file_size = sum(storages.values()), path.stat().st_size
    if size > file_size:
        raise _refusal(path, f"its tensors take {size:,} bytes, and the file has {file_size:,}")


def _require_bounded(stream: BinaryIO, path: Path) -> None:
    if excess := excess_of(stream):
        raise _refusal(path, excess)


def _refusal(path: Path, reason: str) -> UserError:
    return UserError(f"the checkpoint {path} was refused: {reason}; use a checkpoint that this program wrote")


def _leaves(content: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Yield all values that are no containers, and empty containers, with their keys."""
    waiting, count = [("", content, 0)], 1
    while waiting:
        name, value, depth = waiting.pop()
        if attributes := getattr(value, "__dict__", {}).keys() - _ATTRIBUTES:
            raise _refusal(path, f"{name or 'it'} has attributes beside its values: {listed(attributes)}")
        if not isinstance(value, dict | list | tuple | set):
            yield name, value
            continue
        count += len(value)
        if depth > _DEEPEST or count > _MOST_VALUES:
            raise _refusal(path, f"it is nested more than {_DEEPEST} deep or has more than {_MOST_VALUES:,} values")
        if isinstance(value, dict):
            waiting += [(f"{name}.{key}".lstrip("."), item, depth + 1) for key, item in value.items()]
        else:
            waiting += [(name, item, depth + 1) for item in value]
