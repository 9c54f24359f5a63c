"""Configurations as Hydra composes them for a verb."""

from __future__ import annotations

import importlib
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf, open_dict

from gpt2_lightning.app.config.registration import register_with_hydra
from gpt2_lightning.app.verbs import module_of
from gpt2_lightning.config_folder import config_folder

CONF = config_folder()
RECIPES = CONF / "experiment"
"""Options of several verbs."""


def composed(verb: str, *overrides: str) -> DictConfig:
    """A verb's configuration, with what only a running job knows filled in."""
    register_with_hydra(verb)
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose(verb, list(overrides))
    if "run_dir" in schema_of(verb).__dataclass_fields__:
        with open_dict(config):
            config.name = "name"
    return config


def schema_of(verb: str) -> Any:
    return importlib.import_module(module_of(verb)).Config


def named(config: DictConfig) -> DictConfig:
    """The same with a name for everything that the user has to name."""
    for key in config:
        if OmegaConf.is_missing(config, key):
            config[key] = "somewhere"
        elif isinstance(config[key], DictConfig):
            named(config[key])
    return config
