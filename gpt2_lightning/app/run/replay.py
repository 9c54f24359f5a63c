"""Replay: train again from the `config.yaml` of an earlier run, with the overrides of the command line on top."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from omegaconf import DictConfig, OmegaConf

from gpt2_lightning.app.config.preflight import preflight
from gpt2_lightning.app.output.paths import display_path
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.checkpoints import runs
from gpt2_lightning.config_folder import config_folder
from gpt2_lightning.errors import UserError
from gpt2_lightning.training.strategies.placement import Placement

_OF_THE_NEW_RUN = ("run_dir", "resume", "plan", "replay", "trusted_modules")
"""Top-level keys that are never taken from the earlier run."""
_ONLY_FINETUNE = "init_from"


def check(verb: str, config: DictConfig, schema: type[RunSettings]) -> tuple[dict[str, Any], list[str]]:
    """Check a composed configuration with `preflight`, after replacing it by that of the run that `replay` names.

    Args:
        verb: `train` or `finetune`.
        config: the composed configuration.
        schema: settings of the verb, a dataclass.

    Returns:
        The resolved configuration, and all faults; see `preflight`.

    Raises:
        UserError: if there is no such run, or it was made by another verb.
    """
    typed = dict(_overrides())
    if not config.get("replay"):
        schema.adjust(config, typed)
        return preflight(config, schema)
    file = Path(config.replay).expanduser() / runs.CONFIG
    composed: Any = OmegaConf.to_container(config, resolve=False)
    saved = {**composed, **_read(file, verb), **{key: composed[key] for key in _OF_THE_NEW_RUN}}
    replayed = OmegaConf.create(_with_overrides(saved, composed))
    schema.adjust(replayed, typed)
    plain, faults = preflight(replayed, schema)
    if faults:
        _, of_file = preflight(OmegaConf.create(saved), schema)
        where = f" (in {display_path(file)}, which another version of this program wrote)"
        faults = [f"{fault}{where}" if fault in of_file else fault for fault in faults]
    return plain, faults


def _read(file: Path, verb: str) -> dict[str, Any]:
    """Read the configuration of an earlier run; strings that look like references are escaped."""
    folder = display_path(file.parent)
    try:
        saved = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"replay: {folder} is not the folder of a run, it has no {file.name}; name one") from None
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"replay: {display_path(file)} cannot be read: {error}") from None
    if not isinstance(saved, dict):
        raise UserError(f"replay: {display_path(file)} is not the configuration of a run; name the folder of one")
    made_by = "finetune" if _ONLY_FINETUNE in saved else "train"
    if made_by != verb:
        raise UserError(f"replay: {folder} is a run of {made_by}, not of {verb}; use {made_by} replay={folder}")
    return {key: _escaped(value) for key, value in saved.items()}


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_escaped(child) for child in value]
    return value.replace("${", "\\${") if isinstance(value, str) else value


def _with_overrides(saved: dict[str, Any], composed: dict[str, Any]) -> dict[str, Any]:
    """Return the saved configuration with the overrides of the command line.

    Args:
        saved: configuration of the earlier run.
        composed: configuration of this command line without `replay`, in which each override has its effect.
    """
    result = {**saved}
    values = []
    for key, value in _overrides():
        if key in _OF_THE_NEW_RUN:
            continue
        if key == "experiment":
            raise UserError(f"replay: experiment={value} selects a configuration of its own; leave one of the two out")
        if key == "debug":
            result = _merged(result, _preset(value))
        elif key == "precision":
            values.append("trainer.precision")
        elif key == "trainer":
            placement = {field.name for field in dataclasses.fields(Placement)}
            length = {name: value for name, value in result[key].items() if name not in placement}
            where = {name: value for name, value in composed[key].items() if name in placement}
            result[key] = {**length, **where}
        elif "." not in key and isinstance(composed.get(key), dict):
            result[key] = composed[key]
        else:
            values.append(key)
    for key in values:
        result = _copied(result, composed, key.split("."))
    return result


def _overrides() -> Iterator[tuple[str, str]]:
    """Yield keys and values of the command line, in its order."""
    from hydra.core.hydra_config import HydraConfig

    for override in HydraConfig.get().overrides.task:
        key, _, value = override.lstrip("+~").partition("=")
        yield key, value


def _preset(name: str) -> dict[str, Any]:
    """Read an option of the group `debug`."""
    if name == "null":
        return {}
    content = yaml.safe_load((config_folder() / "debug" / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(content, dict), "a preset has keys"
    return content


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Merge nested dictionaries."""
    merged = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        merged[key] = _merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _copied(target: dict[str, Any], source: Any, path: list[str]) -> dict[str, Any]:
    """Copy one value between nested dictionaries; a key that the source lacks is removed."""
    key, *rest = path
    if not isinstance(source, dict) or key not in source:
        return {name: value for name, value in target.items() if name != key}
    if not rest:
        return {**target, key: source[key]}
    child = target.get(key)
    return {**target, key: _copied(child if isinstance(child, dict) else {}, source[key], rest)}
