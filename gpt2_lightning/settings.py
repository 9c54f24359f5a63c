"""Validation of settings, by constraints in the annotations of their fields.

    @dataclass(frozen=True)
    class SGD(Settings):
        lr: PositiveFloat = 0.1
        momentum: BelowOne = 0.9

Constraints are those of `annotated_types`, which pydantic and hypothesis support as well, and those of this module. The
same checks run before a command starts and when a class is constructed in Python.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import math
import numbers
import operator
import re
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from annotated_types import Ge, GroupedMetadata, Gt, Le, Lt, MinLen

from gpt2_lightning.errors import shortened

_Relation = TypeVar("_Relation", bound=Callable[..., Iterator[str]])
_Target = TypeVar("_Target", bound=Callable[..., Any])
_IS_RELATION = "_is_relation"
_SCALARS = {int: "an integer", float: "a number", bool: "true or false", str: "a text"}


class Rule:
    """Base class of constraints that `annotated_types` does not have."""

    def fault(self, value: Any) -> str | None:
        """Describe how a value violates the constraint; None if it does not."""
        return None


class OneOf(Rule):
    """Membership in a collection of names.

    Args:
        names: allowed names, such as the keys of a registry. Names added later are allowed, too.
    """

    def __init__(self, names: Collection[str]) -> None:
        self.names = names

    def fault(self, value: Any) -> str | None:
        return None if value in self.names else f"{value!r} is not one of {', '.join(self.names)}"


class RegularExpression(Rule):
    """Regular expression in the syntax of `re`."""

    def fault(self, value: Any) -> str | None:
        try:
            re.compile(value)
        except re.error as error:
            return f"{value!r} is no regular expression: {error}"
        return None


@dataclasses.dataclass(frozen=True)
class Advice:
    """Advice appended to the message about a value that is out of range."""

    text: str


@dataclasses.dataclass(frozen=True)
class PathLike:
    """Path of a file or folder: on the command line it needs no quotes, and ~ is expanded."""


@dataclasses.dataclass(frozen=True)
class FreeText:
    """Literal text: commas, colons and quotes need no escaping on the command line."""

    nullable: bool = False
    """Whether `null` means None rather than the word."""


PositiveInt = Annotated[int, Ge(1)]
NonNegativeInt = Annotated[int, Ge(0)]
PositiveFloat = Annotated[float, Gt(0), Lt(math.inf)]
NonNegativeFloat = Annotated[float, Ge(0), Lt(math.inf)]
Probability = Annotated[float, Ge(0), Le(1)]
BelowOne = Annotated[float, Ge(0), Lt(1)]
"""In [0, 1), for example a dropout probability."""
PositiveShare = Annotated[float, Gt(0), Le(1)]
"""Fraction in (0, 1]."""
ProperShare = Annotated[float, Gt(0), Lt(1)]
"""Fraction in (0, 1)."""
Seed = Annotated[int, Ge(0), Lt(2**63)]
"""Random seed in the range that all random number generators accept."""
NonEmpty = Annotated[str, MinLen(1)]
PathText = Annotated[str, PathLike()]


def relation(method: _Relation) -> _Relation:
    """Decorator for a method of `Settings` that checks a relation between fields.

    The method yields violations as "field: what is wrong". It is evaluated only up to the first access to a field that
    is itself out of range.
    """
    setattr(method, _IS_RELATION, True)
    return method


class Settings:
    """Base class of dataclasses whose fields are validated on construction.

    Raises:
        ValueError: if a field is out of range or a relation is violated. The message has a line for each fault, as
            "field: what is wrong".
    """

    def __post_init__(self) -> None:
        # Fields with init=False are not settings.
        values = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if field.init}  # type: ignore[arg-type]  # every subclass is a dataclass
        _refuse(violations(type(self), values))


def checked(function: _Target) -> _Target:
    """Decorator that validates the arguments of a function, or of a class's `__init__`, against its annotations.

    Raises:
        ValueError: see `Settings`.
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
    """Return a message for each field that is out of range, and for each violated relation between the others.

    Args:
        target: a dataclass.
        values: values by field name; other fields have their defaults.
    """
    hints = hints_of(target)
    lines = [line for name, value in values.items() for line in range_faults(hints.get(name, Any), value, name)]
    # A mapping with an item out of range is still usable in relations.
    return lines + relation_faults(target, values, {line.partition(":")[0] for line in lines} & values.keys())


