"""Continued pre-training on raw text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gpt2_lightning.app.finetuning.adaptation import print_parameters
from gpt2_lightning.app.finetuning.context import FinetuneContext
from gpt2_lightning.app.finetuning.settings import FinetuneSettings
from gpt2_lightning.app.run.corpora import corpus_of, token_data, training_texts
from gpt2_lightning.app.run.job import Run, TrainingJob
from gpt2_lightning.app.run.summary import describe_start, summarize
from gpt2_lightning.training.language_modeling import LanguageModeling


@dataclass(frozen=True)
class Pretrain:
    """Next-token prediction on a text, with the tokenizer of the model."""

    def training_texts(self, settings: FinetuneSettings, cache_dir: Path) -> Iterator[str]:
        """See `Task`."""
        yield from training_texts(corpus_of(settings.data, cache_dir))

    def job(self, context: FinetuneContext) -> TrainingJob:
        """See `Task`."""
        corpus = corpus_of(context.settings.data, context.cache_dir)
        data = token_data(
            corpus,
            context.tokenizer,
            context.cache_dir,
            context.block_size,
            context.settings,
            context.micro_batch_size(),
        )
        description = context.describe({})

        def make_module() -> LanguageModeling:
            model = context.new_model()
            context.adapt(model)
            return LanguageModeling(model, *context.optimizer_and_schedule(), description)

        return TrainingJob(data, description, context.block_size, make_module, _on_start, summarize)


def _on_start(run: Run) -> None:
    print_parameters(run.task.model)
    describe_start(run)
