"""Translation of the command line to Hydra's overrides, and detection of misspelled group options.

`optimizer.betas=[0.9,0.99]` is valid whether or not a YAML file contains `betas`, since the signature of the target is
the schema; Hydra requires the prefix `++` for keys that are not in the YAML. Prompts and paths may contain commas,
colons and quotes, which have a meaning in Hydra's grammar and are therefore quoted.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path

from gpt2_lightning.app.config import recipes
from gpt2_lightning.app.config.schema import Setting, settings_of, settings_of_verb
from gpt2_lightning.config_folder import config_folder
from gpt2_lightning.settings import FreeText, PathLike

_TARGETS = re.compile(r"^\s*_target_:\s*(\S+)", re.MULTILINE)
_MAY_BE_NULL = {"debug", "experiment"}
_MAY_BE_EMPTY = {"benchmarks"}


@dataclass(frozen=True)
class CommandLine:
    """Arguments for Hydra, and faults found in them."""

    arguments: list[str]
    faults: list[str]
    only_shows: bool
    """Whether the command only prints help or the configuration, without running a verb."""
    sweeps: bool
    """Whether multirun (`-m`) is set."""
    asks_for_help: bool
    """Whether `--help` is set."""
    folders: list[Path]
    """Folders of YAML files: that of this project, and that of `--config-dir`."""

    @classmethod
    def read(cls, arguments: list[str], folder: Path, verb: str | None = None) -> CommandLine:
        """Parse and rewrite arguments; flags are moved before overrides, since Hydra does not accept them mixed.

        Args:
            arguments: command-line arguments after the verb.
            folder: folder of the YAML files.
            verb: the verb; None if it is unknown.
        """
        from hydra._internal.utils import get_args_parser

        parsed = get_args_parser().parse_intermixed_args(arguments)
        folders = [folder, *([Path(parsed.config_dir)] if parsed.config_dir else [])]
        knows_all_options = not parsed.config_path and not any("hydra.searchpath" in o for o in parsed.overrides)
        flags, rewritten, faults = list(arguments), [], []
        for override in parsed.overrides:
            flags.remove(override)
            fault = _unknown_option(override, folders, verb) if knows_all_options else None
            translated = _rewrite(override, folders, parsed.multirun, verb)
            fault = fault or _syntax_fault(override, translated)
            if fault:
                faults.append(fault)
            else:
                rewritten.append(translated)
        return cls([*flags, *rewritten], faults, _only_shows(parsed), parsed.multirun, bool(parsed.help), folders)


def without_dashes(argument: str) -> str:
    """Return `--optimizer.lr=1e-3`, which agents of W&B sweeps write, as `optimizer.lr=1e-3`; other arguments as is."""
    from hydra._internal.utils import get_args_parser

    flag, equals, _ = argument.partition("=")
    is_setting = flag.startswith("--") and equals and flag not in get_args_parser()._option_string_actions
    return argument[2:] if is_setting else argument


def command(verb: str, *overrides: str) -> str:
    """Format a shell command that runs a verb: by its script if this program was started by a script, otherwise by the
    installed command."""
    scripts = ("train.py", "finetune.py", "generate.py")
    by_script = Path(sys.argv[0]).name in scripts and f"{verb}.py" in scripts
    return shlex.join([*(["python", f"{verb}.py"] if by_script else ["gpt2-lightning", verb]), *overrides])


def as_typed(override: str) -> str:
    """Return one of Hydra's overrides as typed by the user: the inverse of the rewriting."""
    key, equals, value = override.removeprefix("++").partition("=")
    quoted = value[:1] == "'" and value[-1:] == "'" and len(value) > 1
    return f"{key}{equals}{_unquote(value) if quoted and _text_setting(key, config_folder()) else value}"


def _only_shows(parsed: argparse.Namespace) -> bool:
    return bool(parsed.help or parsed.hydra_help or parsed.cfg or parsed.info)


def _rewrite(override: str, folders: list[Path], multirun: bool, verb: str | None) -> str:
    key, equals, value = override.partition("=")
    if not equals or not key[:1].isalpha() or key.split(".")[0].startswith("hydra") or _options(key, folders):
        return override
    setting = _text_setting(key, folders[0], verb)
    if setting is not None:
        if setting.has(PathLike):
            value = value[1:-1] if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"" else value
            value = os.path.expanduser(value)  # noqa: PTH111  # a Path would drop a trailing slash
        if not multirun and not (value == "null" and _takes_null(setting)):
            value = _quote(value)
    return f"++{key}={value}"


