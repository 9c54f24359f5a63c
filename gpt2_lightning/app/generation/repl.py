"""The interactive prompt (read-eval-print loop) of the verb `generate`."""

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

from gpt2_lightning.api.settings import GenerationSettings
from gpt2_lightning.api.text_generator import TextGenerator
from gpt2_lightning.app.config.preflight import preflight
from gpt2_lightning.app.generation.display import Display, print_note
from gpt2_lightning.app.generation.settings import Config
from gpt2_lightning.errors import UserError

_HISTORY = "generate_history"
_HISTORY_LENGTH = 1000
_FIXED = ("log_probabilities", "raw", "system", "speculate")
_OF_GENERATION = [field.name for field in dataclasses.fields(GenerationSettings) if field.name not in _FIXED]
SETTINGS = [*_OF_GENERATION, "probabilities", "alternatives"]
"""Settings that /set can change."""

_HELP = """\
Type the beginning of a text and press Enter. Each answer takes the next seed.
  /set                    show the settings
  /set temperature 0.7    change one
  /seed 7                 the seed of the next answer
  /help                   this text
  /quit                   end, as Ctrl-D does
Ctrl-C stops an answer. A text that begins with / is typed with // instead."""
_CHAT_HELP = """\
Type a question and press Enter. The model reads it after the conversation so far.
  /reset                  clear the conversation"""


def run_repl(generator: TextGenerator, config: Config) -> None:
    """Read prompts and print answers until the end of input."""
    repl = _Repl(generator, config)
    what = "a question" if generator.chat else "the beginning of a text"
    print_note(f"type {what}; /help for more, Ctrl-D to end, Ctrl-C to stop an answer")
    with _history(Path(config.cache_dir).expanduser() / _HISTORY):
        while not repl.quitting:
            try:
                line = input("> " if sys.stdin.isatty() else "")
            except EOFError:
                break
            except KeyboardInterrupt:  # drop what was typed, as a shell does
                print()
                continue
            repl.handle(line)


class _Repl:
    def __init__(self, generator: TextGenerator, config: Config) -> None:
        self.generator, self.config = generator, config
        self.quitting = False
        self._commands: dict[str, Callable[[str], None]] = {
            "set": self._set,
            "seed": lambda value: self._set(f"seed {value}"),
            "help": lambda _: print_note(_help(self.generator)),
            "quit": self._quit,
        }
        if generator.chat is not None:
            self._commands["reset"] = self._reset

    def handle(self, line: str) -> None:
        """Answer a prompt or run a command; a mistake is reported and changes nothing."""
        try:
            if line.startswith("/") and not line.startswith("//"):
                name, _, rest = line[1:].strip().partition(" ")
                if name not in self._commands:
                    raise UserError(f"there is no command /{name}; /help lists them")
                self._commands[name](rest.strip())
            elif line.strip():
                self._answer(line.removeprefix("/") if line.startswith("//") else line)
        except UserError as error:
            print_note(f"error: {error}")
        except KeyboardInterrupt:
            print()
            print_note("stopped")

    def _answer(self, prompt: str) -> None:
        seed = self.config.seed
        display = Display(self.generator, self.config)
        try:
            display.answer(prompt)
        finally:  # also of an answer that Ctrl-C ended
            if self.generator.chat is not None:
                self.generator.chat.add(prompt, display.text)
        if self.config.temperature != 0:
            self._change(seed=(seed + 1) % 2**63)

    def _set(self, wanted: str) -> None:
        name, _, value = wanted.replace("=", " ", 1).partition(" ")
        if not wanted:
            print_note("\n".join(f"  {self._shown(known)}" for known in SETTINGS))
        elif name not in SETTINGS:
            raise UserError(f"{name} cannot be set here; these can: {', '.join(SETTINGS)}")
        elif not value.strip():
            print_note(self._shown(name))
        else:
            self._change(**{name: _parsed(value)})
            print_note(self._shown(name))

    def _shown(self, name: str) -> str:
        return f"{name} {json.dumps(getattr(self.config, name), ensure_ascii=False)}"

    def _change(self, **changes: object) -> None:
        values, faults = preflight(OmegaConf.create({**dataclasses.asdict(self.config), **changes}), Config)
        if faults:
            raise UserError("\n  ".join(faults))
        config = Config(**values)
        self.generator = self.generator.with_settings(config.generation())
        self.config = config

    def _reset(self, _: str) -> None:
        assert self.generator.chat is not None
        self.generator.chat.reset()
        print_note("the conversation is cleared")

    def _quit(self, _: str) -> None:
        self.quitting = True


def _help(generator: TextGenerator) -> str:
    return _HELP if generator.chat is None else "\n".join([_CHAT_HELP, *_HELP.splitlines()[1:]])


def _parsed(value: str) -> object:
    """Parse a value as the command line does."""
    try:
        return OmegaConf.to_container(OmegaConf.create(f"value: {value}"), resolve=False)["value"]  # type: ignore[index, call-overload]
    except (YAMLError, OmegaConfBaseException):
        return value


@contextlib.contextmanager
def _history(file: Path) -> Iterator[None]:
    """Load and save the history of typed lines, on systems with readline."""
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
