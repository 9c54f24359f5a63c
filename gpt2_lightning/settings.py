"""Ranges of settings: stated in the annotation of each field, and checked in one place.

    @dataclass(frozen=True)
    class SGD(Settings):
        lr: PositiveFloat = 0.1
        momentum: BelowOne = 0.9

Constraints are those of `annotated_types`, which pydantic and hypothesis read as well, and the few of this module. The
same checks run before a command starts and when a class is constructed in Python.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import math
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, MinLen

_Relation = TypeVar("_Relation", bound=Callable[..., Iterator[str]])
_Target = TypeVar("_Target", bound=Callable[..., Any])
_IS_RELATION = "_is_relation"


class Rule:
    """A constraint that `annotated_types` lacks."""

    def fault(self, value: Any) -> str | None:
        """What is wrong with a value; None where it fits."""
        return None


class OneOf(Rule):
    """A name in a table, or in any other collection of names.

    Args:
        names: the names that are allowed. A name that is added to it later is allowed as well.
    """

    def __init__(self, names: Collection[str]) -> None:
        self.names = names

    def fault(self, value: Any) -> str | None:
        return None if value in self.names else f"{value!r} is not one of {', '.join(self.names)}"


class RegularExpression(Rule):
    """A pattern of the module `re`."""

    def fault(self, value: Any) -> str | None:
        try:
            re.compile(value)
        except re.error as error:
            return f"{value!r} is no regular expression: {error}"
        return None


@dataclasses.dataclass(frozen=True)
class Advice:
    """What to do about a value that is out of range, as a part of its message."""

    text: str


@dataclasses.dataclass(frozen=True)
class PathLike:
    """A file or folder: on the command line it needs no quotes, and ~ is the home folder."""


@dataclasses.dataclass(frozen=True)
class FreeText:
    """A text that the command line takes to the letter, with its commas, colons and quotes."""

    nullable: bool = False
    """Whether the word null stands for no text."""


PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0), Lt(math.inf)]
NonNegativeFloat = Annotated[float, Ge(0), Lt(math.inf)]
Probability = Annotated[float, Ge(0), Le(1)]
BelowOne = Annotated[float, Ge(0), Lt(1)]
"""Such as a dropout probability: at 1 nothing would be left."""
PositiveShare = Annotated[float, Gt(0), Le(1)]
"""Of a whole, and not nothing."""
ProperShare = Annotated[float, Gt(0), Lt(1)]
"""Of a whole, which leaves something."""
Seed = Annotated[int, Ge(0), Lt(2**63)]
"""What every random generator takes."""
NonEmpty = Annotated[str, MinLen(1)]
PathText = Annotated[str, PathLike()]


def relation(method: _Relation) -> _Relation:
    """Mark a method of `Settings` that yields faults of fields that do not go together, as "field: what is wrong".

    It is evaluated only as far as the fields that it reads are in range by themselves.
    """
    setattr(method, _IS_RELATION, True)
    return method


class Settings:
    """Base of a dataclass whose fields are checked on construction.

    Raises:
        ValueError: with every field that is out of range and every violated relation, a line each, as
            "field: what is wrong".
    """

    def __post_init__(self) -> None:
        # A field that is not set by its constructor is no setting.
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.init}  # type: ignore[arg-type]  # every subclass is a dataclass
        _refuse(violations(type(self), values))


def checked(function: _Target) -> _Target:
    """Check the arguments of a function, or of a class's `__init__`, against its annotations.

    Raises:
        ValueError: as `Settings` does.
    """
    signature = inspect.signature(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        hints = hints_of(function)
        given = signature.bind(*args, **kwargs).arguments
        _refuse([fault for name in given if name in hints for fault in range_faults(hints[name], given[name], name)])
        return function(*args, **kwargs)

    return typing.cast(_Target, call)


def violations(target: Any, values: Mapping[str, Any]) -> list[str]:
    """Every field that is out of range, and every violated relation between those that are not.

    Args:
        target: a dataclass.
        values: of its fields; the others have their defaults.
    """
    hints = hints_of(target)
    lines = [line for name, value in values.items() for line in range_faults(hints.get(name, Any), value, name)]
    # A mapping with an item out of range can still be compared with other fields.
    return lines + relation_faults(target, values, {line.partition(":")[0] for line in lines} & values.keys())


def relation_faults(target: type[Settings], values: Mapping[str, Any], unusable: Collection[str]) -> list[str]:
    """Every violated relation between fields that can be read.

    Args:
        target: a dataclass.
        values: of its fields; the others have their defaults.
        unusable: fields about which nothing can be said: missing, of a wrong type or out of range.
    """
    # An instance without construction, in which reading an unusable field ends the relation that reads it.
    view = type(target.__name__, (target,), {name: property(_unusable) for name in unusable})
    instance: Any = object.__new__(view)
    factories = {
        field.name: field.default_factory()
        for field in dataclasses.fields(target)  # type: ignore[arg-type]  # every subclass is a dataclass
        if field.default_factory is not dataclasses.MISSING
    }
    vars(instance).update(factories | dict(values))
    names = dict.fromkeys(name for base in reversed(target.__mro__) for name in vars(base))
    lines: list[str] = []
    for name in names:
        if getattr(getattr(target, name), _IS_RELATION, False):
            try:
                lines.extend(getattr(instance, name)())
            except _UnusableFieldError:
                continue
    return lines


@functools.cache
def hints_of(target: Any) -> dict[str, Any]:
    """The annotations of a class's fields, or of a function's parameters, with their constraints."""
    is_plain_class = inspect.isclass(target) and not dataclasses.is_dataclass(target)
    return typing.get_type_hints(target.__init__ if is_plain_class else target, include_extras=True)


def range_faults(hint: Any, value: Any, name: str, whole: Any = None) -> list[str]:
    """Compare a value of the right type with the constraints in an annotation.

    Args:
        hint: the annotation.
        value: of a type that the annotation allows; elements of sequences and mappings are compared, too.
        name: of the field, which each fault begins with.
        whole: the sequence that the value is an element of, if it is one.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is Annotated:
        of_value = _own_faults(list(_flat(arguments[1:])), value, name, value if whole is None else whole)
        return range_faults(arguments[0], value, name) + of_value
    if origin in (typing.Union, types.UnionType):
        faults = [range_faults(member, value, name) for member in arguments if _is_instance(value, member)]
        return [] if [] in faults or not faults else faults[0]
    if origin is Literal:
        return [] if value in arguments else [f"{name}: {value!r} is not one of {', '.join(map(_shown, arguments))}"]
    if isinstance(value, Mapping) and len(arguments) == 2:
        of_keys = [fault for key in value for fault in range_faults(arguments[0], key, name)]
        return of_keys + [f for key, item in value.items() for f in range_faults(arguments[1], item, f"{name}.{key}")]
    if isinstance(value, Sequence) and not isinstance(value, str) and arguments:
        return list(dict.fromkeys(f for item in value for f in range_faults(arguments[0], item, name, list(value))))
    return []


