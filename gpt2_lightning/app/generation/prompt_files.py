"""Files of prompts: one per line, or JSONL."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gpt2_lightning.errors import UserError

RESERVED = ("row", "answers", "settings", "error")
"""Fields of the output, which rows of the file must not have."""
_JSONL = (".jsonl", ".ndjson")
_MOST_BYTES = 2**28
"""Size limit of a file, which is read as a whole; a device may be endless."""


@dataclass(frozen=True)
class Row:
    """A non-blank line of the file."""

    number: int
    """Line number, from 1."""
    prompt: str = ""
    others: dict[str, Any] = field(default_factory=dict)
    """Fields of JSONL beside the prompt."""
    fault: str = ""
    """Error message for an invalid row, whose other fields have the values that could be read."""


def read_prompts(file: Path) -> tuple[list[Row], str]:
    """Read all rows of a file, good and bad, and the SHA-256 of its content.

    Args:
        file: JSONL with the field `prompt` if its suffix is .jsonl or .ndjson; otherwise one prompt per line.

    Raises:
        UserError: if it cannot be read, or has no row.
    """
    try:
        with file.open("rb") as opened:  # pipes included
            content = opened.read(_MOST_BYTES + 1)
    except OSError as error:
        raise UserError(f"prompts: {file} cannot be read: {error.strerror}") from None
    if len(content) > _MOST_BYTES:
        raise UserError(f"prompts: {file} has more than {_MOST_BYTES:,} bytes; divide it into several files")
    read = _json_row if file.suffix.lower() in _JSONL else _text_row
    rows = [_row(number, line, read) for number, line in _lines(content)]
    if not rows:
        raise UserError(f"prompts: {file} holds no prompt, all of its lines are blank")
    return rows, hashlib.sha256(content).hexdigest()


def _lines(content: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if line.strip():
            yield number, line.removesuffix(b"\r")


def _row(number: int, line: bytes, read: Any) -> Row:
    try:
        return read(number, line.decode())
    except UnicodeDecodeError as error:
        return Row(number, fault=f"is no text in UTF-8, at byte {error.start}")


def _text_row(number: int, line: str) -> Row:
    return Row(number, line)


def _json_row(number: int, line: str) -> Row:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Row(number, fault=f"is no JSON: {error}")
    if not isinstance(fields, dict):
        return Row(number, fault=f'is no JSON object, as in {{"prompt": "…"}}: {line[:40]}')
    try:
        json.dumps(fields, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return Row(number, fault="holds half of a surrogate pair, which is no character")
    taken = [name for name in RESERVED if name in fields]
    others = {name: value for name, value in fields.items() if name not in RESERVED}
    if not isinstance(fields.get("prompt"), str):
        found = f"of type {type(fields['prompt']).__name__}" if "prompt" in fields else "missing"
        return Row(number, others=others, fault=f"the field prompt is {found}, it must be a text")
    prompt = others.pop("prompt")
    fault = f"has the field {taken[0]}, which the output uses itself; rename it" if taken else ""
    return Row(number, prompt, others, fault)
