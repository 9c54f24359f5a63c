"""The verb `generate`: text from a checkpoint."""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
from pathlib import Path
from typing import Any

import torch

from gpt2_lightning.app.generation.batch import answer_file
from gpt2_lightning.app.generation.chat import Chat
from gpt2_lightning.app.generation.display import Display, tell
from gpt2_lightning.app.generation.generator import Writer
from gpt2_lightning.app.generation.repl import converse
from gpt2_lightning.app.generation.settings import Config
from gpt2_lightning.data.instruction.templates import KIND as INSTRUCT
from gpt2_lightning.data.instruction.templates import template_of
from gpt2_lightning.errors import UserError
from gpt2_lightning.model.inference.compiled import compiled
from gpt2_lightning.model.inference.packed import packed
from gpt2_lightning.pretrained.devices import device_of
from gpt2_lightning.pretrained.load import load_any
from gpt2_lightning.training.performance.compilation import compile_fault

__all__ = ["Config", "run"]

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_INTERRUPTED = 130


def run(plain: dict[str, Any]) -> None:
    """Answer a prompt, a file of prompts, or a user."""
    config = Config(**plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal need not have every character
    with contextlib.ExitStack() as prepared:
        if config.prompts is not None:
            answer_file(config, lambda: _load(config, prepared))
        else:
            prompt = _prompt(config)
            _answer(_load(config, prepared)[0], prompt)


def _answer(writer: Writer, prompt: str) -> None:
    try:
        if writer.config.interactive:
            converse(writer)
        else:
            Display(writer).answer(prompt)
    except BrokenPipeError:  # the reader has seen enough, as in … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        print()
        sys.exit(_INTERRUPTED)


def _load(config: Config, prepared: contextlib.ExitStack) -> tuple[Writer, str]:
    """Who answers, and where its model came from; what makes it fast is there until `prepared` is left."""
    if fault := compile_fault(config.compile):
        raise UserError(fault)
    model, description, place = load_any(
        config.checkpoint, Path(config.runs_dir).expanduser(), device_of(config.device), config.base
    )
    tell(f"from {place}")
    tokenizer, chat = description.tokenizer, None
    if description.task.get("kind") == INSTRUCT and not config.raw:
        chat = Chat(template_of(description.task), tokenizer, model.config.block_size, tell, config.system)
    elif config.system is not None:
        raise UserError("system: it is for a model trained on instructions, without raw=true; leave it out")
    model.to(_DTYPES.get(config.dtype))
    if config.compile:
        prepared.enter_context(compiled(model))
    elif config.prompts is not None or config.interactive:  # a single text is packed for where it is long
        prepared.enter_context(packed(model))
    return Writer(model, tokenizer, config, chat=chat), place


def _prompt(config: Config) -> str:
    """What is given, or comes from standard input; empty where nothing does."""
    asks = config.prompt == "-"
    if config.interactive or not (asks or config.prompt is None):
        return config.prompt or ""
    if not (asks or _is_piped()):
        return ""
    tell("the prompt is read from standard input, up to its end")
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise UserError(f"prompt: standard input is no text in UTF-8, at byte {error.start}") from None
    return text.removesuffix("\n")  # the one of `echo`


def _is_piped() -> bool:
    """Whether standard input is a pipe or a file: not a terminal, nor nothing, as under cron."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # there is none
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)
