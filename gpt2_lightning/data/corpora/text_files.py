"""Text and lines of files, in chunks of bounded size whose boundaries change no token."""

from __future__ import annotations

import codecs
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import regex

from gpt2_lightning.data.corpora.byte_streams import MAX_RATIO, blocks, open_bytes
from gpt2_lightning.errors import UserError

Errors = Literal["strict", "replace"]
_BLOCK = 2**20
_BYTE_ORDER_MARK = "\ufeff"
_LONGEST_UNCUT = 2**27
"""Characters or bytes that are encoded at once, which takes up to 30 bytes of memory for each."""
_LONGEST_WORD = 2**10
"""Bytes within which the end of a word is sought."""
_CUT = regex.compile(r"(?r)(?<=\S)[ \n]")
_NEXT_CUT = regex.compile(r"(?<=\S)[ \n]")
_CUT_IN_BYTES = regex.compile(rb"(?<=[!-~]|[\xe3-\xef][\x80-\xbf][\x81-\xbf])[ \n]")
"""A cut that is visible in bytes: after a visible ASCII character, or a non-space character of three bytes."""


def next_cut(file: Path, offset: int, stop: int) -> int:
    """Return the first offset, from `offset` on, where cutting the text changes no token; `stop` if there is none."""
    with open_bytes(file) as content:
        while offset < stop:
            content.seek(max(0, offset - 3))
            window = content.read(_BLOCK)
            found = _CUT_IN_BYTES.search(window, min(offset, 3))
            if found:
                return min(stop, max(0, offset - 3) + found.start())
            offset += max(1, len(window) - 3)
    return stop


def word_end(file: Path, offset: int, stop: int) -> int:
    """Return the first cut from an offset on, as `next_cut`; the offset itself if none is near."""
    near = min(stop, offset + _LONGEST_WORD)
    cut = next_cut(file, offset, near)
    return offset if cut == near else cut


def character_start(file: Path, offset: int) -> int:
    """Return the offset of the first byte of the character at an offset."""
    with open_bytes(file) as content:
        content.seek(max(0, offset - 3))
        window = content.read(4)
    back = min(offset, 3)
    while back > 0 and window[back] & 0xC0 == 0x80:
        back -= 1
    return offset - min(offset, 3) + back


def read_text(file: Path, start: int, stop: int | None, errors: Errors, max_ratio: int = MAX_RATIO) -> Iterator[str]:
    """Yield the text between two byte offsets in chunks of about a million characters, cut where no token changes.

    A byte-order mark is removed, and `\\r\\n` is replaced by `\\n`.

    Raises:
        UserError: with the byte offset, if the content is not UTF-8 or is binary; if a chunk has no place to cut; or
            if the content exceeds the ratio, see `blocks`.
    """
    parts = _decoded(file, start, stop, errors, max_ratio)
    if start == 0:
        parts = itertools.chain([next(parts, "").removeprefix(_BYTE_ORDER_MARK)], parts)
    begun: list[str] = []  # parts without a place to cut
    size, last = 0, ""
    for part in parts:
        window = last + part  # a cut depends on the character before it
        if size + len(part) >= _BLOCK and (cut := _CUT.search(window)):
            begun.append(part[: cut.start() - len(last)])
            yield "".join(begun).replace("\r\n", "\n")
            begun, size = [], 0
            part = part[cut.start() - len(last) :]
        begun.append(part)
        size += len(part)
        last = window[-1:]
        if size > _LONGEST_UNCUT:
            raise UserError(
                f"{file} has {size:,} characters without a space or line feed, more than this program "
                "takes at once; divide them into lines"
            )
    if size:
        yield "".join(begun).replace("\r\n", "\n")


def divided(text: str) -> Iterator[str]:
    """Yield a text in chunks of about a million characters, cut where no token changes."""
    start = 0
    while len(text) - start > _BLOCK and (cut := _NEXT_CUT.search(text, start + _BLOCK)):
        yield text[start : cut.start()]
        start = cut.start()
    yield text[start:]


def read_lines(file: Path, start: int, stop: int | None, max_ratio: int = MAX_RATIO) -> Iterator[bytes]:
    """Yield the lines between two byte offsets.

    Raises:
        UserError: if the file cannot be read, a line exceeds the maximum length, or the content exceeds the ratio, see
            `blocks`.
    """
    begun: list[bytes] = []  # chunks of an incomplete line
    for block in blocks(file, start, stop, _BLOCK, max_ratio):
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


def _decoded(file: Path, start: int, stop: int | None, errors: Errors, max_ratio: int) -> Iterator[str]:
    rest, offset = b"", start
    for block in blocks(file, start, stop, _BLOCK, max_ratio):
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
        "name a text file, or set data.errors=replace, which reads it as U+FFFD"
    )


def _not_utf8(file: Path, content: bytes, error: UnicodeDecodeError, offset: int) -> UserError:
    return UserError(
        f"{file} is not UTF-8: byte 0x{content[error.start]:02x} at byte offset {offset + error.start} "
        f"({error.reason}); {_advice(content, offset)}, or set data.errors=replace, which reads such bytes as U+FFFD"
    )


def _advice(content: bytes, offset: int) -> str:
    if offset == 0 and content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "it begins as UTF-16 does: convert it with iconv -f utf-16 -t utf-8"
    if b"\0" in content:
        return "it looks binary: name a text file"
    return "convert it, for example with iconv -f latin1 -t utf-8"
