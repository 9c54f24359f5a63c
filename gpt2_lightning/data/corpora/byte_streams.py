"""The bytes of files, decompressed where their names say so."""

from __future__ import annotations

import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from gpt2_lightning.data.corpora.find_files import is_compressed
from gpt2_lightning.errors import UserError

BLOCK = 2**20
"""Bytes that are read at once."""
_COMPRESSED_BLOCK = 2**14
_LARGEST_WINDOW = 2**31
"""Of Zstandard, as `zstd --long=31` makes it."""


def open_bytes(file: Path) -> BinaryIO:
    """A file's content, decompressed.

    Raises:
        UserError: if it cannot be opened.
    """
    try:
        if file.suffix == ".gz":
            return cast(BinaryIO, gzip.open(file))
        content = file.open("rb")
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}; check its permissions") from None
    return cast(BinaryIO, _ZstandardReader(content)) if file.suffix == ".zst" else content


class _ZstandardReader(io.RawIOBase):
    """The content of a Zstandard file. The library's own reader takes a file that was cut off for a whole one."""

    def __init__(self, compressed: BinaryIO) -> None:
        self._compressed, self._blocks = compressed, _decompressed(compressed)
        self._ahead = bytearray()
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while len(self._ahead) < len(buffer) and (more := next(self._blocks, b"")):
            self._ahead += more
        count = min(len(buffer), len(self._ahead))
        buffer[:count] = self._ahead[:count]
        del self._ahead[:count]
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go on to an offset from the start."""
        while self._position < offset and self.read(min(BLOCK, offset - self._position)):
            pass
        return self._position

    def close(self) -> None:
        self._compressed.close()
        super().close()


def _decompressed(compressed: BinaryIO) -> Iterator[bytes]:
    """The content of all frames of a Zstandard file, in parts that are never empty."""
    import zstandard

    frame = None
    while block := compressed.read(_COMPRESSED_BLOCK):
        while block:
            frame = frame or zstandard.ZstdDecompressor(max_window_size=_LARGEST_WINDOW).decompressobj()
            if content := frame.decompress(block):
                yield content
            block = frame.unused_data
            frame = None if frame.eof else frame
    if frame is not None:
        raise EOFError("it ends in the middle")


def content_bytes(file: Path) -> int:
    """Length of a file's content; a compressed one is read for that."""
    return sum(len(block) for block in blocks(file, 0, None, BLOCK)) if is_compressed(file) else file.stat().st_size


def blocks(file: Path, start: int, stop: int | None, size: int) -> Iterator[bytes]:
    """The bytes between two offsets.

    Args:
        file: compressed ones are decompressed.
        start: offset in the content.
        stop: offset behind the last byte; None for all.
        size: of a block, at most.

    Raises:
        UserError: if the file cannot be read.
    """
    left = None if stop is None else stop - start
    with open_bytes(file) as content:
        if start:
            content.seek(start)
        while left is None or left > 0:
            try:
                block = content.read(size if left is None else min(size, left))
            except Exception as error:  # gzip and zstandard raise exceptions of their own
                raise UserError(f"{file} cannot be read: {error}; copy or download it again") from None
            if not block:
                return
            left = None if left is None else left - len(block)
            yield block