def relation_faults(target: type[Settings], values: Mapping[str, Any], unusable: Collection[str]) -> list[str]:
    """Return a message for each violated relation between usable fields.

    Args:
        target: a dataclass.
        values: values by field name; other fields have their defaults.
        unusable: names of fields that are missing, of a wrong type or out of range.
    """
    # An instance made without its constructor; access to an unusable field raises an exception that ends the relation.
    view = type(target.__name__, (target,), {name: property(_unusable) for name in unusable})
    instance: Any = object.__new__(view)
    factories = {
        field.name: field.default_factory()
        for field in dataclasses.fields(target)  # type: ignore[arg-type]  # every subclass is a dataclass
        if field.default_factory is not dataclasses.MISSING
    }
    vars(instance).update(factories | dict(values))
    lines: list[str] = []
    for name in dict.fromkeys(name for base in reversed(target.__mro__) for name in vars(base)):
        if getattr(getattr(target, name), _IS_RELATION, False):
            with contextlib.suppress(_UnusableFieldError):
                lines.extend(getattr(instance, name)())
    return lines


@functools.cache
def hints_of(target: Any) -> dict[str, Any]:
    """Return the annotations of a class's fields or a function's parameters, including constraints."""
    is_plain_class = inspect.isclass(target) and not dataclasses.is_dataclass(target)
    return typing.get_type_hints(target.__init__ if is_plain_class else target, include_extras=True)


def range_faults(hint: Any, value: Any, name: str, whole: Any = None) -> list[str]:
    """Check a value against an annotation: the type of numbers, truth values and texts, and constraints.

    Args:
        hint: the annotation.
        value: the value; elements of sequences and mappings are checked, too.
        name: name of the field, which begins each message.
        whole: the sequence that contains the value; None if it is not an element.

    Returns:
        A message for each violated constraint.
    """
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if isinstance(hint, type) and hint in _SCALARS and not _is_instance(value, hint):
        return [f"{name}: {shortened(value)} is not {_SCALARS[hint]}"]
    if origin is Annotated:
        of_parts = range_faults(arguments[0], value, name)
        if not _is_instance(value, hint):
            return of_parts
        return of_parts + _own_faults(list(_flat(arguments[1:])), value, name, value if whole is None else whole)
    if origin in (typing.Union, types.UnionType):
        faults = [range_faults(member, value, name) for member in arguments if _is_instance(value, member)]
        if not faults and isinstance(value, bool | int | float | str):
            return [f"{name}: {shortened(value)} is of another type than {hint}"]
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
    """Format a range in words, such as "1 or more"; "" if there is no bound."""
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
        return [f"{name}: it is empty; name one" if value is whole else f"{name}: one of them is empty"]
    if not all(_fits(mark, value) for mark in marks):
        advice = "".join(f"; {mark.text}" for mark in marks if isinstance(mark, Advice))
        return [f"{name}: {whole} is out of range, {allowed(marks)} is allowed{advice}"]
    return [f"{name}: {fault}" for mark in marks if isinstance(mark, Rule) and (fault := mark.fault(value))]


def _fits(mark: Any, value: Any) -> bool:
    """Whether a value satisfies a bound; NaN satisfies none."""
    if isinstance(mark, Ge | Gt | Le | Lt):
        ((name, bound),) = dataclasses.asdict(mark).items()  # such as ge: 1, named like the operator
        return bool(getattr(operator, name)(value, bound))
    return True


def _flat(marks: Iterable[Any]) -> Iterator[Any]:
    """Yield constraints, with groups such as `Interval` flattened."""
    for mark in marks:
        if isinstance(mark, GroupedMetadata):
            yield from mark
        else:
            yield mark


def _is_instance(value: Any, hint: Any) -> bool:
    """Whether a value is an instance of a member of a union."""
    if typing.get_origin(hint) is Annotated:
        return _is_instance(value, typing.get_args(hint)[0])
    if typing.get_origin(hint) is Literal:
        return type(value) in map(type, typing.get_args(hint))
    if hint in (int, float):  # numpy's numbers count, truth values do not
        number = numbers.Integral if hint is int else numbers.Real
        return isinstance(value, number) and not isinstance(value, bool)
    kind = typing.get_origin(hint) or hint
    return isinstance(value, kind) if inspect.isclass(kind) else True


def _shown(value: Any) -> str:
    """Format a bound or a name for a message; large powers of two as 2**n."""
    is_power = isinstance(value, int) and value > 2**16 and value & (value - 1) == 0
    return f"2**{value.bit_length() - 1}" if is_power else str(value)


class _UnusableFieldError(Exception):
    """Raised when a relation accesses an unusable field."""


def _unusable(_: Any) -> Any:
    raise _UnusableFieldError


def _refuse(faults: list[str]) -> None:
    if faults:
        raise ValueError("\n".join(faults))
