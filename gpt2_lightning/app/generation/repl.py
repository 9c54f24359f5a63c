"""A prompt on the terminal that answers until it is told to end."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from gpt2_lightning.app.config.preflight import preflight
from gpt2_lightning.app.generation.display import Display, tell
from gpt2_lightning.app.generation.generator import Writer
from gpt2_lightning.app.generation.settings import Config
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Sampling

_HISTORY = "generate_history"
_HISTORY_LENGTH = 1000
_FIXED = {"log_probabilities"}
_OWN = ("num_samples", "stop", "ignore_end_of_text", "probabilities", "alternatives")
SETTINGS = [*(field.name for field in dataclasses.fields(Sampling) if field.name not in _FIXED), *_OWN]
"""What /set can change."""

_HELP = """\
Type the beginning of a text and press Enter. Each answer takes the next seed.
  /set                    show the settings
  /set temperature 0.7    change one
  /seed 7                 the seed of the next answer
  /help                   this text
  /quit                   end, as Ctrl-D does
Ctrl-C stops an answer. A text that begins with / is typed with // instead."""
_CHAT_HELP = """\
Type a question and press Enter. What was said before is read again with it.
  /reset                  forget what was said"""


def converse(writer: Writer) -> None:
    """Ask for prompts and answer them, until the input ends."""
    conversation = _Conversation(writer)
    what = "a question" if writer.chat else "the beginning of a text"
    tell(f"type {what}; /help for more, Ctrl-D to end, Ctrl-C to stop an answer")
    with _history(Path(writer.config.cache_dir).expanduser() / _HISTORY):
        while conversation.goes_on:
            try:
                line = input("> " if sys.stdin.isatty() else "")
            except EOFError:
                break
            except KeyboardInterrupt:  # drop what was typed, as a shell does
                print()
                continue
            conversation.hear(line)


class _Conversation:
    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.goes_on = True
        self._commands: dict[str, Callable[[str], None]] = {
            "set": self._set,
            "seed": lambda value: self._set(f"seed {value}"),
            "help": lambda _: tell(_help(self.writer)),
            "quit": self._quit,
        }
        if writer.chat is not None:
            self._commands["reset"] = self._reset

    def hear(self, line: str) -> None:
        """Answer a prompt or obey a command; a mistake is told and changes nothing."""
        try:
            if line.startswith("/") and not line.startswith("//"):
                name, _, rest = line[1:].strip().partition(" ")
                if name not in self._commands:
                    raise UserError(f"there is no command /{name}; /help lists them")
                self._commands[name](rest.strip())
            elif line.strip():
                self._answer(line.removeprefix("/") if line.startswith("//") else line)
        except UserError as error:
            tell(f"error: {error}")
        except KeyboardInterrupt:
            print()
            tell("stopped")

    def _answer(self, prompt: str) -> None:
        seed = self.writer.config.seed
        display = Display(self.writer)
        try:
            display.answer(prompt)
        finally:  # what was said before Ctrl-C stays said
            if self.writer.chat is not None:
                self.writer.chat.add(prompt, display.text)
        if self.writer.sampling.temperature != 0:
            self._change(seed=(seed + 1) % 2**63)

    def _set(self, wanted: str) -> None:
        name, _, value = wanted.replace("=", " ", 1).partition(" ")
        if not wanted:
            tell("\n".join(f"  {self._shown(known)}" for known in SETTINGS))
        elif name not in SETTINGS:
            raise UserError(f"{name} cannot be set here; these can: {', '.join(SETTINGS)}")
        elif not value.strip():
            tell(self._shown(name))
        else:
            self._change(**{name: _parsed(value)})
            tell(self._shown(name))

    def _shown(self, name: str) -> str:
        return f"{name} {json.dumps(getattr(self.writer.config, name), ensure_ascii=False)}"

    def _change(self, **changes: object) -> None:
        values, faults = preflight(OmegaConf.create({**dataclasses.asdict(self.writer.config), **changes}), Config)
        if faults:
            raise UserError("\n  ".join(faults))
        writer = self.writer
        self.writer = Writer(writer.model, writer.tokenizer, Config(**values), writer.slid, writer.chat)

    def _reset(self, _: str) -> None:
        assert self.writer.chat is not None
        self.writer.chat.reset()
        tell("forgotten")

    def _quit(self, _: str) -> None:
        self.goes_on = False


def _help(writer: Writer) -> str:
    return _HELP if writer.chat is None else "\n".join([_CHAT_HELP, *_HELP.splitlines()[1:]])


def _parsed(value: str) -> object:
    """A value as the command line would take it."""
    try:
        return OmegaConf.to_container(OmegaConf.create(f"value: {value}"), resolve=False)["value"]  # type: ignore[index, call-overload]
    except (YAMLError, OmegaConfBaseException):
        return value


@contextlib.contextmanager
def _history(file: Path) -> Iterator[None]:
    """Arrow keys that bring back earlier lines, also those of earlier times; kept where there is readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    with contextlib.suppress(OSError):
        readline.read_history_file(file)
    try:
        yield
    finally:
        readline.set_history_length(_HISTORY_LENGTH)
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(file)
