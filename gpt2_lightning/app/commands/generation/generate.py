"""The verb `generate`: generate text with a trained model."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from typing import Any

from gpt2_lightning.api.load import load
from gpt2_lightning.api.text_generator import TextGenerator
from gpt2_lightning.app.generation.batch import answer_file
from gpt2_lightning.app.generation.display import Display, print_note
from gpt2_lightning.app.generation.repl import run_repl
from gpt2_lightning.app.generation.settings import Config
from gpt2_lightning.errors import UserError
from gpt2_lightning.model.inference.compiled import compiled
from gpt2_lightning.model.inference.packed import packed
from gpt2_lightning.training.performance.compilation import compile_fault

__all__ = ["Config", "run"]

_INTERRUPTED = 130


def run(plain: dict[str, Any]) -> None:
    """Generate texts for a prompt, a file of prompts, or prompts entered on the terminal.

    Args:
        plain: the resolved configuration, checked by preflight.
    """
    config = Config(**plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal may not be able to encode every character
    with contextlib.ExitStack() as prepared:
        if config.prompts is not None:
            answer_file(config, lambda: _load(config, prepared))
        else:
            prompt = _prompt(config)
            _answer(_load(config, prepared)[0], config, prompt)


def _answer(generator: TextGenerator, config: Config, prompt: str) -> None:
    try:
        if config.interactive:
            run_repl(generator, config)
        else:
            Display(generator, config).answer(prompt)
    except BrokenPipeError:  # the reader of the pipe has closed it, as in … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print()
        sys.exit(_INTERRUPTED)


def _load(config: Config, prepared: contextlib.ExitStack) -> tuple[TextGenerator, str]:
    """Load the generator and return it with the location of its model; it is packed or compiled within `prepared`."""
    if fault := compile_fault(config.compile):
        raise UserError(fault)
    model = load(
        config.checkpoint,
        device=config.device,
        dtype=config.dtype,
        quantize=config.quantize,
        runs_dir=config.runs_dir,
        base=config.base,
    )
    for note in model.notes:
        print_note(f"{model.location}: {note}")
    print_note(f"from {model.location}")
    generator = model.text_generator(config.generation(), print_note)
    if config.compile:
        prepared.enter_context(compiled(model.network))
    elif config.prompts is not None or config.interactive:  # a single text packs the weights if it is long
        rows = (1 if config.interactive else config.batch_size) * generator.settings.num_samples
        for network in generator.networks:
            prepared.enter_context(packed(network, rows))
    return generator, model.location


def _prompt(config: Config) -> str:
    """Return the prompt of the settings or of standard input; "" if there is none."""
    asks = config.prompt == "-"
    if config.interactive or not (asks or config.prompt is None):
        return config.prompt or ""
    if not (asks or _is_piped()):
        return ""
    print_note("the prompt is read from standard input, up to its end")
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"prompt: standard input is no text in UTF-8, at byte {error.start}") from None
    return text.removesuffix("\n")  # added by `echo`


def _is_piped() -> bool:
    """Whether standard input is a pipe or a file, rather than a terminal or closed, as under cron."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # no standard input
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)
