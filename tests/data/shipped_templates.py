"""The templates in `conf/template`, by name."""

from __future__ import annotations

from pathlib import Path

import yaml

from gpt2_lightning.data.instruction.templates import Template

FOLDER = Path(__file__).parent.parent.parent / "conf" / "template"
NAMES = sorted(file.stem for file in FOLDER.glob("*.yaml"))


def shipped(name: str) -> Template:
    """The template that a YAML describes."""
    fields = yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    assert fields.pop("_target_") == "gpt2_lightning.data.instruction.templates.Template"
    return Template(**fields)
