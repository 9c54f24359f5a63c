"""Parsing of JSON from files of others."""

from __future__ import annotations

import json
from typing import Any, NoReturn

DEEPEST = 100
"""Nesting of lists and objects that is read; configurations and tokenizers have fewer than ten levels."""


def loads(text: str) -> Any:
    """Parse JSON as RFC 8259 defines it: NaN and Infinity, which Python accepts, are no JSON.

    Raises:
        ValueError: if the text is not JSON, or is nested more than `DEEPEST` deep.
    """
    try:
        content = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    level = [content]
    for _ in range(DEEPEST):
        level = [inner for outer in level for inner in _items(outer) if isinstance(inner, dict | list)]
        if not level:
            return content
    raise ValueError("it is nested too deeply")


def _items(value: Any) -> Any:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
