"""Defaults of targets, stated in the configuration of a run, so that a version with other defaults replays it."""

from __future__ import annotations

from typing import Any

from gpt2_lightning.app.config.moved import TARGET
from gpt2_lightning.app.config.preflight import FROM_BUILD
from gpt2_lightning.app.config.schema import settings_of

_FROM_TOKENIZER = "model.vocab_size"


def with_defaults(plain: dict[str, Any], path: str = "") -> dict[str, Any]:
    """Return a resolved configuration with the defaults of all settings of its targets in this package.

    Args:
        plain: the resolved configuration.
        path: key of the group of settings followed by a period; "" for the whole.
    """
    stated = {
        name: with_defaults(value, f"{path}{name}.") if isinstance(value, dict) else value
        for name, value in plain.items()
    }
    known = settings_of(plain[TARGET]) if isinstance(plain.get(TARGET), str) else {}
    return stated | {
        name: setting.default
        for name, setting in known.items()
        if name not in {*stated, *FROM_BUILD} and not setting.is_required and f"{path}{name}" != _FROM_TOKENIZER
    }
