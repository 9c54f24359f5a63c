"""The tree of modules with their parameter counts; equal blocks are merged."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from gpt2_lightning.inspection.parameters.tensors import TensorSummary


@dataclass(frozen=True)
class ModuleNode:
    """A module with its submodules; `times` consecutive equal modules are one node."""

    name: str
    """Name within its parent; `0 to 11` for twelve merged blocks."""
    children: tuple[ModuleNode, ...]
    tensors: tuple[TensorSummary, ...]
    """Tensors of the module itself; of the first, if several are merged."""
    times: int = 1

    @property
    def count(self) -> int:
        """Number of values in all merged modules."""
        return self.times * (sum(child.count for child in self.children) + sum(one.count for one in self.tensors))


def part_of(name: str) -> str:
    """The part of the model with a tensor: a block such as `h.3`, otherwise the top-level module."""
    first, second, *_ = [*name.split("."), ""]
    return f"{first}.{second}" if second.isdigit() else first


def module_tree(tensors: Sequence[TensorSummary], prefix: str = "") -> ModuleNode:
    """Build the tree of all tensors whose names start with a prefix, in order."""
    own, children = [], []
    names = [(one.name.removeprefix(prefix), one) for one in tensors]
    for child, inside in itertools.groupby(names, key=lambda pair: pair[0].rpartition(".")[0].partition(".")[0]):
        tensors = [one for _, one in inside]
        if child:
            children.append(module_tree(tensors, f"{prefix}{child}."))
        else:
            own += tensors
    return ModuleNode(prefix.removesuffix(".").rpartition(".")[2], _joined(children), tuple(own))


def _joined(children: Sequence[ModuleNode]) -> tuple[ModuleNode, ...]:
    joined = []
    for _, group in itertools.groupby(children, key=lambda child: (child.name.isdigit() or child.name, _kinds(child))):
        equal = list(group)
        first, last = equal[0], equal[-1]
        name = first.name if first is last else f"{first.name} to {last.name}"
        joined.append(ModuleNode(name, first.children, first.tensors, len(equal)))
    return tuple(joined)


def _kinds(module: ModuleNode) -> tuple[object, ...]:
    """Key under which modules are equal."""
    own = tuple((one.name.rpartition(".")[2], one.shape, one.dtype, one.kind) for one in module.tensors)
    return (own, *((child.name, child.times, _kinds(child)) for child in module.children))
