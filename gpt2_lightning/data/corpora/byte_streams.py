"""Byte streams of files; `.gz` and `.zst` files are decompressed."""

from __future__ import annotations

import gzip
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

from gpt2_lightning.data.corpora.find_files import is_compressed
from gpt2_lightning.errors import UserError

BLOCK = 2**20
"""Bytes per read."""
MAX_RATIO = 200
"""Default maximum ratio of decompressed to compressed size; that of text is below 10, of repetitive logs below 100."""
_ALWAYS_READ = 2**28
"""Decompressed bytes that are read whatever their ratio."""
_COMPRESSED_BLOCK = 2**10
"""Compressed bytes per step, which limits the memory of a step: a byte may become 32 KiB."""
_LARGEST_WINDOW = 2**31
"""Maximum window size of Zstandard, that of `zstd --long=31`."""


def open_bytes(file: Path) -> BinaryIO:
    """Open a file for reading its decompressed content.

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
    """Reader of a Zstandard file that detects truncation, which the library's reader does not."""

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
        """Skip forward to an offset from the start."""
        while self._position < offset and self.read(min(BLOCK, offset - self._position)):
            pass
        return self._position

    def close(self) -> None:
        self._compressed.close()
        super().close()


def _decompressed(compressed: BinaryIO) -> Iterator[bytes]:
    """Yield the content of all frames of a Zstandard file in non-empty chunks."""
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


def content_bytes(file: Path, max_ratio: int = MAX_RATIO) -> int:
    """Return the length of a file's decompressed content in bytes; a compressed file is read in full.

    Raises:
        UserError: see `blocks`.
    """
    if not is_compressed(file):
        return file.stat().st_size
    return sum(len(block) for block in blocks(file, 0, None, BLOCK, max_ratio))


def blocks(file: Path, start: int, stop: int | None, size: int, max_ratio: int = MAX_RATIO) -> Iterator[bytes]:
    """Yield the bytes between two offsets in blocks.

    Args:
        file: plain or compressed file.
        start: offset in the decompressed content.
        stop: offset after the last byte; None for the end.
        size: maximum size of a block in bytes.
        max_ratio: maximum ratio of decompressed to compressed size, after the first 256 MiB.

    Raises:
        UserError: if the file cannot be read, or its content exceeds the ratio.
    """
    left = None if stop is None else stop - start
    done, most = start, _most_bytes(file, max_ratio)
    with open_bytes(file) as content:
        if start:
            content.seek(start)
        while left is None or left > 0:
            try:
                block = content.read(size if left is None else min(size, left))
            except Exception as error:  # gzip and zstandard define their own exceptions
                raise UserError(f"{file} cannot be read: {error}; copy or download it again") from None
            if not block:
                return
            left = None if left is None else left - len(block)
            done += len(block)
            if done > most:
                raise UserError(
                    f"{file} has more than {most:,} bytes when decompressed, over {max_ratio} times its size of "
                    f"{file.stat().st_size:,} bytes; if this is intended, raise data.max_ratio"
                )
            yield block


def _most_bytes(file: Path, max_ratio: int) -> float:
    if not is_compressed(file):
        return math.inf
    return max(_ALWAYS_READ, max_ratio * file.stat().st_size) if file.exists() else 0
