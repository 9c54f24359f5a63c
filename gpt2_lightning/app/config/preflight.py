"""Validation of a complete configuration before any computation, with all faults in one message.

The schema is the code: the annotated fields of a verb's `Config`, and the annotated signature of every `_target_`,
including the constraints in the annotations (`gpt2_lightning.settings`).
"""

from __future__ import annotations

import difflib
import inspect
import keyword
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from gpt2_lightning.app.config.moved import TARGET, with_current_targets
from gpt2_lightning.app.config.targets import ALLOWED_MODULES, holds_target, kinds_of, locate
from gpt2_lightning.app.config.validation import type_faults
from gpt2_lightning.config_folder import config_folder
from gpt2_lightning.errors import UserError
from gpt2_lightning.settings import Settings, hints_of, range_faults, relation_faults

FROM_BUILD: dict[str, Any] = {
    "texts": (),
    "all_texts": (),
    "tokenizer": None,
    "several_documents": False,
    "run_dir": Path(),
    "run_name": "",
    "sweep": None,
    "num_classes": 2,
    "benchmarks": {},
    "data_dir": None,
}
"""Parameters supplied by `build`, with placeholders for the check."""
_OTHER_NAMES = {
    "do_sample": "temperature: 0 is greedy decoding",
    "fp16": "precision=fp16",
    "bf16": "precision=bf16",
    "learning_rate": "optimizer.lr",
    "max_length": "max_new_tokens, without the prompt",
    "num_beams": "n_beams",
    "num_return_sequences": "num_samples",
    "num_train_epochs": "trainer.max_epochs",
    "output_dir": "runs_dir",
    "per_device_train_batch_size": "batch_size, over all devices",
    "report_to": "logger",
    "stop_strings": "stop",
}
"""Settings of transformers, and what they are here."""


def preflight(config: DictConfig, schema: type) -> tuple[dict[str, Any], list[str]]:
    """Resolve and check a composed configuration.

    Args:
        config: configuration composed by Hydra.
        schema: a dataclass with a field for each top-level key; a group of settings (see `targets`) is checked against
            the signatures of its targets.

    Returns:
        The resolved configuration as plain containers, and a list of faults as "key: what is wrong and what to do".
    """
    unresolved: dict[str, str] = {}
    values = with_current_targets(_resolve(config, "", unresolved))
    checker = _Checker(unresolved)
    checker.check(schema, values, "")
    return values, checker.all_faults()


def _resolve(config: DictConfig | ListConfig, path: str, unresolved: dict[str, str]) -> Any:
    """Convert to plain containers with all interpolations resolved; keys that cannot be resolved are recorded in
    `unresolved` and omitted."""
    if isinstance(config, ListConfig):
        return OmegaConf.to_container(config, resolve=True)
    plain = {}
    for key in config:
        name = str(key)
        where = f"{path}{name}"
        try:
            value = "???" if OmegaConf.is_missing(config, key) else config[key]
            if isinstance(value, DictConfig | ListConfig):
                value = _resolve(value, f"{where}.", unresolved)
            plain[f"{name}_" if keyword.iskeyword(name) else key] = value  # no field can be named `with`
        except OmegaConfBaseException as error:
            unresolved[where] = str(error.msg or error).splitlines()[0]
    return plain


