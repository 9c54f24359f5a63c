"""Files of item records, written chunk by chunk, so that an interrupted evaluation continues.

During an evaluation, `NAME.partial.jsonl` has a line for the header, and one for each chunk. At the end, `NAME.jsonl`
replaces it: a line for the header, and one for each item.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from gpt2_lightning import atomic
from gpt2_lightning.errors import UserError, shortened
from gpt2_lightning.json_text import loads

FORMAT = 1
"""Incremented when older versions cannot read what this one writes."""

ItemRecord = Mapping[str, Any]
"""What a benchmark found for one item: plain values for a line of JSON, with the item's `id`.

In all benchmarks, `cut` is the number of tokens that did not fit into the context, and `document` the document of which
the item is a part.
"""


@dataclass(frozen=True)
class Header:
    """What the records of a benchmark depend on, as plain values."""

    benchmark: str
    """Name of the benchmark."""
    settings: Mapping[str, Any]
    """Settings of the benchmark."""
    data: str
    """SHA-256 of the data."""
    weights: str
    """SHA-256 of the model's weights."""
    tokenizer: str
    """SHA-256 of the tokenizer."""
    dtype: str
    """Data type of the computation."""

    def differences(self, now: Header) -> list[str]:
        """Describe the values in which `now` differs, one line each."""
        before, after = (dict(_flat(json.loads(_line(dataclasses.asdict(header))))) for header in (self, now))
        return [
            f"{key}: {_value(before, key)} there, {_value(after, key)} now"
            for key in {**before, **after}
            if before.get(key) != after.get(key)
        ]


class ItemLog:
    """Records of an evaluation; see `open_log`."""

    def __init__(self, path: Path, header: Header, file: BinaryIO | None, records: list[ItemRecord]) -> None:
        self._path, self._header, self._file = path, header, file
        self.records = records
        """Records of the items that are done, in the order of the benchmark."""

    def append(self, records: Sequence[ItemRecord]) -> None:
        """Append the records of the next chunk of items, and wait until they are on the disk.

        After a kill, the file has the whole chunk or nothing of it. Log-likelihoods differ in their last digits with
        the other items of a batch; whole chunks let an evaluation that continues form the same batches.

        Raises:
            UserError: if the file cannot be written; earlier chunks are kept.
        """
        assert self._file is not None, "the evaluation is finished"
        line, size = _line(list(records)), self._file.seek(0, os.SEEK_END)
        try:
            _write(self._file, line)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(size)
            raise UserError(
                f"{partial_path(self._path)} cannot be written: {error.strerror}; free or change the folder, and "
                f"repeat the command, which has {len(self.records):,} items done"
            ) from None
        self.records += json.loads(line)

    def finish(self) -> list[ItemRecord]:
        """Replace the partial file by the finished one.

        Returns:
            The records of all items, equal whether or not the evaluation was interrupted.

        Raises:
            UserError: if the file cannot be written; the partial one is kept.
        """
        if self._file is not None:
            try:
                with atomic.open_binary(self._path) as file:
                    file.writelines(_line(entry) for entry in (_header_entry(self._header), *self.records))
            except OSError as error:
                raise _unwritable(self._path, error) from None
            partial_path(self._path).unlink(missing_ok=True)
        return self.records


@contextlib.contextmanager
def open_log(path: Path, header: Header, n_items: int) -> Iterator[ItemLog]:
    """Open the log of a benchmark, with the records of an interrupted or finished evaluation with the same header.

    A finished file with another header is replaced at the end. A line that was cut off by a kill or a full disk is
    dropped. A partial file without records is removed, as are folders created for it.

    Args:
        path: the finished file, `NAME.jsonl`; its folder is created if necessary.
        header: what the records depend on.
        n_items: number of items of the benchmark. A finished file with fewer is replaced as well.

    Raises:
        UserError: if the partial file has another header or another process writes it, if a file is of a later version,
            or if it cannot be written.
    """
    partial = partial_path(path)
    if path.is_file():
        there, records, _ = _read(path)
        if there is not None and not there.differences(header) and len(records) == n_items:
            partial.unlink(missing_ok=True)
            yield ItemLog(path, header, None, records)
            return
    created = [folder for folder in path.parents if not folder.exists()]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = partial.open("ab+", buffering=0)
    except OSError as error:
        raise _unwritable(partial, error) from None
    with file:
        _lock(file, partial)
        log = ItemLog(path, header, file, _resume(file, partial, header))
        try:
            yield log
        finally:
            if not log.records:
                partial.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # a folder with something in it stays, and those above
                    for folder in created:
                        folder.rmdir()


