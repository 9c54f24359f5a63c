"""Access to Hydra's global state: the `hydra` node of the configuration, and registered plugin configurations."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from gpt2_lightning.config_folder import config_folder


def portable_hydra_config() -> DictConfig:
    """Return the `hydra` node of the configuration for another process, without classes defined by plugins."""
    return OmegaConf.create({"hydra": OmegaConf.to_container(HydraConfig.instance().cfg.hydra)})  # type: ignore[union-attr]  # set while a verb runs


def prefer_own_launcher_configs() -> None:
    """Remove configurations registered by plugins for launchers that also have a YAML file in `conf`.

    Hydra would merge the two, since it uses a registered configuration as the schema of a YAML file of the same name.
    """
    Plugins.instance()  # imports all plugins, which register their configurations
    registered = ConfigStore.instance().repo["hydra"]["launcher"]
    for file in (config_folder() / "hydra" / "launcher").glob("*.yaml"):
        registered.pop(file.name, None)
