"""The verb `train`: pre-training of a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gpt2_lightning.app.config import build
from gpt2_lightning.app.config.defaults import with_defaults
from gpt2_lightning.app.output.logs import log_to_terminal
from gpt2_lightning.app.run.corpora import corpus_of, token_data, tokenizer_for
from gpt2_lightning.app.run.fit import fit
from gpt2_lightning.app.run.job import TrainingJob
from gpt2_lightning.app.run.resume import with_saved_padding
from gpt2_lightning.app.run.settings import RunSettings
from gpt2_lightning.app.run.summary import describe_start, summarize
from gpt2_lightning.checkpoints.content import Description
from gpt2_lightning.model import GPT2
from gpt2_lightning.training import distributed
from gpt2_lightning.training.language_modeling import LanguageModeling


@dataclass(frozen=True, kw_only=True)
class Config(RunSettings):
    """The top level of `conf/train.yaml`; see `RunSettings`."""


def run(plain: dict[str, Any]) -> float:
    """Train a model, and write the run's folder.

    Args:
        plain: the resolved configuration, checked by preflight.

    Returns:
        The best value of the monitored metric, the lowest validation loss by default; NaN if there is none.
    """
    log_to_terminal()
    plain = with_saved_padding(plain)
    config = Config(**plain)
    plain = with_defaults(plain)
    cache_dir = Path(config.cache_dir).expanduser()
    with distributed.rank_zero_first():
        corpus = corpus_of(config.data, cache_dir)
        tokenizer = tokenizer_for(config.tokenizer, corpus, cache_dir)
        architecture = build.model_config(config.model, tokenizer.vocab_size)
        micro_batch_size = config.micro_batch(architecture)
        data = token_data(corpus, tokenizer, cache_dir, architecture.block_size, config, micro_batch_size)
    description = Description(architecture, tokenizer, plain)

    def make_module() -> LanguageModeling:
        optimizer, schedule = build.make(config.optimizer), build.make(config.schedule)
        return LanguageModeling(GPT2(architecture), optimizer, schedule, description)

    job = TrainingJob(data, description, architecture.block_size, make_module, describe_start, summarize)
    return fit("train", config, plain, job)
