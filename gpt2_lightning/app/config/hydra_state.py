"""Hydra's own part of the present configuration."""

from __future__ import annotations

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf


def portable_hydra_config() -> DictConfig:
    """Return Hydra's part of the configuration for another process, without classes defined by plugins."""
    return OmegaConf.create({"hydra": OmegaConf.to_container(HydraConfig.instance().cfg.hydra)})  # type: ignore[union-attr]  # set while a verb runs
