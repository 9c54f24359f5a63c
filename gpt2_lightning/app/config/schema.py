"""Settings parsed from source code without importing it, so that help and overrides need neither torch nor Lightning.

A setting is an annotated field of a dataclass, or a parameter of a class's `__init__` or of a function. Its description
is the docstring below the field, or its entry in the section "Args" of the docstring.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning import settings
from gpt2_lightning.app.config.moved import current
from gpt2_lightning.app.verbs import module_of

_PACKAGE = Path(settings.__file__).parent
_REQUIRED = object()
_ENTRY = re.compile(r"^    (?:    )?(\w+): (.*(?:\n {8,}.*|\n {12,}.*)*)", re.MULTILINE)


@dataclass(frozen=True)
class Setting:
    """A field or parameter in source code."""

    name: str
    kind: str
    """Type, without constraints."""
    marks: tuple[Any, ...]
    """Constraints of `annotated_types` and `gpt2_lightning.settings` whose arguments are literals."""
    choices: tuple[str, ...]
    """Allowed names; empty if other values are allowed."""
    default: Any
    description: str

    @property
    def is_group(self) -> bool:
        """Whether the setting is a group of settings."""
        return self.kind.startswith("dict[str, ")

    @property
    def is_required(self) -> bool:
        """Whether the setting has no default."""
        return self.default is _REQUIRED

    def has(self, kind: type) -> bool:
        """Whether the setting has a constraint or marker of this class."""
        return any(isinstance(mark, kind) for mark in self.marks)


def settings_of_verb(verb: str) -> dict[str, Setting]:
    """Return the top-level settings of a verb by key."""
    found = settings_of(f"{module_of(verb)}.Config")
    return {name.removesuffix("_"): setting for name, setting in found.items()}  # `with` cannot name a field


def settings_of(target: str) -> dict[str, Setting]:
    """Return the settings of a class or function by name; empty for a target outside this package.

    Settings of a class precede those of its bases.

    Args:
        target: dotted path, such as `gpt2_lightning.training.schedules.Cosine`.
    """
    found = _find(*current(target).rpartition(".")[::2])
    if found is None:
        return {}
    module, node = found
    if isinstance(node, ast.FunctionDef):
        return _parameters(module, node, _args_section(ast.get_docstring(node)))
    collected: dict[str, Setting] = {}
    for base in node.bases:
        if isinstance(base, ast.Name):
            collected |= settings_of(module.full_name(base.id))
    for statement in node.body:
        if isinstance(statement, ast.FunctionDef) and statement.name == "__init__":
            return _parameters(module, statement, _args_section(ast.get_docstring(node)))
    own = {setting.name: setting for setting in _fields(module, node)}
    return own | {name: setting for name, setting in collected.items() if name not in own}


class _Module:
    """A parsed source file with resolution of names across imports."""

    def __init__(self, name: str, file: Path) -> None:
        self.name = name
        self.tree = ast.parse(file.read_text(encoding="utf-8"))
        self.imported = {
            alias.asname or alias.name: f"{node.module}.{alias.name}"
            for node in self.tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        self.assigned = {
            target.id: node.value
            for node in self.tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }

    def full_name(self, name: str) -> str:
        """Return the dotted path of a name used in this file."""
        return self.imported.get(name, f"{self.name}.{name}")

    def value(self, name: str) -> tuple[_Module, ast.expr] | None:
        """Return the expression assigned to a name, and the module of the assignment."""
        if name in self.assigned:
            return self, self.assigned[name]
        place, _, there = self.imported.get(name, "").rpartition(".")
        module = _module(place)
        return None if module is None else module.value(there)


@functools.cache
def _module(name: str) -> _Module | None:
    parts = name.split(".")
    if parts[0] != _PACKAGE.name:
        return None
    place = _PACKAGE.joinpath(*parts[1:])
    files = (place.with_suffix(".py"), place / "__init__.py") if len(parts) > 1 else (place / "__init__.py",)
    file = next((file for file in files if file.is_file()), None)
    return None if file is None else _Module(name, file)


def _find(module_name: str, name: str) -> tuple[_Module, ast.ClassDef | ast.FunctionDef] | None:
    module = _module(module_name)
    if module is None:
        return None
    for node in module.tree.body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name == name:
            return module, node
    if isinstance(alias := module.assigned.get(name), ast.Name):
        return _find(module_name, alias.id)
    return _find(*module.imported[name].rpartition(".")[::2]) if name in module.imported else None


def _fields(module: _Module, node: ast.ClassDef) -> Iterator[Setting]:
    for place, statement in enumerate(node.body):
        is_field = isinstance(statement, ast.AnnAssign) and not ast.unparse(statement.annotation).startswith("ClassVar")
        if is_field and isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            below = node.body[place + 1] if place + 1 < len(node.body) else None
            is_text = isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant)
            description = " ".join(str(below.value.value).split()) if is_text else ""  # type: ignore[union-attr]  # as `is_text` says
            yield _setting(module, statement.target.id, statement.annotation, statement.value, description)


def _parameters(module: _Module, node: ast.FunctionDef, described: dict[str, str]) -> dict[str, Setting]:
    positional = node.args.args
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(node.args.defaults)) + list(node.args.defaults)
    pairs = [*zip(positional, defaults, strict=True), *zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)]
    return {
        argument.arg: _setting(module, argument.arg, argument.annotation, default, described.get(argument.arg, ""))
        for argument, default in pairs
        if argument.annotation is not None
    }


def _args_section(docstring: str | None) -> dict[str, str]:
    section = re.search(r"^Args:\n((?:(?: .*)?\n?)*)", docstring or "", re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in _ENTRY.findall(section[1])} if section else {}


def _setting(
    module: _Module, name: str, annotation: ast.expr | None, default: ast.expr | None, description: str
) -> Setting:
    kind, marks, choices = _described(module, annotation) if annotation is not None else ("", (), ())
    return Setting(name, kind, marks, choices, _default(module, default), description)


def _described(module: _Module, node: ast.expr) -> tuple[str, tuple[Any, ...], tuple[str, ...]]:
    """Return the type, constraints and choices of an annotation."""
    if isinstance(node, ast.Name):
        stated = module.value(node.id)
        return (node.id, (), ()) if stated is None else _described(*stated)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        place = _module(module.full_name(node.value.id))
        stated = None if place is None else place.value(node.attr)
        return (ast.unparse(node), (), ()) if stated is None else _described(*stated)
    if isinstance(node, ast.BinOp):
        left, right = _described(module, node.left), _described(module, node.right)
        named = left[2] + right[2] if _is_choice(left) and _is_choice(right) else ()
        return f"{left[0]} | {right[0]}", left[1] + right[1], named
    if isinstance(node, ast.Subscript):
        base = ast.unparse(node.value)
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if base == "Literal":
            names = tuple(str(ast.literal_eval(one)) for one in inner)
            return " | ".join(names), (), names
        parts = [_described(module, one) for one in (inner[:1] if base == "Annotated" else inner)]
        if base == "Annotated":
            marks = tuple(mark for one in inner[1:] if (mark := _mark(module, one)) is not None)
            names = next((tuple(mark.names) for mark in marks if isinstance(mark, settings.OneOf)), parts[0][2])
            return parts[0][0], parts[0][1] + marks, names
        return f"{base}[{', '.join(part[0] for part in parts)}]", tuple(m for part in parts for m in part[1]), ()
    return ("null" if isinstance(node, ast.Constant) and node.value is None else ast.unparse(node)), (), ()


def _is_choice(described: tuple[str, tuple[Any, ...], tuple[str, ...]]) -> bool:
    return bool(described[2]) or described[0] == "null"


def _mark(module: _Module, node: ast.expr) -> Any:
    """Return a constraint; None if it is from another module, or its arguments are not literals."""
    import annotated_types

    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
        return None
    kind = getattr(settings, node.func.id, None) or getattr(annotated_types, node.func.id, None)
    try:
        arguments = [_plain(module, one) for one in node.args]
        named = {one.arg: _plain(module, one.value) for one in node.keywords if one.arg}
    except ValueError:
        return None
    return kind(*arguments, **named) if callable(kind) else None


def _plain(module: _Module, node: ast.expr) -> Any:
    """Evaluate an expression without calls; of a dict, only the keys.

    Raises:
        ValueError: if the expression cannot be evaluated statically.
    """
    if isinstance(node, ast.Name) and (stated := module.value(node.id)) is not None:
        return _plain(*stated)
    if isinstance(node, ast.Dict):
        return {ast.literal_eval(key): None for key in node.keys if isinstance(key, ast.Constant)}
    if isinstance(node, ast.List | ast.Tuple):
        return [_plain(module, one) for one in node.elts]
    if ast.unparse(node) == "math.inf":
        return float("inf")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow):
        return _plain(module, node.left) ** _plain(module, node.right)
    return ast.literal_eval(node)


def _default(module: _Module, node: ast.expr | None) -> Any:
    if node is None:
        return _REQUIRED
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("field", "dataclasses.field"):
        factory = next((one.value for one in node.keywords if one.arg == "default_factory"), None)
        if isinstance(factory, ast.Lambda):
            return _plain(module, factory.body)
        return {"list": [], "dict": {}}.get(ast.unparse(factory) if factory else "", _REQUIRED)
    return _plain(module, node)
