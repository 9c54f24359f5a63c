"""Values of settings against annotations, and against what a class says of them."""

from __future__ import annotations

import inspect
import itertools
import json
import re
import shlex
import typing
from collections.abc import Callable, Mapping
from typing import Any

_PLAIN: tuple[Any, ...] = (None, 1, 60, False, True, "text", "other", [])
"""What a user might write for any setting but a group."""


def type_faults(hint: Any, value: Any, path: str) -> list[str]:
    """Compare a value with an annotation as strictly as JSON: no text for a number, no truth value for an integer.

    Args:
        path: the key of the setting, to begin a fault with.
    """
    import pydantic

    adapter = pydantic.TypeAdapter(hint, config=pydantic.ConfigDict(arbitrary_types_allowed=True))
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


def stand_ins(default: Any, hint: Any) -> tuple[Any, Any] | None:
    """Two values that a setting may have, its default first where it has one; None where none is known.

    Args:
        default: of the parameter, or `inspect.Parameter.empty`.
        hint: its annotation.
    """
    declared = [] if default is inspect.Parameter.empty else [default]
    literals = itertools.chain.from_iterable(typing.get_args(one) for one in (hint, *typing.get_args(hint)))
    others = [*(one for one in literals if isinstance(one, str)), *_PLAIN]
    fitting = declared + [one for one in others if not type_faults(hint, one, "")]
    return (fitting[0], fitting[min(1, len(fitting) - 1)]) if fitting else None


def broken_invariants(
    target: Callable[..., Any], values: dict[str, Any], faulty: Mapping[str, tuple[Any, Any] | None]
) -> list[str]:
    """What a class says of its settings, but for what has to do with the faulty ones.

    Args:
        target: the class.
        values: its settings.
        faulty: those of them that are faulty, with two values each to put in their place. What is said with the one and
            not with the other follows from the fault; and what names a faulty setting may.
    """
    if None in faulty.values():
        return []
    said = []
    for number in (0, 1):
        try:
            target(**values | {name: pair[number] for name, pair in faulty.items() if pair})
        except ValueError as error:
            said.append(str(error).splitlines())
        else:
            return []
    named = re.compile("|".join(rf"\b{re.escape(name)}\b" for name in faulty) or "(?!)")
    return [line for line in said[0] if line in said[1] and not named.search(line)]


def _reason(kind: str, message: str) -> str:
    return "a list" if kind in ("list_type", "tuple_type") else message.removeprefix("Input should be ")


def _as_list(path: str, value: float | str) -> str:
    """A setting of one value as a list of it, as it is typed in a shell."""
    is_word = re.fullmatch(r"[\w./-]+", str(value))
    return f"{path}=[{value}]" if is_word else shlex.quote(f"{path}=[{json.dumps(value, ensure_ascii=False)}]")