def allowed(marks: Iterable[Any]) -> str:
    """A range in words, such as "1 or more"; empty where the marks set none."""
    marks = list(_flat(marks))
    low = next((f"{_shown(m.ge)} or more" for m in marks if isinstance(m, Ge)), "")
    above = next((f"above {_shown(m.gt)}" for m in marks if isinstance(m, Gt)), "")
    least = next((_shown(m.ge) for m in marks if isinstance(m, Ge)), above)
    upper = next((m for m in marks if isinstance(m, Le | Lt)), None)
    if upper is None:
        return low or above
    if isinstance(upper, Lt) and upper.lt == math.inf:
        return f"a finite number{', ' if low else ' '}{low or above}".strip()
    if isinstance(upper, Le):
        return f"{least} {'up ' if above else ''}to {_shown(upper.le)}".strip()
    return f"{least} {'and below' if above else 'up to (not including)'} {_shown(upper.lt)}".strip()


def _own_faults(marks: list[Any], value: Any, name: str, whole: Any) -> list[str]:
    if any(isinstance(mark, MinLen) and len(value) < mark.min_length for mark in marks):
        return [f"{name}: it is empty; name one"]
    if not all(_fits(mark, value) for mark in marks):
        advice = "".join(f"; {mark.text}" for mark in marks if isinstance(mark, Advice))
        return [f"{name}: {whole} is out of range, {allowed(marks)} is allowed{advice}"]
    return [f"{name}: {fault}" for mark in marks if isinstance(mark, Rule) and (fault := mark.fault(value))]


def _fits(mark: Any, value: Any) -> bool:
    """Whether a value keeps to a bound; nan keeps to none."""
    match mark:
        case Ge():
            return bool(value >= mark.ge)
        case Gt():
            return bool(value > mark.gt)
        case Le():
            return bool(value <= mark.le)
        case Lt():
            return bool(value < mark.lt)
    return True


def _flat(marks: Iterable[Any]) -> Iterator[Any]:
    """Constraints, with those in groups such as `Interval` one by one."""
    for mark in marks:
        if isinstance(mark, GroupedMetadata):
            yield from mark
        else:
            yield mark


def _is_instance(value: Any, hint: Any) -> bool:
    """Whether a member of a union is the one that a value belongs to."""
    if typing.get_origin(hint) is Annotated:
        return _is_instance(value, typing.get_args(hint)[0])
    if typing.get_origin(hint) is Literal:
        return type(value) in map(type, typing.get_args(hint))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    kind = typing.get_origin(hint) or hint
    return isinstance(value, kind) if inspect.isclass(kind) else True


def _shown(value: Any) -> str:
    """A bound or a name as a message has it; large powers of two as such."""
    is_power = isinstance(value, int) and value > 2**16 and value & (value - 1) == 0
    return f"2**{value.bit_length() - 1}" if is_power else str(value)


class _UnusableFieldError(Exception):
    """A relation reads a field about which nothing can be said."""


def _unusable(_: Any) -> Any:
    raise _UnusableFieldError


def _refuse(faults: list[str]) -> None:
    if faults:
        raise ValueError("\n".join(faults))
