"""Every recipe composes and passes preflight, and the small ones run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gpt2_lightning.app import finetune, train
from gpt2_lightning.app.preflight import preflight
from tests.app.conftest import newest_run
from tests.app.test_conf import CONF, composed, named

Run = Callable[..., Any]
FILES = sorted((CONF / "experiment").glob("*.yaml"))
VERBS = {"train": train, "finetune": finetune}


def verb_of(recipe: Path) -> str:
    """The verb of the command that the recipe opens with."""
    return re.search(rf"^# python (\w+)\.py experiment={recipe.stem}\b", recipe.read_text(), re.MULTILINE)[1]


@pytest.mark.parametrize("recipe", FILES, ids=lambda file: file.stem)
def test_every_recipe_passes_preflight_under_its_verb(recipe: Path) -> None:
    verb = verb_of(recipe)
    config = composed(verb, f"experiment={recipe.stem}")
    assert preflight(named(config), VERBS[verb].Config)[1] == []
