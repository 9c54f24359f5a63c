"""Hydra's own part of the present configuration."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from gpt2_lightning.app.config.folder import config_folder


def portable_hydra_config() -> DictConfig:
    """Return Hydra's part of the configuration for another process, without classes defined by plugins."""
    return OmegaConf.create({"hydra": OmegaConf.to_container(HydraConfig.instance().cfg.hydra)})  # type: ignore[union-attr]  # set while a verb runs


def prefer_own_launcher_configs() -> None:
    """Remove the configurations that plugins registered for launchers of which `conf` has its own.

    Hydra would merge the two, as it takes a registered configuration of the same name for the schema of a YAML.
    """
    Plugins.instance()  # imports all plugins, which register their configurations
    registered = ConfigStore.instance().repo["hydra"]["launcher"]
    for file in (config_folder() / "hydra" / "launcher").glob("*.yaml"):
        registered.pop(file.name, None)