class _Checker:
    def __init__(self, unresolved: dict[str, str]) -> None:
        self.unresolved = unresolved
        self.faults: list[str] = []
        self.known: list[str] = []
        self.unknown: list[str] = []

    def all_faults(self) -> list[str]:
        unknown = [f"{key}: unknown key{self._suggestion(key)}" for key in self.unknown]
        # An unresolved interpolation may be caused by another fault, so it is reported only on its own.
        return [*unknown, *self.faults] or [f"{key}: {why}" for key, why in self.unresolved.items()]

    def check(self, target: Callable[..., Any], values: dict[str, Any], path: str) -> None:
        """Check arguments against the signature of a callable, and against the relations between its fields."""
        parameters = inspect.signature(target).parameters
        hints = hints_of(target)
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        supplied = FROM_BUILD.keys() & parameters if path else set()
        variadic = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
        names = [n for n, p in parameters.items() if p.kind not in variadic and n not in supplied]
        self.known += [path + name for name in names]
        others = [n for n in values if n not in names and n != TARGET]
        unknown = [] if takes_any else [path + n for n in others]
        unusable = {near for n in unknown for near in difflib.get_close_matches(n.removeprefix(path), names, n=1)}
        for name in names:
            faults = []
            if name in values:
                faults = self._check_value(hints.get(name, Any), values[name], path + name)
            elif parameters[name].default is inspect.Parameter.empty and path + name not in self.unresolved:
                faults = [_missing(path + name)]
            if path + name in self.unresolved or any(fault.startswith(f"{path}{name}:") for fault in faults):
                unusable.add(name)
            self.faults += faults
        self.unknown += unknown
        self.faults += [fault for n in others if takes_any for fault in self._check_value(Any, values[n], path + n)]
        given = {name: value for name, value in values.items() if name in names}
        given |= {name: FROM_BUILD[name] for name in supplied}
        self.faults += [path + line for line in _broken_relations(target, given, unusable)]

    def _check_value(self, hint: Any, value: Any, path: str) -> list[str]:
        """Return faults of a value; faults inside a group of settings are added to `self.faults`."""
        members = (typing.get_args(hint) or (None,))[-1] if typing.get_origin(hint) is dict else None
        if value == "???":
            return [_missing(path)]
        if kinds := kinds_of(hint):
            if value is not None or type(None) not in typing.get_args(hint):
                self._check_node(value, path, kinds)
            return []
        if kinds_of(members) and isinstance(value, dict | None):
            for name, child in (value or {}).items():
                self.faults += self._check_value(members, child, f"{path}.{name}")
            return []
        if holds_target(value):
            return [f"{path}: no {TARGET} is accepted here; write plain values"]
        return type_faults(hint, value, path) or range_faults(hint, value, path)

    def _check_node(self, value: Any, path: str, kinds: tuple[type, ...]) -> None:
        if not isinstance(value, dict) or TARGET not in value:
            self.faults.append(_not_a_group(value, path))
            return
        try:
            target = locate(value[TARGET], kinds)
        except UserError as error:
            self.faults.append(f"{path}.{TARGET}: {error}")
            return
        try:
            self.check(target, value, f"{path}.")
        except Exception as error:  # whatever a signature or a constructor raises
            self.faults.append(f"{path}: {value[TARGET]} cannot be checked: {type(error).__name__}: {error}")

    def _suggestion(self, key: str) -> str:
        if key in _OTHER_NAMES:
            return f"; here it is {_OTHER_NAMES[key]}"
        folder, _, leaf = key.rpartition(".")
        siblings = [known for known in self.known if known.rpartition(".")[0] == folder]
        near = difflib.get_close_matches(key, siblings, n=1, cutoff=0.7)
        near = near or [known for known in self.known if known.rpartition(".")[2] == leaf]
        if not near and folder and siblings:
            return f"; {folder} has {', '.join(known.rpartition('.')[2] for known in siblings)}"
        near = near or difflib.get_close_matches(key, self.known, n=1)
        return f"; did you mean {near[0]}?" if near else ""


def _not_a_group(value: Any, path: str) -> str:
    group, _, member = path.rpartition(".")
    if isinstance(value, dict) and (config_folder() / group / f"{member}.yaml").is_file():
        return f"{path}: {member} is not chosen; choose it, as in {group}=[{member}]"
    if isinstance(value, dict):
        return f"{path}: it has no {TARGET}; its YAML names a class by it, or inherits from an option"
    return f"{path}: {value!r} is not a group of settings; choose an option, as in {path}=NAME"


def _broken_relations(target: Callable[..., Any], values: dict[str, Any], unusable: set[str]) -> list[str]:
    """Return the violated relations between settings that are in range individually."""
    if not inspect.isclass(target) or target.__module__.split(".")[0] != ALLOWED_MODULES[0]:
        return []
    if issubclass(target, Settings):
        return relation_faults(target, values, unusable)
    if unusable:
        return []
    try:
        target(**values)  # constructors of this package only validate
    except ValueError as error:
        return str(error).splitlines()
    return []


def _missing(path: str) -> str:
    return f"{path}: missing; add {path}=VALUE"
