"""The verb `finetune`: a trained model, adapted to a task."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.app.config import build
from gpt2_lightning.app.config.preflight import Node
from gpt2_lightning.app.finetuning import Beginning
from gpt2_lightning.app.finetuning.adaptation import NoLoRA
from gpt2_lightning.app.output.logs import log_to_terminal
from gpt2_lightning.app.run.fit import carry_out
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.errors import UserError
from gpt2_lightning.model import GPT2Config
from gpt2_lightning.model.lora.freezing import Freeze
from gpt2_lightning.pretrained.load import open_source
from gpt2_lightning.training import distributed

log = logging.getLogger(__name__)

SCRATCH = "scratch"


@dataclass(frozen=True)
class Config(RunSettings):
    """The top level of `conf/finetune.yaml`.

    Raises:
        ValueError: with every setting that is out of range.
    """

    init_from: str
    """A run, a checkpoint, a folder of Hugging Face's or `hf:NAME@REVISION`; `scratch` for random weights."""
    base: str | None
    """Where the model lies that the LoRA adapter of `init_from` was trained on; null for where it was then."""
    freeze: Freeze
    """Which of the model's own parameters stay as they are."""
    freeze_blocks: int
    """The n of `first_n_blocks` and `last_n_blocks`."""
    dropout: float | None
    """Dropout probability everywhere in the model, in place of its own; null leaves that."""
    task: Node
    template: Node
    lora: Node

    def __post_init__(self) -> None:
        faults = []
        try:
            super().__post_init__()
        except ValueError as error:
            faults.append(str(error))
        if self.freeze_blocks < 0:
            faults.append(f"freeze_blocks: {self.freeze_blocks} is out of range, 0 or more is allowed")
        if self.dropout is not None and not 0 <= self.dropout < 1:
            faults.append(f"dropout: {self.dropout} is out of range, 0 up to (not including) 1 is allowed, or null")
        if self.freeze != "none" and not self.lora["_target_"].endswith(NoLoRA.__name__):
            faults.append(f"freeze: {self.freeze} and lora exclude each other, an adapter freezes the whole model")
        if faults:
            raise ValueError("\n".join(faults))


def run(plain: dict[str, Any]) -> float:
    """Fine-tune, and leave a run's folder behind.

    Args:
        plain: the resolved configuration, checked by preflight.

    Returns:
        The lowest validation loss.
    """
    log_to_terminal()
    config = Config(**plain)
    with distributed.rank_zero_first():
        plan = build.make(config.task).plan(_beginning(config, plain))
    return carry_out("finetune", config, plain, plan)


def _beginning(config: Config, plain: dict[str, Any]) -> Beginning:
    """What there is before the task."""
    lora = build.make(config.lora)
    common = (config, plain, lora, Path(config.cache_dir).expanduser())
    if config.init_from == SCRATCH:
        if not isinstance(lora, NoLoRA):
            raise UserError(
                "lora: an adapter needs a trained model to adapt; name one with init_from, or set lora=none"
            )
        tokenizer = build.make(config.tokenizer, texts=(), several_documents=True)
        architecture = build.model_config(config.model, tokenizer.vocab_size)
        return Beginning(*common, _with_dropout(architecture, config.dropout), tokenizer, None)
    runs_dir = Path(config.runs_dir).expanduser()
    found = open_source(config.init_from, runs_dir, base=config.base, key="init_from")
    for note in found.notes:
        log.info("%s: %s", found.place, note)
    if found.tokenizer is None:
        found.description()  # which raises, and says what to do
    assert found.tokenizer is not None
    log.info("from:   %s", found.place)
    return Beginning(*common, _with_dropout(found.model.config, config.dropout), found.tokenizer, found)


def _with_dropout(architecture: GPT2Config, dropout: float | None) -> GPT2Config:
    if dropout is None:
        return architecture
    return dataclasses.replace(architecture, embd_pdrop=dropout, attn_pdrop=dropout, resid_pdrop=dropout)
