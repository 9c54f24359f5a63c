"""Token files read as one sequence."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from gpt2_lightning.errors import UserError

_MOST_OPEN = 64
"""Maximum number of open files: a corpus may have hundreds, and some systems limit a process to 256."""


class TokenSequence:
    """Concatenation of the ids of several files.

    Windows are read from the files by position, so that memory use does not grow with the corpus. With a memory map,
    the pages would count as memory of the process, and the kernel would read 128 KiB around each of them. Several
    threads may read.

    Args:
        files: path, bytes before the first id, and number of ids of each file.
        dtype: dtype of the ids.
    """

    def __init__(self, files: list[tuple[Path, int, int]], dtype: np.dtype[Any]) -> None:
        self.files = [(path, offset) for path, offset, _ in files]
        self.dtype = dtype
        self._ends = np.cumsum([count for _, _, count in files], dtype=np.int64)  # end of each file in the sequence
        self._open: dict[int, BinaryIO] = {}
        self._lock = threading.Lock()  # a thread must not close a file that another one reads

    def __len__(self) -> int:
        return int(self._ends[-1]) if self._ends.size else 0

    def read(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """Return the windows of `length` ids from each start, (number of starts, length)."""
        windows = np.empty((starts.size, length), dtype=self.dtype)
        with self._lock:
            for window, start in zip(windows, starts.tolist(), strict=True):
                self._fill(window, start)
        return windows.astype(np.int64)

    def slice(self, start: int, stop: int) -> NDArray[np.int64]:
        """Return the ids from start (inclusive) to stop (exclusive)."""
        return self.read(np.array([start]), stop - start)[0]

    def _fill(self, window: NDArray[Any], start: int) -> None:
        """Read one window, which may span several files."""
        place = int(np.searchsorted(self._ends, start, side="right"))
        filled = 0
        while filled < window.size:
            before = int(self._ends[place - 1]) if place else 0
            count = min(window.size - filled, int(self._ends[place]) - start - filled)
            offset = self.files[place][1] + (start + filled - before) * self.dtype.itemsize
            read = _read_at(self._file(place), offset, window[filled : filled + count].view(np.uint8).data)
            if read != count * self.dtype.itemsize:
                raise UserError(f"the token file {self.files[place][0]} became shorter while it was read; restore it")
            filled += count
            place += 1

    def _file(self, place: int) -> BinaryIO:
        if place not in self._open:
            if len(self._open) == _MOST_OPEN:
                self._open.pop(next(iter(self._open))).close()
            self._open[place] = self.files[place][0].open("rb", buffering=0)
        return self._open[place]

    def __del__(self) -> None:
        for file in self._open.values():
            file.close()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_open": {}, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())


class InMemorySequence(TokenSequence):
    """Sequence of ids in memory.

    Args:
        ids: token ids, (N,).
    """

    def __init__(self, ids: NDArray[Any]) -> None:
        super().__init__([], ids.dtype)
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def read(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        return self.ids[starts[:, None] + np.arange(length)].astype(np.int64)


def _read_at(file: BinaryIO, offset: int, buffer: memoryview) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [buffer], offset)
    file.seek(offset)
    return file.readinto(buffer) or 0  # type: ignore[attr-defined]
