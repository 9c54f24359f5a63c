"""Files of answers, written batch by batch, so that an interrupted run can continue.

`NAME.jsonl.settings.json` beside `NAME.jsonl` records the settings of the answers.
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

from gpt2_lightning.atomic import write_text
from gpt2_lightning.errors import UserError


@contextlib.contextmanager
def open_answers(path: Path, locks: Path) -> Iterator[AnswerFile]:
    """Open a file of answers, new or not, with a lock against other processes.

    Args:
        path: the file; a new one is removed if it gets no rows.
        locks: folder of the lock file, which is kept.

    Raises:
        UserError: if another process has it open, or it cannot be written.
    """
    if path.exists() and not path.is_file():
        raise UserError(f"output: {path} is a folder, a device or a pipe; name a file")
    with _locked(path, locks):
        was_there = path.exists()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = path.open("ab+", buffering=0)
        except OSError as error:
            raise UserError(f"output: {path} cannot be written: {error.strerror}") from None
        try:
            with file:
                yield AnswerFile(path, file)
        finally:
            if not was_there and path.exists() and not path.stat().st_size:
                path.unlink()
                _settings(path).unlink(missing_ok=True)


class AnswerFile:
    """A file of rows with their answers.

    Args:
        path: path of the file.
        file: the file, opened for reading and appending, without a buffer.
    """

    def __init__(self, path: Path, file: io.FileIO) -> None:
        self.path, self._file = path, file
        self._key = ""
        """Hash of the settings, an entry of each row."""

    def require(self, made_with: dict[str, Any]) -> None:
        """Compare some of the settings with those of the file, before the rest is known.

        Raises:
            UserError: if the file has answers with other settings, or is not such a file.
        """
        there = self._made_with()
        if there is not None:
            _require_same({name: there.get(name) for name in made_with}, made_with, self.path)

    def begin(self, made_with: dict[str, Any]) -> None:
        """Record the settings of the answers.

        Args:
            made_with: plain values that determine the answers; to continue a file, all of them must be equal.

        Raises:
            UserError: see `require`.
        """
        there = self._made_with()
        if there is None:
            write_text(_settings(self.path), json.dumps(made_with, indent=2, ensure_ascii=False) + "\n")
        else:
            _require_same(there, made_with, self.path)
        self._key = hashlib.sha256(json.dumps(made_with, sort_keys=True).encode()).hexdigest()[:16]

    def rows(self) -> list[int]:
        """Return the numbers of the complete rows in the file, without a truncated last line.

        Raises:
            UserError: if a line before the last is damaged.
        """
        self._file.seek(0)
        *lines, _ = self._file.readall().split(b"\n")
        return [self._number(place, line) for place, line in enumerate(lines, start=1)]

    def keep(self, rows: int) -> None:
        """Truncate the file after a number of rows."""
        self._file.seek(0)
        content = self._file.readall()
        kept = sum(len(line) + 1 for line in content.split(b"\n")[:rows])
        if kept < len(content):
            self._file.truncate(kept)

    def append(self, entries: Sequence[dict[str, Any]]) -> None:
        """Append rows and flush them to disk."""
        lines = [json.dumps({**entry, "settings": self._key}, ensure_ascii=False) + "\n" for entry in entries]
        content = "".join(lines).encode()
        while content:
            content = content[self._file.write(content) :]
        os.fsync(self._file.fileno())

    def _made_with(self) -> dict[str, Any] | None:
        """Return the recorded settings; None for a file without answers."""
        if not os.fstat(self._file.fileno()).st_size:
            return None
        settings = _settings(self.path)
        try:
            there = json.loads(settings.read_text(encoding="utf-8"))
            if not isinstance(there, dict):
                raise ValueError
            return there
        except (OSError, ValueError):
            raise UserError(
                f"output: {self.path} is there, and no {settings.name} says what it was made with; name another"
            ) from None

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
def _locked(path: Path, locks: Path) -> Iterator[None]:
    """Lock a file against other processes.

    The lock is not beside the file, and is never removed, which would let two processes hold it.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(locks / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]}.lock")
    try:
        locks.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"output: {path} is being written by another process; wait, or name another") from None
    except OSError as error:
        raise UserError(f"cache_dir: {locks} cannot be written: {error.strerror}; set cache_dir") from None
    try:
        yield
    finally:
        lock.release()


def _settings(path: Path) -> Path:
    return path.with_name(f"{path.name}.settings.json")


def _require_same(there: dict[str, Any], made_with: dict[str, Any], path: Path) -> None:
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
