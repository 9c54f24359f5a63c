"""Rows of JSON Lines files."""

from __future__ import annotations

import codecs
import json

from gpt2_lightning.data.corpora.text_files import Errors
from gpt2_lightning.data.corpus import BadRow

_KINDS = {
    bool: "a truth value",
    int: "a number",
    float: "a number",
    str: "a text",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
"""JSON names of Python types."""


def text_of_row(line: bytes, field: str, errors: Errors, where: str) -> str | BadRow:
    """Return the text of a field of a row, or the reason why the row is bad."""
    try:
        row = json.loads(line.removeprefix(codecs.BOM_UTF8).decode("utf-8", errors=errors))
    except UnicodeDecodeError as error:
        return BadRow(where, f"not UTF-8: byte 0x{line[error.start]:02x} at byte {error.start} of the row")
    except ValueError as error:
        return BadRow(where, f"no JSON: {error}")
    except RecursionError:
        return BadRow(where, "JSON nested too deep")
    if not isinstance(row, dict):
        return BadRow(where, f"{_KINDS.get(type(row), 'a value')} and not an object with fields")
    if field not in row:
        return BadRow(where, f"no field '{field}'; it has {', '.join(map(str, row)) or 'none'}")
    if not isinstance(row[field], str):
        return BadRow(where, f"the field '{field}' is {_KINDS.get(type(row[field]), 'a value')} and not text")
    return row[field].replace("\r\n", "\n")
