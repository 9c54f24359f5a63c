"""Files of answers that grow by whole batches, so that a run that was killed goes on where it stood.

Beside `NAME.jsonl` lies `NAME.jsonl.settings.json`, which says what the answers were made with.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from gpt2_lightning.data.atomic import write_text
from gpt2_lightning.errors import UserError


@contextlib.contextmanager
def open_answers(path: Path, made_with: dict[str, Any]) -> Iterator[AnswerFile]:
    """A file of answers to go on with, new or not, which no other process writes meanwhile.

    Args:
        path: where it is, or is to be.
        made_with: plain values that decide what the answers are; all of them must be the same for a file to go on.

    Raises:
        UserError: if the file is there and was made with others or by something else, if another process has it open,
            or if it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab+", buffering=0)
    except OSError as error:
        raise UserError(f"output: {path} cannot be written: {error.strerror}") from None
    with file, _locked(path):
        settings = path.with_name(f"{path.name}.settings.json")
        if os.fstat(file.fileno()).st_size:
            _require_same(settings, path, made_with)
        else:
            write_text(settings, json.dumps(made_with, indent=2, ensure_ascii=False) + "\n")
        yield AnswerFile(path, file, hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:16])


class AnswerFile:
    """Rows that have their answers.

    Args:
        path: its name, for messages.
        file: opened for reading and appending, without a buffer.
        key: short for what the answers are made with; it stands in each row.
    """

    def __init__(self, path: Path, file: io.FileIO, key: str) -> None:
        self.path, self._file, self._key = path, file, key

    def rows(self) -> list[int]:
        """Numbers of the rows that are there, whole; a last line that was cut off is none of them.

        Raises:
            UserError: if a line before the last is damaged.
        """
        self._file.seek(0)
        *lines, _ = self._file.readall().split(b"\n")
        return [self._number(place, line) for place, line in enumerate(lines, start=1)]

    def keep(self, rows: int) -> None:
        """Drop all after the first so many rows."""
        self._file.seek(0)
        content = self._file.readall()
        kept = sum(len(line) + 1 for line in content.split(b"\n")[:rows])
        if kept < len(content):
            self._file.truncate(kept)

    def append(self, entries: Sequence[dict[str, Any]]) -> None:
        """Add rows, and wait until they are on the disk."""
        lines = [json.dumps({**entry, "settings": self._key}, ensure_ascii=False) + "\n" for entry in entries]
        content = "".join(lines).encode()
        while content:
            content = content[self._file.write(content) :]
        os.fsync(self._file.fileno())

    def _number(self, place: int, line: bytes) -> int:
        try:
            entry = json.loads(line)
            if entry["settings"] != self._key:
                raise KeyError
            return int(entry["row"])
        except (ValueError, KeyError, TypeError):
            raise UserError(
                f"output: line {place} of {self.path} is not what was written there; restore the file, or name another"
            ) from None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = path.with_name(f".{path.name}.lock")
    try:
        with FileLock(lock, timeout=0):
            yield
    except Timeout:
        raise UserError(f"output: {path} is being written by another process; wait, or name another") from None
    with contextlib.suppress(OSError):  # Windows keeps what is open
        lock.unlink()


def _require_same(settings: Path, path: Path, made_with: dict[str, Any]) -> None:
    try:
        there = json.loads(settings.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise UserError(
            f"output: {path} is there, and no {settings.name} says what it was made with; name another"
        ) from None
    differences = [
        f"{name}: {there.get(name)} there, {made_with.get(name)} now"
        for name in {**there, **made_with}
        if there.get(name) != made_with.get(name)
    ]
    if differences:
        remedy = "name another file, or the same settings"
        raise UserError(
            "\n  ".join([f"output: {path} was made with others than these settings; {remedy}", *differences])
        )
