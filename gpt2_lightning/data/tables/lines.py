"""Lines of a text file, and where in it there is a byte that is no text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Lines:
    """The lines of a UTF-8 file as text; a byte-order mark is no part of the first.

    A line that is not UTF-8 comes with its faulty bytes escaped, and notes a fault: a row may have several lines, and
    the reader of rows needs all of them to find where the next row begins.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.number = 0
        """Lines read so far."""
        self._fault: str | None = None

    def __iter__(self) -> Iterator[str]:
        offset = 0
        for raw in self.file:
            self.number += 1
            start, offset = offset, offset + len(raw)
            if start == 0 and raw.startswith(BYTE_ORDER_MARK):
                start, raw = len(BYTE_ORDER_MARK), raw.removeprefix(BYTE_ORDER_MARK)
            try:
                yield raw.decode()
            except UnicodeDecodeError as error:
                self._fault = self._fault or not_utf8(error, start)
                yield raw.decode(errors="surrogateescape")

    def take_fault(self) -> str | None:
        """The first fault of the lines since the last call."""
        fault, self._fault = self._fault, None
        return fault


def not_utf8(error: UnicodeDecodeError, start: int) -> str:
    return (
        f"is not UTF-8: byte 0x{error.object[error.start]:02x} at byte offset {start + error.start} ({error.reason}); "
        "convert the file, for example with iconv -f latin1 -t utf-8"
    )
