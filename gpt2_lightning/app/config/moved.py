"""Renamed targets, for users' YAML files and configurations of earlier runs, which contain their old paths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

TARGET = "_target_"
_PACKAGE = "gpt2_lightning."
MOVED = {
    "app.adaptation.NoLoRA": "app.finetuning.adaptation.NoLoRA",
    "data.hub.HubCorpus": "data.corpora.hub.HubCorpus",
    "data.mix.Mix": "data.corpora.mix.Mix",
    "data.tables.LabelledTexts": "data.tables.LabeledTexts",
    "data.tables.labelled_texts.LabelledTexts": "data.tables.LabeledTexts",
    "data.templates.Template": "data.instruction.templates.Template",
    "data.text.TextCorpus": "data.corpora.text.TextCorpus",
    "data.token_files.TokenFiles": "data.corpora.token_files.TokenFiles",
    "data.web.GutenbergBooks": "data.corpora.web.GutenbergBooks",
    "data.web.WebText": "data.corpora.web.WebText",
    "model.lora.LoRASpec": "model.lora.layers.LoRASpec",
    "training.callbacks.pruning.Pruning": "training.callbacks.Pruning",
    "training.csv_logger.CSVLogger": "training.loggers.csv_logger.CSVLogger",
}
"""Current paths by old paths, relative to the package. When a class moves again, update its entries and add another."""


_ORIGINAL: dict[str, str] = {}
for _old, _new in MOVED.items():
    _ORIGINAL.setdefault(_new, _old)


def current(name: str) -> str:
    """Return the current path of a target."""
    inside = name.removeprefix(_PACKAGE)
    return _PACKAGE + MOVED[inside] if name != inside and inside in MOVED else name


def original(name: str) -> str:
    """Return the first path of a target, for digests written by earlier versions."""
    inside = name.removeprefix(_PACKAGE)
    return _PACKAGE + _ORIGINAL[inside] if name != inside and inside in _ORIGINAL else name


def with_current_targets(settings: Any) -> Any:
    """Return settings with all targets replaced by their current paths."""
    return with_targets(settings, current)


def with_targets(settings: Any, path: Callable[[str], str]) -> Any:
    """Return settings with a function applied to the path of each target.

    Args:
        settings: plain containers.
        path: maps an old path to a new one.
    """
    if isinstance(settings, dict):
        return {
            name: path(value) if name == TARGET and isinstance(value, str) else with_targets(value, path)
            for name, value in settings.items()
        }
    return [with_targets(item, path) for item in settings] if isinstance(settings, list) else settings
