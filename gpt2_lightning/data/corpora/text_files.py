"""Files of text: finding them, and reading them in stretches of bounded size."""

from __future__ import annotations

import codecs
import gzip
import io
import json
from collections.abc import Iterator
from glob import glob
from importlib import resources
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import regex

from gpt2_lightning.data.corpus import BadRow
from gpt2_lightning.errors import UserError

Errors = Literal["strict", "replace"]
COMPRESSED = (".gz", ".zst")
ROWS = (".jsonl", ".ndjson")
EMBEDDED = "embedded:"
_TEXT = (".txt", *ROWS)
_BYTE_ORDER_MARK = "\ufeff"
_BLOCK = 2**20
_KINDS = {
    bool: "a truth value",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
"""What JSON calls Python's types."""
_PACKED_BLOCK = 2**14
_LARGEST_WINDOW = 2**31
"""Of Zstandard, as `zstd --long=31` makes it."""
_LONGEST_UNCUT = 2**28
_CUT = regex.compile(r"(?r)(?<=\S)[ \n]")
_CUT_IN_BYTES = regex.compile(rb"(?<=[!-~]|[\xe3-\xef][\x80-\xbf][\x81-\xbf])[ \n]")
"""A cut that shows in bytes alone: after a visible ASCII character, or one of three bytes that is no white space."""


def find(path: str, setting: str) -> list[Path]:
    """The files that a path means, in the order of their names.

    Args:
        path: a file; a folder, of which the `.txt` and `.jsonl` files are taken, also compressed and in folders inside;
            a pattern such as `books/**/*.txt`; or `embedded:NAME`, a folder of this package.
        setting: the setting's name, for messages.

    Raises:
        UserError: if there are none.
    """
    if path.startswith(EMBEDDED):
        folder = Path(str(resources.files("gpt2_lightning.data") / path.removeprefix(EMBEDDED)))
        if not folder.is_dir():
            raise UserError(f"{setting}: there is no {path} in the package; name a file, or a folder of .txt files")
        return _inside(folder, path, setting)
    place = Path(path).expanduser()
    if place.is_dir():
        return _inside(place, path, setting)
    if place.is_file():
        return [place]
    if any(sign in path for sign in "*?["):
        names = glob(str(place), recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern
        found = sorted(file for file in map(Path, names) if file.is_file())
        if not found:
            raise UserError(f"{setting}: no file fits the pattern {place.absolute()}; check it")
        return found
    raise UserError(f"{setting}: there is no file or folder {place.absolute()}; check the path")


def _inside(folder: Path, name: str, setting: str) -> list[Path]:
    endings = tuple(kind + compression for kind in _TEXT for compression in ("", *COMPRESSED))
    files = sorted(f for f in folder.rglob("*") if f.name.endswith(endings) and f.is_file() and f.name[0] != ".")
    if not files:
        raise UserError(
            f"{setting}: the folder {name} holds no .txt or .jsonl files; name a file, such a folder, or a pattern"
        )
    return files


def is_compressed(file: Path) -> bool:
    return file.suffix in COMPRESSED


def holds_rows(file: Path) -> bool:
    """Whether each line is a JSON object."""
    return (Path(file.stem) if is_compressed(file) else file).suffix in ROWS


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
    return cast(BinaryIO, _Unpacked(content)) if file.suffix == ".zst" else content


class _Unpacked(io.RawIOBase):
    """The content of a Zstandard file. The library's own reader takes a file that was cut off for a whole one."""

    def __init__(self, packed: BinaryIO) -> None:
        self._packed, self._content = packed, _unpacked(packed)
        self._ahead = bytearray()
        self._position = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while len(self._ahead) < len(buffer) and (more := next(self._content, b"")):
            self._ahead += more
        count = min(len(buffer), len(self._ahead))
        buffer[:count] = self._ahead[:count]
        del self._ahead[:count]
        self._position += count
        return count

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go on to an offset from the start."""
        while self._position < offset and self.read(min(_BLOCK, offset - self._position)):
            pass
        return self._position

    def close(self) -> None:
        self._packed.close()
        super().close()


def _unpacked(packed: BinaryIO) -> Iterator[bytes]:
    """The content of all frames of a Zstandard file, in parts that are never empty."""
    import zstandard

    frame = None
    while block := packed.read(_PACKED_BLOCK):
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
    return sum(len(block) for block in _blocks(file, 0, None)) if is_compressed(file) else file.stat().st_size


def next_cut(file: Path, offset: int, stop: int) -> int:
    """The first place from an offset on where cutting the text changes no token; `stop` where there is none before."""
    with open_bytes(file) as content:
        while offset < stop:
            content.seek(max(0, offset - 3))
            window = content.read(_BLOCK)
            found = _CUT_IN_BYTES.search(window, min(offset, 3))
            if found:
                return min(stop, max(0, offset - 3) + found.start())
            offset += max(1, len(window) - 3)
    return stop


def character_start(file: Path, offset: int) -> int:
    """The start of the character that the byte at an offset belongs to."""
    with open_bytes(file) as content:
        content.seek(max(0, offset - 3))
        window = content.read(4)
    back = min(offset, 3)
    while back > 0 and window[back] & 0xC0 == 0x80:
        back -= 1
    return offset - min(offset, 3) + back


def read_text(file: Path, start: int, stop: int | None, errors: Errors) -> Iterator[str]:
    """The text between two byte offsets, in stretches of about a million characters that meet where they may be cut.

    A byte-order mark is dropped, and the line ends of Windows become those of everyone else.

    Raises:
        UserError: with the byte offset, if it is not UTF-8 or is binary; also if it has no place to cut for too long.
    """
    text, may_be_marked = "", start == 0
    for part in _decoded(file, start, stop, errors):
        text += part.removeprefix(_BYTE_ORDER_MARK) if may_be_marked else part
        may_be_marked = False
        if len(text) < _BLOCK:
            continue
        if cut := _CUT.search(text):
            yield text[: cut.start()].replace("\r\n", "\n")
            text = text[cut.start() :]
        elif len(text) > _LONGEST_UNCUT:
            raise UserError(
                f"{file} has {len(text):,} characters without a space or line feed, more than this program "
                "takes at once; divide them into lines"
            )
    if text:
        yield text.replace("\r\n", "\n")


def read_lines(file: Path, start: int, stop: int | None) -> Iterator[bytes]:
    """The lines between two byte offsets.

    Raises:
        UserError: if the file cannot be read, or a line is longer than this program takes at once.
    """
    begun: list[bytes] = []  # parts of a line
    for block in _blocks(file, start, stop):
        end, *lines = block.split(b"\n")
        begun.append(end)
        if lines:
            yield b"".join(begun)
            yield from lines[:-1]
            begun = lines[-1:]
        elif sum(map(len, begun)) > _LONGEST_UNCUT:
            raise UserError(
                f"{file} has a line of more than {_LONGEST_UNCUT:,} bytes, more than this program takes at "
                "once; a row of a .jsonl file is a line"
            )
    if any(begun):
        yield b"".join(begun)


def text_of_row(line: bytes, field: str, errors: Errors, where: str) -> str | BadRow:
    """The text in one field of a JSON object."""
    try:
        row = json.loads(line.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors=errors))
    except UnicodeDecodeError as error:
        return BadRow(where, f"not UTF-8: byte 0x{line[error.start]:02x} at byte {error.start} of the row")
    except (ValueError, RecursionError) as error:
        return BadRow(where, f"no JSON: {error}")
    if not isinstance(row, dict):
        return BadRow(where, f"{_KINDS.get(type(row), 'a value')} and not an object with fields")
    if field not in row:
        return BadRow(where, f"no field '{field}'; it has {', '.join(map(str, row)) or 'none'}")
    if not isinstance(row[field], str):
        return BadRow(where, f"the field '{field}' is {_KINDS.get(type(row[field]), 'a value')} and not text")
    return row[field].replace("\r\n", "\n")


def _decoded(file: Path, start: int, stop: int | None, errors: Errors) -> Iterator[str]:
    rest, offset = b"", start
    for block in _blocks(file, start, stop):
        content = rest + block
        try:
            text, used = codecs.utf_8_decode(content, errors, False)
        except UnicodeDecodeError as error:
            raise _not_utf8(file, content, error, offset) from None
        yield _without_nul(text, file, content, offset, errors)
        rest, offset = content[used:], offset + used
    if rest:
        try:
            yield rest.decode("utf-8", errors)
        except UnicodeDecodeError as error:
            raise _not_utf8(file, rest, error, offset) from None


def _without_nul(text: str, file: Path, content: bytes, offset: int, errors: Errors) -> str:
    if "\0" not in text:
        return text
    if errors == "replace":
        return text.replace("\0", "\ufffd")
    raise UserError(
        f"{file} is binary: there is a zero byte at byte offset {offset + content.index(0)}; "
        "name a text file, or set data.errors=replace"
    )


def _not_utf8(file: Path, content: bytes, error: UnicodeDecodeError, offset: int) -> UserError:
    return UserError(
        f"{file} is not UTF-8: byte 0x{content[error.start]:02x} at byte offset {offset + error.start} "
        f"({error.reason}); {_advice(content, offset)}, or set data.errors=replace"
    )


def _advice(content: bytes, offset: int) -> str:
    if offset == 0 and content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "it begins as UTF-16 does: convert it with iconv -f utf-16 -t utf-8"
    if b"\0" in content:
        return "it looks binary: name a text file"
    return "convert it, for example with iconv -f latin1 -t utf-8"


def _blocks(file: Path, start: int, stop: int | None) -> Iterator[bytes]:
    left = None if stop is None else stop - start
    with open_bytes(file) as content:
        if start:
            content.seek(start)
        while left is None or left > 0:
            try:
                block = content.read(_BLOCK if left is None else min(_BLOCK, left))
            except Exception as error:  # gzip and zstandard raise exceptions of their own
                raise UserError(f"{file} cannot be read: {error}; copy or download it again") from None
            if not block:
                return
            left = None if left is None else left - len(block)
            yield block