@functools.cache
def _text_setting(key: str, folder: Path, verb: str | None = None) -> Setting | None:
    """Return the setting of a key if its value is literal text or a path; otherwise None.

    Args:
        key: the key; a key inside a group is searched in all options of the group.
        folder: folder of the YAML files.
        verb: verb of the setting; None for any.
    """
    group, _, inside = key.partition(".")
    if inside:
        texts = [file.read_text(encoding="utf-8") for file in sorted((folder / group).glob("*.yaml"))]
        targets = dict.fromkeys(target for text in texts for target in _TARGETS.findall(text))
        found = (settings_of(target).get(key.rpartition(".")[2]) for target in targets)
    else:
        verbs = [verb] if verb else sorted(file.stem for file in folder.glob("*.yaml"))
        found = (settings_of_verb(one).get(key) for one in verbs)
    return next((one for one in found if one is not None and (one.has(PathLike) or one.has(FreeText))), None)


def _takes_null(setting: Setting) -> bool:
    """Whether `null` means None; in literal text it is a word unless the setting is nullable."""
    texts = [mark for mark in setting.marks if isinstance(mark, FreeText)]
    return all(mark.nullable for mark in texts) and (bool(texts) or setting.kind.endswith("| null"))


def _quote(value: str) -> str:
    """Quote a string for Hydra, where a backslash escapes only a quote, and for OmegaConf, which interpolates ${."""
    value = re.sub(r"(\\*)\$\{", r"\1\1\\${", value)
    value = re.sub(r"(\\*)'", r"\1\1\'", value)
    trailing = value[len(value.rstrip("\\")) :]
    return f"'{value}{trailing}'"


def _unquote(value: str) -> str:
    value = re.sub(r"\\+$", lambda run: run[0][: len(run[0]) // 2], value[1:-1])
    value = re.sub(r"\\+(?=')", lambda run: run[0][: len(run[0]) // 2], value)
    return re.sub(r"\\+(?=\$\{)", lambda run: run[0][: len(run[0]) // 2], value)


def _syntax_fault(override: str, translated: str) -> str | None:
    """Describe why an override is not in Hydra's grammar; None if it is.

    Args:
        override: the override as typed.
        translated: the override as passed to Hydra.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key, equals, value = override.partition("=")
    if not key or not (equals or key.startswith("~")):
        return f"'{override}' has no {'key' if equals else 'value'}; write KEY=VALUE"
    try:
        OverridesParser.create().parse_override(translated)
    except HydraException:
        pairs = ("()", "[]", "{}")
        unbalanced = [pair for pair in pairs if value.count(pair[0]) != value.count(pair[1])]
        unbalanced += [quote for quote in ("'", '"') if value.count(quote) % 2]
        reason = f"it has an unpaired {unbalanced[0]}" if unbalanced else "it is not in Hydra's grammar"
        quoted = shlex.quote(key + '="…"')
        return f"{key}: {value} cannot be read, {reason}; quote a text, as in {quoted}"
    return None


def _unknown_option(override: str, folders: list[Path], verb: str | None) -> str | None:
    key, equals, value = override.lstrip("+").partition("=")
    options = _options(key, folders)
    if key == recipes.GROUP:
        files = {file.stem: file for folder in folders for file in (folder / key).glob("*.yaml")}
        options = [name for name in options if recipes.suits(files[name], verb)]
        if value in files.keys() - set(options):
            return recipes.fault(files[value])
    if not equals or not options or "${" in value or "(" in value or (value == "[]" and key in _MAY_BE_EMPTY):
        return None
    for name in value.strip("[]").split(","):
        name = name.strip().strip("'\"").removesuffix(".yaml")
        if name not in options and not (name == "null" and key in _MAY_BE_NULL):
            near = [option for option in options if name and option.startswith(name)]
            near = near or difflib.get_close_matches(name, options, n=1)
            there_are = f"did you mean {near[0]}? There are" if near else "there are"
            return f"{key}: there is no option '{name}'; {there_are} {', '.join(options)}"
    return None


def _options(group: str, folders: list[Path]) -> list[str]:
    """Return the options of a group; empty if the key is not a group, or is one of Hydra's groups."""
    if group.startswith("hydra/") or not group.replace("/", "").isidentifier():
        return []
    return sorted({file.stem for folder in folders for file in (folder / group).glob("*.yaml")})
