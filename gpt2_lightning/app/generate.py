"""The verb `generate`: text from a checkpoint."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from gpt2_lightning.app.sources import load_any
from gpt2_lightning.errors import UserError
from gpt2_lightning.generation import Sampling, generate
from gpt2_lightning.generation.start import prompt_ids
from gpt2_lightning.generation.stream import TextStream


@dataclass(frozen=True)
class Config:
    """The top level of `conf/generate.yaml`.

    Raises:
        ValueError: with every setting that is out of range.
    """

    runs_dir: str
    """Folder of all runs, for `checkpoint=latest`."""
    checkpoint: str
    """`latest`, a run's folder, a checkpoint file, a folder of Hugging Face's, or `hf:NAME@REVISION`."""
    prompt: str
    """What the text starts from; empty for a new line."""
    max_new_tokens: int
    """Tokens to add, at most."""
    temperature: float
    """Divides the logits; 0 always takes the likeliest token."""
    top_k: int | None
    """Choose among this many of the likeliest tokens; null for all."""
    seed: int
    """The same seed gives the same text."""
    device: Literal["auto", "cpu", "cuda", "mps"]
    """Where to compute; `auto` takes the fastest there is."""

    def __post_init__(self) -> None:
        self.sampling()

    def sampling(self) -> Sampling:
        """The settings of the sampler."""
        return Sampling(self.max_new_tokens, self.temperature, self.top_k, self.seed)


def run(plain: dict[str, Any]) -> None:
    """Print the text as it is written."""
    config = Config(**plain)
    runs_dir = Path(config.runs_dir).expanduser()
    model, description, path = load_any(config.checkpoint, runs_dir, _device(config.device))
    prompt = prompt_ids(config.prompt, description.tokenizer)
    if len(prompt) > model.config.block_size:
        print(
            f"the prompt has {len(prompt)} tokens and the context {model.config.block_size}: "
            f"the last {model.config.block_size} are read",
            file=sys.stderr,
        )
    print(f"from {path}", file=sys.stderr)
    device = model.wte.weight.device
    tokens = generate(model, prompt.to(device), config.sampling(), description.tokenizer.end_of_text)
    try:
        _write(config.prompt, tokens, TextStream(description.tokenizer))
    except BrokenPipeError:  # the reader has seen enough, as in … | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write(prompt: str, tokens: Iterable[int], stream: TextStream) -> None:
    sys.stdout.write(prompt)
    for token in tokens:
        sys.stdout.write(stream.add(token))
        sys.stdout.flush()
    sys.stdout.write(stream.rest() + "\n")
    sys.stdout.flush()


def _device(wanted: str) -> torch.device:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if wanted == "auto":
        return torch.device(next(name for name, available in there.items() if available))
    if not there[wanted]:
        raise UserError(f"device={wanted}: this machine has none, or this torch was built without it; use device=auto")
    return torch.device(wanted)
