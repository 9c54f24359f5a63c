"""Targets that have moved: YAML files of users and configurations of old runs name them by their old paths."""

from __future__ import annotations

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
    "training.csv_logger.CSVLogger": "training.loggers.csv_logger.CSVLogger",
}
"""Old and new paths inside the package. A class that moves again gets another line, and its old lines the new path."""


def current(name: str) -> str:
    """The present path of a target."""
    inside = name.removeprefix(_PACKAGE)
    return _PACKAGE + MOVED[inside] if name != inside and inside in MOVED else name


def with_current_targets(settings: Any) -> Any:
    """Plain settings with the present path of every target in them."""
    if isinstance(settings, dict):
        return {
            name: current(value) if name == TARGET and isinstance(value, str) else with_current_targets(value)
            for name, value in settings.items()
        }
    return [with_current_targets(item) for item in settings] if isinstance(settings, list) else settings
