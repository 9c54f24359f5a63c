"""The folder of the YAML files, and the resolvers that they use."""

from __future__ import annotations

import functools
from pathlib import Path

_PACKAGE = Path(__file__).parents[2]


@functools.cache
def config_folder() -> Path:
    """Return the folder `conf`: inside the package in a wheel, beside it in a checkout."""
    inside = _PACKAGE / "conf"
    return inside if inside.is_dir() else _PACKAGE.parent / "conf"


def register_resolvers() -> None:
    """Register `${divide:a,b}` with OmegaConf."""
    from omegaconf import OmegaConf

    OmegaConf.register_new_resolver("divide", lambda dividend, divisor: dividend / divisor, replace=True)
