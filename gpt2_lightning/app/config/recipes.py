"""Recipes: options of the group `experiment`, each for one verb."""

from __future__ import annotations

import re
from pathlib import Path

GROUP = "experiment"
_COMMAND = re.compile(r"^# (python (?:-m gpt2_lightning )?(\w+)(?:\.py)? .*experiment=.*)$", re.MULTILINE)


def suits(file: Path, verb: str | None) -> bool:
    """Whether a recipe is for a verb: that of the command in its header; every verb without one."""
    command = _COMMAND.search(file.read_text(encoding="utf-8"))
    return command is None or verb is None or command[2] == verb


def fault(file: Path) -> str:
    """Describe the use of a recipe with another verb than its own."""
    command = _COMMAND.search(file.read_text(encoding="utf-8"))
    assert command is not None, "a recipe without a command suits every verb"
    return f"{GROUP}: '{file.stem}' is a recipe of {command[2]}: {command[1]}"
