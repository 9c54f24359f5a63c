"""Type checks of settings, by pydantic."""

from __future__ import annotations

import json
import math
import re
import shlex
import types
import typing
from typing import Any


def type_faults(hint: Any, value: Any, path: str) -> list[str]:
    """Check the type of a value in pydantic's strict mode for JSON: no string for a number, no boolean for an integer.

    Args:
        hint: the annotation. Its constraints are checked by `gpt2_lightning.settings.range_faults`.
        value: plain containers, numbers and strings.
        path: key of the setting, which begins each message.

    Returns:
        A message for each fault.
    """
    import pydantic

    if (number := _unusable_number(value)) is not None:
        return [f"{path}: {number} is out of range, a finite number or an integer below 2**63 is allowed"]
    config = pydantic.ConfigDict(arbitrary_types_allowed=True)
    adapter = pydantic.TypeAdapter(_without_constraints(hint), config=config)
    try:
        adapter.validate_json(json.dumps(value, ensure_ascii=False).encode(), strict=True)
        return []
    except UnicodeEncodeError:
        return [f"{path}: {value!r} holds bytes that are no text in UTF-8; check how the terminal or file encodes it"]
    except pydantic.ValidationError as error:
        details = error.errors(include_url=False)
        reasons = dict.fromkeys(_reason(detail["type"], detail["msg"]) for detail in details)
        is_bare = isinstance(value, str | int | float) and any(detail["type"] == "list_type" for detail in details)
        remedy = f"; write {_as_list(path, value)}" if is_bare else ""
        return [f"{path}: {value!r} does not fit; it must be {' or '.join(reasons)}{remedy}"]


def _unusable_number(value: Any) -> float | None:
    """Return a number that is not finite or exceeds 64 bits, at any depth of containers; None if all are usable."""
    if isinstance(value, dict | list):
        members = value.values() if isinstance(value, dict) else value
        return next((number for number in map(_unusable_number, members) if number is not None), None)
    is_unusable = (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, int) and not -(2**63) <= value < 2**63
    )
    return value if is_unusable else None


def _without_constraints(hint: Any) -> Any:
    """Return an annotation without constraints."""
    return typing.get_type_hints(types.SimpleNamespace(__annotations__={"value": hint}))["value"]


def _reason(kind: str, message: str) -> str:
    return "a list" if kind in ("list_type", "tuple_type") else message.removeprefix("Input should be ")


def _as_list(path: str, value: float | str) -> str:
    """Format an override that sets a key to a list with one element, quoted for a shell."""
    is_word = re.fullmatch(r"[\w./-]+", str(value))
    return f"{path}=[{value}]" if is_word else shlex.quote(f"{path}=[{json.dumps(value, ensure_ascii=False)}]")
