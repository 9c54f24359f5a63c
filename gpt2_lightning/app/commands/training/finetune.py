"""The verb `finetune`: adapt a trained model to a task."""

from __future__ import annotations

import dataclasses
import logging
from pathlib import Path
from typing import Any

from gpt2_lightning.app.config import build
from gpt2_lightning.app.config.defaults import with_defaults
from gpt2_lightning.app.finetuning.adaptation import NoLoRA
from gpt2_lightning.app.finetuning.context import FinetuneContext, Task
from gpt2_lightning.app.finetuning.settings import SCRATCH, FinetuneSettings
from gpt2_lightning.app.output.logs import log_to_terminal
from gpt2_lightning.app.run.fit import fit
from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.pretrained.load import LoadOptions, load_pretrained
from gpt2_lightning.training import distributed

log = logging.getLogger(__name__)

Config = FinetuneSettings


def run(plain: dict[str, Any]) -> float:
    """Fine-tune a model, and write the run's folder.

    Args:
        plain: the resolved configuration, checked by preflight.

    Returns:
        The best value of the monitored metric, the lowest validation loss by default; NaN if there is none.
    """
    log_to_terminal()
    config = FinetuneSettings(**plain)
    plain = with_defaults(plain)
    with distributed.rank_zero_first():
        task: Task = build.make(config.task)
        job = task.job(_context(config, plain, task))
    return fit("finetune", config, plain, job)


def _context(config: FinetuneSettings, plain: dict[str, Any], task: Task) -> FinetuneContext:
    """Load the pretrained model, or configure one with random weights."""
    lora = build.make(config.lora)
    common = (config, plain, lora, Path(config.cache_dir).expanduser())
    if config.init_from == SCRATCH:
        if not isinstance(lora, NoLoRA):
            raise UserError(
                "lora: an adapter needs a trained model to adapt; name one with init_from, or set lora=none"
            )
        texts = task.training_texts(config, Path(config.cache_dir).expanduser())
        tokenizer = build.make(config.tokenizer, texts=texts, all_texts=texts, several_documents=True)
        model_config = build.model_config(config.model, tokenizer.vocab_size)
        return FinetuneContext(*common, _with_dropout(model_config, config.dropout), tokenizer, None)
    runs_dir = Path(config.runs_dir).expanduser()
    found = load_pretrained(config.init_from, LoadOptions(runs_dir, config.base, key="init_from"))
    for note in found.notes:
        log.info("%s: %s", found.location, note)
    if found.tokenizer is None:
        found.description()  # raises with advice
    assert found.tokenizer is not None
    log.info("from:   %s", found.location)
    tokenizer = build.make(config.tokenizer, tokenizer=found.tokenizer)
    return FinetuneContext(*common, _with_dropout(found.model.config, config.dropout), tokenizer, found)


def _with_dropout(model_config: GPT2Config, dropout: float | None) -> GPT2Config:
    if dropout is None:
        return model_config
    return dataclasses.replace(model_config, embd_pdrop=dropout, attn_pdrop=dropout, resid_pdrop=dropout)
