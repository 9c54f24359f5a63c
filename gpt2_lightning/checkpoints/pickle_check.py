"""Check of pickles before they are loaded: `torch.load` takes exponential time or memory for a few crafted bytes."""

from __future__ import annotations

import pickle
import pickletools
from dataclasses import dataclass
from typing import Any, BinaryIO

_LONGEST_NAME = 1000
_MOST_REPEATED = 1_000_000
_GROWS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
_CALLS = {"REDUCE", "NEWOBJ", "NEWOBJ_EX"}


@dataclass
class _Value:
    size: int = 1
    """Number of values, each counted as often as it is reached."""
    is_global: bool = False
    is_repeated: bool = False


_MARK = _Value()


def excess_of(stream: BinaryIO) -> str | None:
    """Describe what would make loading a pickle take more time or memory than its size explains; None if nothing does.

    A list that contains a list twice, which contains another twice, and so on, is formatted by error messages and
    hashed within tuples in exponential time. Messages with long names are searched by torch in quadratic time.
    No values are made: the stack consists of their sizes.

    Args:
        stream: a file, read up to the end of one pickle.

    Raises:
        pickle.UnpicklingError: if it calls anything but a function that it names, as no file of tensors does.
        Exception: of any kind, if it is not a pickle.
    """
    stack: list[_Value] = []
    memo: dict[Any, _Value] = {}
    repeated = 0
    for opcode, argument, _ in pickletools.genops(stream):
        name = opcode.name
        if name.endswith("PUT") or name == "MEMOIZE":
            memo[len(memo) if argument is None else argument] = stack[-1]
        elif name.endswith("GET") or name == "DUP":
            value = stack[-1] if name == "DUP" else memo[argument]
            value.is_repeated = True
            repeated += value.size
            stack.append(value)
        elif name == "MARK":
            stack.append(_MARK)
        else:
            taken = _taken(stack, opcode)
            size = 1 + sum(value.size for value in taken)
            if name in _GROWS:
                if taken[0].is_repeated:
                    return "it has a container that contains itself"
                taken[0].size = size
                stack.append(taken[0])
            elif name in _CALLS and not taken[0].is_global:
                raise pickle.UnpicklingError("it calls a value that is not a GLOBAL")
            elif name.endswith("GLOBAL"):
                stack.append(_Value(is_global=True))
            elif opcode.stack_after:
                stack.append(_Value(size))
        if name == "GLOBAL" and argument and len(argument) > _LONGEST_NAME:
            return f"it names a type with {len(argument):,} characters"
        if repeated > _MOST_REPEATED:
            return f"it repeats more than {_MOST_REPEATED:,} values"
    return None


def _taken(stack: list[_Value], opcode: pickletools.OpcodeInfo) -> list[_Value]:
    """Remove from the stack what an opcode takes, without the mark."""
    above: list[_Value] = []
    kinds = opcode.stack_before
    if pickletools.markobject in kinds:
        while (value := stack.pop()) is not _MARK:
            above.append(value)
        kinds = kinds[: kinds.index(pickletools.markobject)]
    below = [stack.pop() for _ in kinds]
    return [*reversed(below), *reversed(above)]
