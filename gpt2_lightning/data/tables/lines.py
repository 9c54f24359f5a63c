"""Lines of a text file, with the positions of bytes that are not UTF-8."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from gpt2_lightning.errors import UserError

LONGEST_LINE = 2**26
"""Length limit of a line in bytes."""
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class Lines:
    """Iterator over the lines of a UTF-8 file, without a byte-order mark.

    In a line that is not UTF-8, the invalid bytes are escaped and a fault is recorded, instead of raising an exception:
    a row may span several lines, and the row reader needs all of them to find the start of the next row.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.number = 0
        """Number of lines read."""
        self._fault: str | None = None

    def __iter__(self) -> Iterator[str]:
        offset = 0
        while raw := self.file.readline(LONGEST_LINE + 1):
            self.number += 1
            if len(raw) > LONGEST_LINE:
                raise UserError(
                    f"data.path: {self.file.name}, line {self.number} has more than {LONGEST_LINE:,} bytes; check the "
                    "file, or divide the line"
                )
            start, offset = offset, offset + len(raw)
            if start == 0 and raw.startswith(BYTE_ORDER_MARK):
                start, raw = len(BYTE_ORDER_MARK), raw.removeprefix(BYTE_ORDER_MARK)
            try:
                yield raw.decode()
            except UnicodeDecodeError as error:
                self._fault = self._fault or not_utf8(error, start)
                yield raw.decode(errors="surrogateescape")

    def take_fault(self) -> str | None:
        """Return and clear the first fault since the last call; None without a fault."""
        fault, self._fault = self._fault, None
        return fault


def not_utf8(error: UnicodeDecodeError, start: int) -> str:
    return (
        f"is not UTF-8: byte 0x{error.object[error.start]:02x} at byte offset {start + error.start} ({error.reason}); "
        "convert the file, for example with iconv -f latin1 -t utf-8"
    )
