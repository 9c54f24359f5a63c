"""Help text of a verb, rendered from its YAML files and the source code of its settings."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from gpt2_lightning.app.config import recipes
from gpt2_lightning.app.config.moved import TARGET
from gpt2_lightning.app.config.schema import Setting, settings_of, settings_of_verb
from gpt2_lightning.settings import allowed

_WIDEST = 120
_SUPPLIED = {"run_dir", "run_name", "sweep", "texts", "all_texts", "several_documents"}
"""Parameters of targets that are supplied by the run rather than the user."""


def help_text(verb: str, folders: list[Path], arguments: Sequence[str] = ()) -> str:
    """Render purpose and examples, groups and their options, and all settings with type, range, default, description.

    Args:
        verb: the verb, which is also the name of its root configuration.
        folders: folders of YAML files; the first one has the root configuration.
        arguments: the command line, for settings of the options that it selects in place of the default ones.
    """
    root = yaml.safe_load((folders[0] / f"{verb}.yaml").read_text(encoding="utf-8"))
    width = min(_WIDEST, shutil.get_terminal_size((_WIDEST, 24)).columns)
    settings = settings_of_verb(verb)
    choices = _choices(root["defaults"])
    parts = [root["hydra"]["help"]["template"].rstrip()]
    if choices:
        parts += ["Groups, each with one of its options: GROUP=OPTION"]
        parts += [_group(verb, group, chosen, folders, width) for group, chosen in choices.items()]
    own = [_setting(name, one, root.get(name), width) for name, one in settings.items() if not one.is_group]
    parts += ["Settings: KEY=VALUE", "\n".join(own)]
    typed = {key: value for key, _, value in (one.partition("=") for one in arguments) if key in choices}
    for group, selected in (choices | typed).items():
        for chosen in (selected or "").strip("[]").split(","):
            if lines := list(_members(group, chosen.strip(), folders, width)):
                parts += [f"Settings of {group}={chosen}", "\n".join(lines)]
    parts += ["--cfg job shows what is stated, --info defaults-tree where it comes from, and config.yaml of a run all."]
    return "\n\n".join(parts)


def _choices(defaults: list[Any]) -> dict[str, str | None]:
    """Return the groups of a defaults list with their selected options."""
    pairs = [pair for entry in defaults if isinstance(entry, dict) for pair in entry.items()]
    return {key.removeprefix("optional "): value for key, value in pairs if not key.startswith("override ")}


def _group(verb: str, group: str, chosen: str | None, folders: list[Path], width: int) -> str:
    files = {file.stem: file for folder in folders for file in sorted((folder / group).glob("*.yaml"))}
    if group == recipes.GROUP:
        files = {name: file for name, file in files.items() if recipes.suits(file, verb)}
    longest = max(map(len, files), default=0)
    title = f"  {group}" + (f" ({chosen} by default)" if chosen else "")
    room = width - longest - 6
    lines = [
        f"    {name.ljust(longest)}  {textwrap.shorten(headline(file), room, placeholder=' …')}"
        for name, file in sorted(files.items())
    ]
    return "\n".join([title, *lines])


def headline(file: Path) -> str:
    """Return the first sentence of a YAML file's header, after the command."""
    comments = re.match(r"(?:#.*\n)*", file.read_text(encoding="utf-8"))
    assert comments is not None, "the pattern fits nothing as well"
    lines = [line.lstrip("# ") for line in comments[0].splitlines() if not line.startswith("# @package")]
    return re.split(r"(?<!et al)\. ", " ".join(lines[1:]))[0].rstrip(".:")


def _members(group: str, option: str, folders: list[Path], width: int) -> Iterator[str]:
    for folder in folders:
        if (file := folder / group / f"{option}.yaml").is_file():
            stated = yaml.safe_load(file.read_text(encoding="utf-8"))
            place = "trainer" if "# @package trainer" in file.read_text(encoding="utf-8") else group
            yield from _nested(place, stated, width)


def _nested(path: str, stated: dict[str, Any], width: int) -> Iterator[str]:
    if TARGET in stated:
        for name, setting in settings_of(stated[TARGET]).items():
            if name not in _SUPPLIED:
                yield _setting(f"{path}.{name}", setting, stated.get(name), width)
    for name, value in stated.items():
        if isinstance(value, dict):
            yield from _nested(f"{path}.{name}", value, width)


def _setting(name: str, setting: Setting, stated: Any, width: int) -> str:
    """Format a setting: a line with type, default and range, and the description below."""
    default = stated if stated is not None else setting.default
    is_missing = stated is None and setting.is_required
    value = "" if is_missing or default == "???" else f" = {_shown(default)}"
    kind = setting.kind if not setting.choices else " | ".join(setting.choices)
    in_range = f"  ({words})" if (words := allowed(setting.marks)) else ""
    head = f"  {name}: {kind}{value}{in_range}"
    text = setting.description.replace("`", "")
    return "\n".join([head, *textwrap.wrap(text, width - 6, initial_indent=" " * 6, subsequent_indent=" " * 6)])


def _shown(value: Any) -> str:
    """Format a value as typed on the command line."""
    shown = yaml.safe_dump(value, default_flow_style=True, width=1000, allow_unicode=True)
    return shown.removesuffix("\n").removesuffix("\n...").strip() or "''"