def read_log(path: Path) -> tuple[Header, list[ItemRecord]]:
    """Read a finished file.

    Raises:
        UserError: if it is missing, damaged, or of a later version.
    """
    if not path.is_file():
        unfinished = ", and its evaluation was interrupted" if partial_path(path).is_file() else ""
        raise UserError(f"there is no {path}{unfinished}; evaluate the checkpoint on this benchmark first")
    header, records, size = _read(path)
    if header is None or size < path.stat().st_size:
        raise UserError(f"{path} is damaged after {len(records):,} items; remove it and evaluate the checkpoint again")
    return header, records


def partial_path(path: Path) -> Path:
    """Path of the records of an evaluation in progress, by that of the finished file."""
    return path.with_name(f"{path.stem}.partial{path.suffix}")


def _resume(file: BinaryIO, partial: Path, header: Header) -> list[ItemRecord]:
    """Drop what was cut off, and return the records; write the header of a new file."""
    there, chunks, size = _read(partial)
    if there is not None and (differences := there.differences(header)):
        what = (
            f"{partial} is of an interrupted evaluation that differs; repeat it with its settings to complete it, "
            "remove the file to discard it, or set output to another folder"
        )
        raise UserError("\n  ".join([what, *differences]))
    try:
        file.truncate(size)
        if there is None:
            _write(file, _line(_header_entry(header)))
    except OSError as error:
        raise _unwritable(partial, error) from None
    return [record for chunk in chunks for record in chunk]


def _read(path: Path) -> tuple[Header | None, list[Any], int]:
    """Read the header and the entries up to the first that is cut off or damaged, and their size in bytes.

    Raises:
        UserError: if the file cannot be read or is of a later version.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    header, entries, size = None, [], 0
    for line in content.split(b"\n")[:-1]:
        try:
            entry = loads(line.decode())
            if header is None:
                if entry["format"] > FORMAT:
                    raise UserError(
                        f"{path} has format {shortened(entry['format'])}, this version reads up to {FORMAT}; upgrade, "
                        "or remove the file"
                    )
                header = Header(**{key: value for key, value in entry.items() if key != "format"})
            else:
                for record in entry if isinstance(entry, list) else [entry]:
                    hash(record["id"])
                entries.append(entry)
        except (ValueError, TypeError, KeyError):
            break
        size += len(line) + 1
    return header, entries, size


def _header_entry(header: Header) -> dict[str, Any]:
    return {"format": FORMAT, **dataclasses.asdict(header)}


def _line(entry: Any) -> bytes:
    """Return a line of JSON. Half a surrogate pair, which UTF-8 does not have, is escaped."""
    return (json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n").encode(errors="backslashreplace")


def _write(file: BinaryIO, content: bytes) -> None:
    while content:
        content = content[file.write(content) :]
    os.fsync(file.fileno())


def _lock(file: BinaryIO, path: Path) -> None:
    """Lock an open file until it is closed, on systems that can."""
    if os.name != "posix":
        return
    import fcntl

    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise UserError(
            f"{path} is being written by another process; wait until it has ended, or set output to another folder"
        ) from None
    except OSError:
        pass  # a file system without locks


def _unwritable(path: Path, error: OSError) -> UserError:
    return UserError(f"{path} cannot be written: {error.strerror}; free or change the folder")


def _flat(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Flatten mappings to dotted keys."""
    if isinstance(value, dict):
        for name, child in value.items():
            yield from _flat(child, f"{key}.{name}".lstrip("."))
    else:
        yield key, value


def _value(values: Mapping[str, Any], key: str) -> str:
    return shortened(values[key], 80) if key in values else "nothing"
