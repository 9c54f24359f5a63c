"""Benchmarks by name, as `conf/benchmarks` configures them, without Hydra."""

from __future__ import annotations

import dataclasses
import pkgutil
from collections.abc import Mapping
from typing import Any

import yaml

from gpt2_lightning.config_folder import config_folder
from gpt2_lightning.errors import UserError, did_you_mean, listed
from gpt2_lightning.evaluation.benchmarks.benchmark import Benchmark

GROUP = "benchmarks"
"""Name of the group of YAML files."""
_TARGET = "_target_"
_MISSING = "???"
"""A setting without a default."""


def benchmark(name: str, **settings: Any) -> Benchmark:
    """Return a benchmark.

    Args:
        name: name of a YAML file in `conf/benchmarks`.
        settings: settings that replace those of the file.

    Raises:
        UserError: if there is no such benchmark, or a setting is unknown or out of range.
    """
    return made(name, {**stated(name), **settings})


def stated(name: str) -> dict[str, Any]:
    """Return the settings of a YAML file.

    Raises:
        UserError: if there is no such benchmark.
    """
    if name not in names():
        raise UserError(f"benchmarks: there is no '{name}', there are {listed(names())}{did_you_mean(name, names())}")
    file = config_folder() / GROUP / f"{name}.yaml"
    content: dict[str, Any] = yaml.safe_load(file.read_text(encoding="utf-8"))[name]
    return content


def names() -> list[str]:
    """Return the names of all configured benchmarks."""
    return sorted(file.stem for file in (config_folder() / GROUP).glob("*.yaml"))


def made(name: str, node: Mapping[str, Any]) -> Benchmark:
    """Return the benchmark of a YAML file's settings.

    Args:
        name: name of the benchmark, for messages.
        node: settings with the `_target_` of this package.

    Raises:
        UserError: if a setting is unknown or out of range.
    """
    target = pkgutil.resolve_name(node[_TARGET])
    known = [field.name for field in dataclasses.fields(target)]
    for setting in node.keys() - {_TARGET, *known}:
        raise UserError(
            f"{name}: there is no setting '{setting}', it has {listed(known)}{did_you_mean(setting, known)}"
        )
    if missing := [key for key, value in node.items() if value == _MISSING]:
        raise UserError(f"{name}: {listed(missing)} is missing; pass it, as in benchmark('{name}', {missing[0]}=…)")
    try:
        found = target(**{key: _made(value) for key, value in node.items() if key != _TARGET})
    except ValueError as error:
        raise UserError(f"{name}: {error}") from None
    assert isinstance(found, Benchmark), "files of this group configure benchmarks"
    return found


def _made(value: Any) -> Any:
    """Return a setting, with nested groups of settings replaced by the objects made from them."""
    if isinstance(value, dict) and _TARGET in value:
        return pkgutil.resolve_name(value[_TARGET])(**{k: _made(v) for k, v in value.items() if k != _TARGET})
    return value
